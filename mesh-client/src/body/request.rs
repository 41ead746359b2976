//! The one request body type of the pools: nothing, or the caller's body behind one allocation, or a replay of it.

use super::{BoxError, Finish};
use crate::retry::ReplayBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The body of a request on its way through the layers. An empty one costs no allocation.
#[derive(Default)]
pub struct RequestBody {
    kind: Kind,
    /// Dropped at the end of the body, which tells a timeout to begin.
    finish: Option<Finish>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Stream(Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>),
    Replay(ReplayBody),
}

impl RequestBody {
    /// Returns the empty body.
    pub const fn empty() -> Self {
        Self { kind: Kind::Empty, finish: None }
    }

    /// Returns `body` in this type; one that already has it is not wrapped again.
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let mut body = Some(body);
        if let Some(own) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return own.take().unwrap_or_default();
        }
        body.map_or_else(Self::empty, |body| Self {
            kind: Kind::Stream(Box::pin(Erased { body })),
            finish: None,
        })
    }

    pub(crate) fn replay(body: ReplayBody) -> Self {
        Self { kind: Kind::Replay(body), finish: None }
    }

    /// Has `finish` dropped when the body ends.
    pub(crate) fn finishing(mut self, finish: Finish) -> Self {
        if self.finish.is_some() {
            // Somebody outside waits for the same end.
            return Self { kind: Kind::Stream(Box::pin(self)), finish: Some(finish) };
        }
        self.finish = Some(finish);
        self
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Stream(body) => ready!(body.as_mut().poll_frame(cx)),
            Kind::Replay(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        if !matches!(frame, Some(Ok(_))) || self.is_end_stream() {
            self.finish = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Stream(body) => body.is_end_stream(),
            Kind::Replay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Stream(body) => body.size_hint(),
            Kind::Replay(body) => body.size_hint(),
        }
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> Self {
        Self::new(http_body_util::Full::new(bytes))
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("size_hint", &self.size_hint()).finish_non_exhaustive()
    }
}

pin_project_lite::pin_project! {
    /// A body whose error is boxed only if there is one.
    struct Erased<B> {
        #[pin]
        body: B,
    }
}

impl<B> Body for Erased<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
