//! When the caller's request body has been read to its end: the moment from which a timeout counts.
// spec: envoy router "timeout": from the end of the downstream request

use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// The waiting side.
#[derive(Debug)]
pub(crate) struct Upload(Arc<Shared>);

/// The body's side. Dropping it is the end too: nobody will read on.
#[derive(Debug)]
pub(crate) struct Finish(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Upload {
    /// Returns the two sides.
    pub(crate) fn new() -> (Self, Finish) {
        let shared = Arc::new(Shared::default());
        (Self(Arc::clone(&shared)), Finish(shared))
    }

    /// Returns whether the body has ended; if not, wakes the task when it does.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.waker.register(cx.waker());
        if self.0.ended.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}
