//! Bodies that axum has not: one that breaks off, text of any size that is never held in memory, and one that takes its
//! time.

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Interval, interval};

/// A body whose first frame is an error: hyper resets the stream (HTTP/2) or closes the connection (HTTP/1.1) before
/// the head is sent.
pub(crate) struct Broken;

impl Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::other("aborted, as the request asked"))))
    }
}

/// This many bytes of text still to come.
pub(crate) struct Filler(pub(crate) u64);

static LINES: &[u8] = &[b'.'; 16 * 1024];

impl Body for Filler {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.0).map_or(LINES.len(), |left| left.min(LINES.len()));
        self.0 -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&LINES[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.0 == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

/// A few bytes every now and then, for as long as was asked.
pub(crate) struct Trickle {
    pause: Interval,
    left: u128,
}

impl Trickle {
    /// Returns a body that ends after `time`, give or take a pause.
    pub(crate) fn lasting(time: Duration) -> Self {
        Self { pause: interval(PAUSE), left: time.as_millis() / PAUSE.as_millis() + 1 }
    }
}

/// So short that a stream which is cut off is noticed, so long that it costs nothing.
const PAUSE: Duration = Duration::from_millis(100);

impl Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        ready!(self.pause.poll_tick(cx));
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"...\n")))))
    }
}
