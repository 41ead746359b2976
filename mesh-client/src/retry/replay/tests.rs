use super::*;
use futures_util::{FutureExt, task::noop_waker};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use std::collections::VecDeque;

proptest! {
    /// Invariant 4 against the obvious model: whatever the attempts before read, each reads a prefix of the same bytes,
    /// and the last one all of them.
    #[test]
    fn every_attempt_reads_the_same_bytes_from_the_beginning(
        script in script(),
        aborts in prop::collection::vec(0_usize..20, 0..5),
        straggler_polls in 0_usize..3,
    ) {
        let expected = script.bytes();
        let replay = Replay::of(RequestBody::new(script.clone().body()));
        let mut straggler: Option<RequestBody> = None;
        for polls in aborts {
            let mut attempt = replay.attempt();
            let (read, _) = read(&mut attempt, polls);
            prop_assert!(expected.starts_with(&read));
            // The connection of the attempt before may poll its body once more: it gets an error and takes nothing.
            if let Some(mut old) = straggler.replace(attempt) {
                for _ in 0..straggler_polls {
                    prop_assert!(matches!(poll(&mut old), Poll::Ready(Some(Err(_)))));
                }
            }
        }
        prop_assert!(replay.is_replayable());
        let mut last = replay.attempt();
        prop_assert_eq!(last.size_hint().exact(), script.exact.then_some(expected.len() as u64));
        let (bytes, trailers) = read(&mut last, usize::MAX);
        prop_assert_eq!(bytes, expected);
        prop_assert_eq!(trailers, script.trailers());
        prop_assert!(last.is_end_stream());
    }
}

#[test]
fn a_body_whose_first_attempt_was_never_polled_is_sent_once_and_whole() {
    let replay = Replay::of(RequestBody::new(Full::new(Bytes::from_static(b"hello world"))));
    drop(replay.attempt());
    let whole = replay.attempt().collect().now_or_never().unwrap().unwrap();
    assert_eq!(whole.to_bytes(), "hello world");
}

#[test]
fn an_attempt_beside_another_reads_the_same_bytes_and_begins_when_the_source_has_ended() {
    let chunks = ["hello ", "world"].map(|chunk| Ok::<_, std::io::Error>(Frame::data(Bytes::from(chunk))));
    let replay =
        Replay::of(RequestBody::new(http_body_util::StreamBody::new(futures_util::stream::iter(chunks))));
    let mut first = replay.attempt();
    assert_eq!(read(&mut first, 1).0, b"hello ");
    assert!(replay.beside().is_none(), "both would wait for the source");
    assert_eq!(read(&mut first, usize::MAX).0, b"world");
    let (mut one, mut two) = (replay.beside().unwrap(), replay.beside().unwrap());
    assert_eq!(read(&mut one, 1).0, b"hello ");
    // Whoever wins takes nothing away from the other.
    replay.settle();
    assert_eq!(read(&mut two, usize::MAX).0, b"hello world");
    assert_eq!(read(&mut one, usize::MAX).0, b"world");
    let mut next = replay.attempt();
    assert!(matches!(poll(&mut two), Poll::Ready(Some(Err(_)))), "the next attempt supersedes both");
    assert_eq!(read(&mut next, usize::MAX).0, b"hello world");
}

#[test]
fn a_body_over_the_cap_is_read_whole_once_and_then_refused() {
    let chunk = Bytes::from(vec![1; 100_000]);
    for exact in [true, false] {
        let script = Script { steps: vec![Some(chunk.clone()); 20], trailer: false, exact };
        let replay = Replay::of(RequestBody::new(script.clone().body()));
        drop(replay.attempt());
        assert!(replay.is_replayable(), "nothing was read yet");
        let mut first = replay.attempt();
        assert_eq!(read(&mut first, usize::MAX).0, script.bytes());
        assert!(!replay.is_replayable());
        assert!(matches!(poll(&mut replay.attempt()), Poll::Ready(Some(Err(_)))));
    }
}

#[test]
fn many_small_chunks_do_not_outgrow_the_cap() {
    let script = Script { steps: vec![Some(Bytes::from_static(b"x")); 40_000], trailer: false, exact: false };
    let replay = Replay::of(RequestBody::new(script.body()));
    let _ = read(&mut replay.attempt(), usize::MAX);
    assert!(!replay.is_replayable());
}

#[test]
fn a_body_that_failed_is_not_sent_again() {
    let chunks = [Ok(Frame::data(Bytes::from_static(b"begin"))), Err(std::io::Error::other("broken"))];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(chunks));
    let replay = Replay::of(RequestBody::new(body));
    let error = replay.attempt().collect().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert!(!replay.is_replayable());
}

#[test]
fn a_body_is_sent_whole_and_given_back_once_no_further_attempt_is_made() {
    // Wherever the attempt stands in the log, or beyond it, when the call is decided.
    for (kept, sent) in [(0, 0), (5, 0), (5, 3), (5, 5), (5, 8), (9, 9)] {
        let script = Script {
            steps: (0..10).map(|chunk| Some(Bytes::from(vec![chunk; 200]))).collect(),
            trailer: true,
            exact: false,
        };
        let replay = Replay::of(RequestBody::new(script.clone().body()));
        let _ = read(&mut replay.attempt(), kept);
        let mut last = replay.attempt();
        let (mut bytes, _) = read(&mut last, sent);
        replay.settle();
        bytes.extend(read(&mut last, 1).0);
        let held = || lock(&replay.0).chunks.iter().map(Bytes::len).sum::<usize>();
        assert!(sent < kept || held() == 0, "{kept} kept, {sent} sent");
        let (rest, trailers) = read(&mut last, usize::MAX);
        bytes.extend(rest);
        assert!(bytes == script.bytes() && trailers == script.trailers(), "{kept} kept, {sent} sent");
        assert_eq!(held(), 0);
        assert!(last.is_end_stream());
    }
}

/// Polls at most `polls` times; returns what came.
fn read(body: &mut RequestBody, polls: usize) -> (Vec<u8>, Option<HeaderMap>) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    for _ in 0..polls {
        match poll(body) {
            Poll::Pending => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(frame)) => match frame.unwrap().into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    (bytes, trailers)
}

fn poll(body: &mut RequestBody) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(&noop_waker()))
}

/// What the caller's body does, poll by poll: a chunk, or nothing yet.
#[derive(Clone, Debug)]
struct Script {
    steps: Vec<Option<Bytes>>,
    trailer: bool,
    /// Whether it tells its length.
    exact: bool,
}

fn script() -> impl Strategy<Value = Script> {
    let chunk = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    let steps = prop::collection::vec(prop::option::weighted(0.7, chunk), 1..20);
    (steps, any::<bool>(), any::<bool>()).prop_map(|(steps, trailer, exact)| Script { steps, trailer, exact })
}

impl Script {
    fn bytes(&self) -> Vec<u8> {
        self.steps.iter().flatten().flatten().copied().collect()
    }

    fn trailers(&self) -> Option<HeaderMap> {
        self.trailer.then(|| HeaderMap::from_iter([(http::header::ETAG, "1".parse().unwrap())]))
    }

    fn body(self) -> Scripted {
        let trailers = self.trailers();
        let left = self.exact.then(|| self.bytes().len() as u64);
        Scripted { steps: self.steps.into(), trailers, left }
    }
}

struct Scripted {
    steps: VecDeque<Option<Bytes>>,
    trailers: Option<HeaderMap>,
    left: Option<u64>,
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match self.steps.pop_front() {
            Some(None) => Poll::Pending,
            Some(Some(chunk)) => {
                self.left = self.left.map(|left| left - chunk.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
