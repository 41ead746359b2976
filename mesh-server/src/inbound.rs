//! One connection's requests: the steps, the handler, and the answer until its last byte.
//!
//! hyper calls this; a request whose caller goes away is dropped by hyper, and everything here with it.

use crate::{
    activity::{Activity, InFlight},
    authorize::Authorize,
    body::RequestBody,
    connection::Shared,
    context::{ReadContext, Scoped},
    handler::{Call, Handler},
    hygiene::StripSpoofable,
    normalise::Normalise,
    peer::{Identify, Peer},
    reply::{Reply, ReplyOr, is_grpc},
    stall,
    step::Step,
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{identity::Admitted, time::Time};
use mesh_runtime::{Clock, Context};
use pin_project_lite::pin_project;
use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};
use tokio::time::Sleep;

/// The steps before the handler, in their order. The deadline is read before its header may be stripped, and policy
/// judges what is left: the handler's very bytes.
type Steps = (Identify, HeadersMax, Normalise, ReadContext, StripSpoofable, Authorize);

/// A handler behind the steps, for the requests of one admitted connection.
pub(crate) struct Inbound<H> {
    handler: H,
    steps: Steps,
    shared: Arc<Shared>,
    activity: Arc<Activity>,
}

impl<H> Inbound<H> {
    /// Takes the proof that the peer may be served: without it no request is ever read.
    pub(crate) fn new(
        handler: H,
        admitted: &Admitted,
        address: SocketAddr,
        shared: Arc<Shared>,
        activity: Arc<Activity>,
    ) -> Self {
        let peer = admitted.peer().map(|id| Peer::new(id.clone(), address));
        let config = Arc::clone(shared.workload.config());
        let steps = (
            Identify(peer),
            HeadersMax(shared.limits.headers_max),
            shared.normalise,
            ReadContext::new(shared.workload.clock()),
            StripSpoofable,
            Authorize::new(config, Some(address), shared.port),
        );
        Self { handler, steps, shared, activity }
    }
}

/// Policy forbids the peer since this connection was admitted: no HTTP for it, not even a refusal.
#[derive(Debug, thiserror::Error)]
#[error("policy forbids the peer since its connection was admitted")]
pub(crate) struct Forbidden;

impl<H: Handler> hyper::service::Service<Request<hyper::body::Incoming>> for Inbound<H> {
    type Response = Response<AnswerBody<H::Body>>;
    type Error = Forbidden;
    type Future = Answer<H>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Answer<H> {
        if self.activity.is_forbidden() {
            return Answer { kind: Kind::Forbidden, ending: None };
        }
        let ending = Ending {
            in_flight: self.activity.on_request(),
            shared: Arc::clone(&self.shared),
            http1: request.version() < Version::HTTP_2,
            grpc: is_grpc(request.headers()),
        };
        Answer { kind: self.kind(request, ending.grpc), ending: Some(ending) }
    }
}

impl<H: Handler> Inbound<H> {
    fn kind(&self, request: Request<hyper::body::Incoming>, grpc: bool) -> Kind<H> {
        let (mut head, body) = request.into_parts();
        if let Err(reply) = self.steps.on_request(&mut head) {
            return Kind::Reply { reply };
        }
        let context = head.extensions.get::<Context>().cloned().unwrap_or_default();
        let overdue = Overdue::new(&context, self.shared.workload.clock());
        let body = RequestBody::new(body, (!grpc).then_some(self.shared.limits.body_gap));
        let call = Call::new(self.handler.clone(), Request::from_parts(head, body));
        Kind::Handler { call: Scoped::new(call, context), overdue }
    }
}

/// The step that answers 431 to a head of very many fields.
///
/// HTTP/1.1 is bounded by hyper already; on HTTP/2 thousands of tiny fields fit the bytes allowed.
// spec: CVE-2019-15226
#[derive(Clone, Copy, Debug)]
struct HeadersMax(usize);

impl Step for HeadersMax {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        if head.headers.len() > self.0 { Err(Reply::TooManyHeaders) } else { Ok(()) }
    }
}

/// What the answer needs when it begins and what ends with its last byte.
struct Ending {
    in_flight: InFlight,
    shared: Arc<Shared>,
    http1: bool,
    grpc: bool,
}

