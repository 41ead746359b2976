//! What an inbound request hands to the calls made while it is handled: deadline, trace, cancellation.
//!
//! It travels in a task-local, so no user code carries it. A task spawned by a handler takes it along with
//! [`Context::scope`].

use mesh_core::time::Time;
use std::sync::Arc;

tokio::task_local! {
    static CURRENT: Context;
}

/// The context of the request being handled.
#[derive(Clone, Debug, Default)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    deadline: Option<Time>,
    trace: Option<Trace>,
}

/// W3C trace context as received, to be passed on.
// spec: w3c trace-context level 1
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`.
    pub parent: http::HeaderValue,
    /// `tracestate`.
    pub state: Option<http::HeaderValue>,
}

impl Context {
    /// Returns a context with this deadline and trace.
    pub fn new(deadline: Option<Time>, trace: Option<Trace>) -> Self {
        Self { inner: Arc::new(Inner { deadline, trace }) }
    }

    /// Returns the context of the request being handled, or an empty one outside of any.
    pub fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Returns by when the answer must be complete.
    pub fn deadline(&self) -> Option<Time> {
        self.inner.deadline
    }

    /// Returns the trace to pass on.
    pub fn trace(&self) -> Option<&Trace> {
        self.inner.trace.as_ref()
    }

    /// Runs `future` with this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// Runs `f` with this context; for polling a body.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.clone(), f)
    }
}
