//! The body of a request, as the handler reads it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// The body of a request from the network. A wait for its next piece has an end: [`crate::Limits::body_gap`].
#[derive(Debug)]
pub struct RequestBody {
    inner: hyper::body::Incoming,
    /// The longest wait; `None` for gRPC, whose streams may be silent.
    gap_max: Option<Duration>,
    /// Armed while the handler waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Why a request body did not arrive whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The caller sent nothing for too long.
    #[error("the caller sent nothing of the request body for {} s", .0.as_secs_f64())]
    Stalled(Duration),
    /// The connection or the stream broke, or what came over it was no body.
    #[error("the request body broke off: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RequestBody {
    pub(crate) fn new(inner: hyper::body::Incoming, gap_max: Option<Duration>) -> Self {
        Self { inner, gap_max, waiting: None }
    }

    /// Returns whether the wait has been too long.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(gap_max) = self.gap_max else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(gap_max)));
        waiting.as_mut().poll(cx).map(|()| gap_max)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = None;
                Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::Broken(error.into()))))
            }
            Poll::Pending => self.poll_stalled(cx).map(|gap| Some(Err(BodyError::Stalled(gap)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