pin_project! {
    /// The answer to a request: the handler's, or the mesh's in its place.
    pub(crate) struct Answer<H: Handler> {
        #[pin]
        kind: Kind<H>,
        ending: Option<Ending>,
    }
}

pin_project! {
    #[project = KindProjected]
    enum Kind<H: Handler> {
        Forbidden,
        Reply { reply: Reply },
        Handler { #[pin] call: Scoped<Call<H>>, overdue: Overdue },
    }
}

impl<H: Handler> Future for Answer<H> {
    type Output = Result<Response<AnswerBody<H::Body>>, Forbidden>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.kind.project() {
            KindProjected::Forbidden => return Poll::Ready(Err(Forbidden)),
            KindProjected::Reply { reply } => Err(*reply),
            KindProjected::Handler { call, overdue } => {
                let polled = poll_handler(call, overdue, cx);
                stall::note(&polled);
                ready!(polled)
            }
        };
        // hyper polls no future again that was ready.
        let Some(ending) = this.ending.take() else { return Poll::Pending };
        Poll::Ready(Ok(ending.begin(answer)))
    }
}

type Answered<B> = Result<(Response<Scoped<B>>, Overdue), Reply>;

/// Polls the handler; the mesh answers for it if it panics or is overdue.
fn poll_handler<H: Handler>(
    mut call: Pin<&mut Scoped<Call<H>>>,
    overdue: &mut Overdue,
    cx: &mut task::Context<'_>,
) -> Poll<Answered<H::Body>> {
    // After a panic the call is not polled again, only dropped: nothing of it is seen half changed.
    match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(Poll::Ready(response)) => {
            let context = call.context().clone();
            Poll::Ready(Ok((response.map(|body| Scoped::new(body, context)), std::mem::take(overdue))))
        }
        Ok(Poll::Pending) => overdue.poll(cx).map(|()| Err(Reply::DeadlinePassed)),
        Err(panic) => {
            let panic = panic_text(&*panic);
            tracing::error!(panic, "a handler panicked; its caller gets a 500");
            Poll::Ready(Err(Reply::Panicked))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

impl Ending {
    fn begin<B>(self, answer: Answered<B>) -> Response<AnswerBody<B>> {
        let (mut response, overdue) = match answer {
            Ok((response, overdue)) => (response.map(ReplyOr::handler), overdue),
            Err(reply) => (reply.into_response(self.grpc), Overdue::default()),
        };
        // The polite way out of HTTP/1.1 while the server is about to leave; HTTP/2 has GOAWAY.
        if self.http1 && self.shared.is_leaving() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| AnswerBody { body, overdue, in_flight: self.in_flight })
    }
}

/// Ends what outlasts the deadline of its request.
///
/// The caller gives up at that moment too, and the deadline counted here is later by the time the request travelled: a
/// handler is never cut off while somebody waits for it, and none works on for nobody where the caller's reset is lost.
#[derive(Debug, Default)]
struct Overdue {
    deadline: Option<(Time, Clock)>,
    /// Made at the first wait, so that a handler that answers at once costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Overdue {
    fn new(context: &Context, clock: Clock) -> Self {
        Self { deadline: context.deadline().map(|deadline| (deadline, clock)), timer: None }
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let Some((deadline, clock)) = self.deadline else { return Poll::Pending };
        let sleep = || Box::pin(tokio::time::sleep_until(clock.instant(deadline)));
        self.timer.get_or_insert_with(sleep).as_mut().poll(cx)
    }
}

pin_project! {
    /// The body of an answer. The request is in flight until it has ended or is dropped.
    pub(crate) struct AnswerBody<B> {
        #[pin]
        body: ReplyOr<Scoped<B>>,
        overdue: Overdue,
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
        let polled = match this.body.poll_frame(cx) {
            Poll::Ready(frame) => {
                Poll::Ready(frame.map(|frame| frame.map_err(|error| AnswerError::Handler(error.into()))))
            }
            Poll::Pending => this.overdue.poll(cx).map(|()| Some(Err(AnswerError::DeadlinePassed))),
        };
        stall::note(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
