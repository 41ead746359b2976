//! A request body of which copies are read as it is read itself.
//!
//! The original never waits for a copy: one that falls more than [`LAG_BYTES_MAX`] behind is given up.

use super::{BoxError, RequestBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

/// Returns `body` and `count` copies of it.
pub(crate) fn tee(body: RequestBody, count: usize) -> (RequestBody, Vec<RequestBody>) {
    if body.is_end_stream() {
        return (body, (0..count).map(|_| RequestBody::empty()).collect());
    }
    let length = body.size_hint().exact();
    let lanes: Vec<_> = (0..count).map(|_| Arc::new(Mutex::new(Lane::default()))).collect();
    let copies = lanes.iter().map(|lane| RequestBody::new(Copy { lane: Arc::clone(lane), length }));
    let copies = copies.collect();
    (RequestBody::new(Original { body, lanes }), copies)
}

/// The body that is read for its own sake.
struct Original {
    body: RequestBody,
    lanes: Vec<Arc<Mutex<Lane>>>,
}

/// What one copy has still to read.
#[derive(Default)]
struct Lane {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    BrokenOff,
}

/// A copy.
struct Copy {
    lane: Arc<Mutex<Lane>>,
    length: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
#[error("the request that this one copies broke off, or ran too far ahead")]
struct BrokenOff;

impl Body for Original {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.lanes.iter().for_each(|lane| lock(lane).push(frame));
                if self.body.is_end_stream() {
                    self.end(End::Whole);
                }
            }
            Some(Err(_)) => self.end(End::BrokenOff),
            None => self.end(End::Whole),
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

impl Original {
    fn end(&mut self, end: End) {
        self.lanes.drain(..).for_each(|lane| lock(&lane).end(end));
    }
}

/// Read to its end or not, nothing more comes.
impl Drop for Original {
    fn drop(&mut self) {
        self.end(End::BrokenOff);
    }
}

impl Lane {
    fn push(&mut self, frame: &Frame<Bytes>) {
        let copy = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Frame::data(data.clone()),
            (None, Some(trailers)) => Frame::trailers(trailers.clone()),
            (None, None) => return,
        };
        self.bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.bytes > LAG_BYTES_MAX {
            return self.end(End::BrokenOff);
        }
        if self.end.is_none() {
            self.frames.push_back(copy);
            self.wake();
        }
    }

    fn end(&mut self, end: End) {
        if end == End::BrokenOff && self.end.is_none() {
            self.frames.clear();
        }
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Copy {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut lane = lock(&self.lane);
        if let Some(frame) = lane.frames.pop_front() {
            lane.bytes = lane.bytes.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            return Poll::Ready(Some(Ok(frame)));
        }
        match lane.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::BrokenOff) => Poll::Ready(Some(Err(BrokenOff.into()))),
            None => {
                lane.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

// A panic inside the caller's body leaves a lane whole: frames are added after the body has answered.
fn lock(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("frames", &self.frames.len()).finish_non_exhaustive()
    }
}

/// As much as is kept of a body for another attempt.
const LAG_BYTES_MAX: usize = crate::retry::LOG_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use std::convert::Infallible;

    #[tokio::test]
    async fn every_copy_has_the_bytes_and_the_trailers_of_the_original() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        let frames =
            [Frame::data(Bytes::from("ab")), Frame::data(Bytes::from("c")), Frame::trailers(trailers)];
        let frames = frames.map(Ok::<_, Infallible>);
        let body = RequestBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        let (original, copies) = tee(body, 2);
        for body in std::iter::once(original).chain(copies) {
            let read = body.collect().await.unwrap();
            assert_eq!(read.trailers().unwrap()["x-sum"], "7");
            assert_eq!(read.to_bytes(), "abc");
        }
    }

    #[tokio::test]
    async fn a_copy_of_an_original_that_is_dropped_fails_instead_of_ending() {
        let (original, mut copies) = tee(RequestBody::from(Bytes::from("abc")), 1);
        drop(original);
        assert!(copies.remove(0).collect().await.is_err());
    }

    #[tokio::test]
    async fn an_original_does_not_wait_for_a_copy_that_nobody_reads() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 400_000])));
        let body = RequestBody::new(StreamBody::new(futures_util::stream::iter([chunk(), chunk(), chunk()])));
        let (original, mut copies) = tee(body, 1);
        assert_eq!(original.collect().await.unwrap().to_bytes().len(), 1_200_000);
        assert!(copies.remove(0).collect().await.is_err(), "a copy that lags too far is given up");
    }

    #[test]
    fn a_copy_says_how_long_it_is() {
        let (_, copies) = tee(RequestBody::new(Full::new(Bytes::from("abc"))), 1);
        assert_eq!(copies[0].size_hint().exact(), Some(3));
    }
}
