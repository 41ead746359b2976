//! A request body that can be sent again: an append-only log of chunks, and a cursor per attempt.
//!
//! The cursor is a place in the log, never a flag "is replayed": an attempt that was refused before it polled its body
//! leaves the log as it was, and the next attempt reads the same bytes in the same order. It keeps at most
//! [`LOG_BYTES_MAX`]; beyond that the body streams on and cannot be sent again.

use crate::body::{BoxError, RequestBody};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

/// The caller's body, from which the body of each attempt is made.
#[derive(Clone)]
pub(crate) struct Replay(Arc<Mutex<Log>>);

struct Log {
    /// What was read of `source`, unless `lost`.
    chunks: Vec<Bytes>,
    weight: usize,
    source: RequestBody,
    end: Option<End>,
    /// Whether bytes were handed out that are not in the log.
    lost: bool,
    /// Whether no further attempt will be made: then nothing is kept for one.
    settled: bool,
    /// How many attempts were made.
    attempts: u32,
    /// The first of them that may read; those before it were superseded.
    reader: u32,
    /// How long the whole body is, if that was known before it was read.
    length: Option<u64>,
}

/// How the source ended.
enum End {
    Clean(Option<HeaderMap>),
    Failed,
}

/// Why an attempt's body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("a later attempt took over this request body")]
    Superseded,
    #[error("the request body failed in an earlier attempt")]
    Failed,
    #[error("the request body is larger than {LOG_BYTES_MAX} bytes and was not kept for another attempt")]
    Lost,
}

impl Replay {
    /// Returns `source` as something to send several times.
    pub(crate) fn of(source: RequestBody) -> Self {
        let hint = source.size_hint();
        Self(Arc::new(Mutex::new(Log {
            chunks: Vec::new(),
            weight: 0,
            source,
            end: None,
            lost: false,
            settled: false,
            attempts: 0,
            reader: 0,
            length: hint.exact(),
        })))
    }

    /// Returns the body for a new attempt; the bodies of earlier ones fail from now on.
    pub(crate) fn attempt(&self) -> RequestBody {
        let mut log = lock(&self.0);
        log.reader = log.attempts + 1;
        self.next(&mut log)
    }

    /// Returns the body for a new attempt beside the last one, if all of it is in the log: only one attempt can wait for
    /// the source.
    pub(crate) fn beside(&self) -> Option<RequestBody> {
        let mut log = lock(&self.0);
        let is_whole = !log.lost && matches!(log.end, Some(End::Clean(_)));
        is_whole.then(|| self.next(&mut log))
    }

    fn next(&self, log: &mut Log) -> RequestBody {
        log.attempts += 1;
        RequestBody::replay(ReplayBody {
            log: Arc::clone(&self.0),
            attempt: log.attempts,
            cursor: 0,
            bytes: 0,
            trailers_sent: false,
        })
    }

    /// No further attempt will be made: the one that runs keeps nothing more, and gives back what was kept as it reads it.
    pub(crate) fn settle(&self) {
        lock(&self.0).settled = true;
    }

    /// Returns whether another attempt would send the same bytes.
    pub(crate) fn is_replayable(&self) -> bool {
        let log = lock(&self.0);
        !log.lost && !matches!(log.end, Some(End::Failed))
    }
}

/// The body of one attempt.
pub(crate) struct ReplayBody {
    log: Arc<Mutex<Log>>,
    attempt: u32,
    /// How many chunks of the log this attempt has sent.
    cursor: usize,
    /// How many bytes this attempt has sent.
    bytes: u64,
    trailers_sent: bool,
}

impl Body for ReplayBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut log = lock(&this.log);
        if this.attempt < log.reader {
            return Poll::Ready(Some(Err(ReplayError::Superseded.into())));
        }
        if this.cursor < log.chunks.len() {
            let chunk = log.replayed(this.cursor);
            this.cursor += 1;
            this.bytes += chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        // Not while another attempt may still have to read what is kept.
        if log.settled && log.reader == log.attempts {
            log.chunks = Vec::new();
            this.cursor = 0;
        }
        if log.lost && this.bytes == 0 {
            return Poll::Ready(Some(Err(ReplayError::Lost.into())));
        }
        if log.end.is_none() {
            match ready!(log.read(cx)) {
                Ok(Some(chunk)) => {
                    this.cursor = log.chunks.len();
                    this.bytes += chunk.len() as u64;
                    return Poll::Ready(Some(Ok(Frame::data(chunk))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(match &log.end {
            Some(End::Failed) => Some(Err(ReplayError::Failed.into())),
            Some(End::Clean(Some(trailers))) if !this.trailers_sent => {
                this.trailers_sent = true;
                Some(Ok(Frame::trailers(trailers.clone())))
            }
            Some(End::Clean(_)) | None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let log = lock(&self.log);
        self.cursor == log.chunks.len()
            && match &log.end {
                Some(End::Clean(trailers)) => trailers.is_none() || self.trailers_sent,
                Some(End::Failed) | None => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let log = lock(&self.log);
        log.length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.bytes)))
    }
}

impl Log {
    /// Returns the chunk at `cursor`, for the last time if no further attempt will be made.
    fn replayed(&mut self, cursor: usize) -> Bytes {
        let chunk = &mut self.chunks[cursor];
        let is_last = self.settled && self.reader == self.attempts;
        if is_last { std::mem::take(chunk) } else { chunk.clone() }
    }

    /// Reads the next chunk of the source and keeps it; `None` at the end.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BoxError>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                None => {
                    self.end(End::Clean(None));
                    return Poll::Ready(Ok(None));
                }
                Some(Err(error)) => {
                    self.end(End::Failed);
                    return Poll::Ready(Err(error));
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(chunk) if chunk.is_empty() => {}
                Ok(chunk) => {
                    self.keep(&chunk);
                    if self.source.is_end_stream() {
                        self.end(End::Clean(None));
                    }
                    return Poll::Ready(Ok(Some(chunk)));
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.end(End::Clean(Some(trailers)));
                        return Poll::Ready(Ok(None));
                    }
                }
            }
        }
    }

    fn keep(&mut self, chunk: &Bytes) {
        if self.settled {
            return;
        }
        // The handle counts too: a body of single bytes would otherwise cost 33 times its cap.
        let weight = self.weight + chunk.len() + size_of::<Bytes>();
        self.lost |=
            weight > LOG_BYTES_MAX || self.length.is_some_and(|length| length > LOG_BYTES_MAX as u64);
        if self.lost {
            self.chunks = Vec::new();
        } else {
            self.weight = weight;
            self.chunks.push(chunk.clone());
        }
    }

    /// Ends the log and drops the source, which may hold resources of the caller.
    fn end(&mut self, end: End) {
        self.end = Some(end);
        self.source = RequestBody::empty();
    }
}

// A panic inside the caller's body leaves the log whole: chunks are added after the body has answered.
fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = lock(&self.0);
        f.debug_struct("Replay")
            .field("chunks", &log.chunks.len())
            .field("lost", &log.lost)
            .finish_non_exhaustive()
    }
}

/// How much of a body is kept for another attempt: 1 MiB, Envoy's default stream buffer.
// spec: envoy per_connection_buffer_limit_bytes, default 1 MiB
pub(crate) const LOG_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
