//! The answer to a request, from its head to its last byte; the request is in flight as long as this is alive.

use crate::{
    activity::InFlight,
    connection::Shared,
    context::Scoped,
    reply::{Reply, ReplyOr},
    stall::{self, Pieces},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{
    event::{Flag, Flags},
    time::Time,
};
use mesh_runtime::{Clock, Context};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};
use tokio::time::Sleep;

/// What the handler answered and by when it must be whole, or what the mesh answers in its place.
pub(crate) type Answered<B> = Result<(Response<Scoped<B>>, Overdue), Reply>;

/// What the answer needs when it begins and what ends with its last byte.
pub(crate) struct Ending {
    pub(crate) in_flight: InFlight,
    pub(crate) shared: Arc<Shared>,
    pub(crate) http1: bool,
    pub(crate) grpc: bool,
}

impl Ending {
    pub(crate) fn begin<B>(mut self, answer: Answered<B>) -> Response<AnswerBody<B>> {
        let (mut response, overdue, flags) = match answer {
            Ok((response, overdue)) => (response.map(ReplyOr::handler), overdue, Flags::NONE),
            Err(reply) => {
                let flags = reply.flags();
                (reply.into_response(self.grpc), Overdue::default(), flags)
            }
        };
        self.in_flight.on_answer(response.status(), flags);
        // The polite way out of HTTP/1.1 while the server is about to leave; HTTP/2 has GOAWAY.
        if self.http1 && self.shared.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let http2 = !self.http1;
        let has_status = self.grpc && http2;
        let in_flight = self.in_flight;
        response.map(|body| AnswerBody { body: Pieces::new(body, http2), overdue, has_status, in_flight })
    }
}

/// Ends what outlasts the deadline of its request.
///
/// The caller gives up at that moment too, and the deadline counted here is later by the time the request travelled: a
/// handler is never cut off while somebody waits for it, and none works on for nobody where the caller's reset is lost.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    deadline: Option<(Time, Clock)>,
    /// Made at the first wait, so that a handler that answers at once costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Overdue {
    pub(crate) fn new(context: &Context, clock: Clock) -> Self {
        Self { deadline: context.deadline().map(|deadline| (deadline, clock)), timer: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some((deadline, clock)) = self.deadline else { return Poll::Pending };
        let sleep = || Box::pin(tokio::time::sleep_until(clock.instant(deadline)));
        self.timer.get_or_insert_with(sleep).as_mut().poll(cx)
    }
}

pin_project! {
    /// The body of an answer. The request is in flight until it has ended or is dropped.
    pub(crate) struct AnswerBody<B> {
        #[pin]
        body: Pieces<ReplyOr<Scoped<B>>>,
        overdue: Overdue,
        // Whether it is gRPC's, which can still say at its end what became of it.
        has_status: bool,
        in_flight: InFlight,
    }
}

/// Why a body broke off. hyper resets the stream, or closes the connection, so the caller sees that it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the caller's deadline passed before the answer was whole")]
    DeadlinePassed,
    #[error(transparent)]
    Handler(Box<dyn std::error::Error + Send + Sync>),
}

/// Ends what is overdue: by a status where it can have one, so that its caller need not tell a deadline from a fault by
/// which of two timers was first.
// spec: grpc doc/statuscodes.md, DEADLINE_EXCEEDED
fn deadline_passed(has_status: bool) -> Result<Frame<Bytes>, AnswerError> {
    if !has_status {
        return Err(AnswerError::DeadlinePassed);
    }
    let mut status = HeaderMap::with_capacity(2);
    Reply::DeadlinePassed.write_grpc_status(&mut status);
    Ok(Frame::trailers(status))
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = self.project();
        let mut body = this.body;
        let frame = match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => {
                frame.map(|frame| frame.map_err(|error| AnswerError::Handler(error.into())))
            }
            Poll::Pending => {
                let overdue = this.overdue.poll(cx);
                stall::note(&overdue);
                ready!(overdue);
                this.in_flight.on_end(Some(Flag::UT));
                return Poll::Ready(Some(deadline_passed(*this.has_status)));
            }
        };
        stall::note(&Poll::Ready(()));
        match &frame {
            // hyper does not ask again once the announced length is out, or the trailers are.
            Some(Ok(frame))
                if frame.is_data() && !body.is_end_stream() && body.size_hint().exact() != Some(0) =>
            {
                this.in_flight.on_piece();
            }
            None | Some(Ok(_)) => this.in_flight.on_end(None),
            Some(Err(_)) => this.in_flight.on_end(Some(Flag::LR)),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
