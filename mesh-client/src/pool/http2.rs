//! A connection that carries many requests at a time.

use super::connect::Meta;
use crate::body::RequestBody;
use hyper::client::conn::http2::SendRequest;
use mesh_core::time::Time;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

/// A connection; the pool and every stream on it share it.
pub(crate) struct Two {
    sender: SendRequest<RequestBody>,
    pub(crate) meta: Meta,
    /// How many requests were sent on it.
    requests: AtomicU32,
    /// How many streams the peer allows.
    streams_max: Arc<AtomicUsize>,
    /// How many streams are open.
    streams: AtomicU32,
    /// When the last stream ended.
    used: AtomicU64,
}

impl Two {
    pub(crate) fn new(
        sender: SendRequest<RequestBody>,
        meta: Meta,
        streams_max: Arc<AtomicUsize>,
        now: Time,
    ) -> Self {
        Self {
            sender,
            meta,
            streams_max,
            requests: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            used: AtomicU64::new(now.as_nanos()),
        }
    }

    /// Returns a handle to send with.
    pub(crate) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }

    /// Returns whether another request may ever be sent on it.
    pub(crate) fn is_usable(&self, now: Time, requests_max: u32) -> bool {
        !self.sender.is_closed()
            && now < self.meta.expires
            && (requests_max == 0 || self.requests.load(Relaxed) < requests_max)
    }

    /// Opens a stream if there is room for one among `streams_max`. Called under the pool's lock only, so that no room is
    /// given twice. Returns whether the connection had carried a request before.
    pub(crate) fn open(&self, streams_max: u32) -> Option<bool> {
        let allowed = u32::try_from(self.streams_max.load(Relaxed)).unwrap_or(u32::MAX);
        let room = streams_max.min(allowed);
        // A peer that allows no stream at all is asked anyway: its answer is the better error.
        if self.streams.load(Relaxed) >= room.max(1) {
            return None;
        }
        self.streams.fetch_add(1, Relaxed);
        Some(self.requests.fetch_add(1, Relaxed) > 0)
    }

    /// Ends a stream; returns whether it was the last.
    pub(crate) fn on_end(&self, now: Time) -> bool {
        self.used.store(now.as_nanos(), Relaxed);
        self.streams.fetch_sub(1, Relaxed) == 1
    }

    /// Returns whether no stream is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.load(Relaxed) == 0
    }

    /// Returns since when no stream is open, if that is so.
    pub(crate) fn idle_since(&self) -> Option<Time> {
        self.is_idle().then(|| Time::from_nanos(self.used.load(Relaxed)))
    }
}

impl fmt::Debug for Two {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Two")
            .field("meta", &self.meta)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// Streams on one connection before another is opened, unless a DestinationRule says how many. 100 is the least a peer should allow by RFC 9113 6.5.2; one
/// connection for everything is a known bottleneck (hyper#3948).
pub(crate) const STREAMS_MAX: u32 = 100;
