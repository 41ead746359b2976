//! When the caller's request body has been read to its end: the moment from which a timeout counts.
// spec: envoy router "timeout": from the end of the downstream request

use futures_util::task::AtomicWaker;
use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};
use tokio::time::Instant;

/// The waiting side.
#[derive(Clone, Debug)]
pub(crate) struct Upload(Arc<Shared>);

/// The body's side. Dropping it is the end too: nobody will read on.
#[derive(Debug)]
pub(crate) struct Finish(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ended: OnceLock<Instant>,
    waker: AtomicWaker,
}

impl Upload {
    /// Returns the two sides.
    pub(crate) fn new() -> (Self, Finish) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), Finish(shared))
    }

    /// Returns when the body ended; if it has not, wakes the task when it does.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<Instant> {
        self.0.waker.register(cx.waker());
        self.ended().map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns when the body ended, if it has.
    pub(crate) fn ended(&self) -> Option<Instant> {
        self.0.ended.get().copied()
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.ended.get_or_init(Instant::now);
        self.0.waker.wake();
    }
}
