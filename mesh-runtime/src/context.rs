//! What an inbound request hands to the calls made while it is handled: deadline, trace, cancellation.
//!
//! It travels in a task-local, so no user code carries it. A task spawned by a handler takes it along with
//! [`Context::scope`].

use mesh_core::{retry::Provenance, time::Time};
use std::{cell::Cell, sync::Arc};

tokio::task_local! {
    static CURRENT: Current;
}

/// The context entered, and what the calls made in it have left behind.
struct Current {
    context: Context,
    provenance: Cell<Provenance>,
}

/// The context of the request being handled. Cloning it is one atomic addition, and an empty one is nothing at all.
#[derive(Clone, Debug, Default)]
pub struct Context {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
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
        let empty = deadline.is_none() && trace.is_none();
        Self { inner: (!empty).then(|| Arc::new(Inner { deadline, trace })) }
    }

    /// Returns the context of the request being handled, or an empty one outside of any.
    pub fn current() -> Self {
        CURRENT.try_with(|current| current.context.clone()).unwrap_or_default()
    }

    /// Returns by when the answer must be complete.
    pub fn deadline(&self) -> Option<Time> {
        self.inner.as_ref()?.deadline
    }

    /// Returns the trace to pass on.
    pub fn trace(&self) -> Option<&Trace> {
        self.inner.as_ref()?.trace.as_ref()
    }

    /// Runs `future` with this context.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(Current::of(self), future).await
    }

    /// Runs `f` with this context; for polling a body.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(Current::of(self.clone()), f)
    }

    /// Runs `f` with this context, and adds to `provenance` what calls that failed meanwhile said of their retries.
    pub fn enter_noting<R>(&self, provenance: &mut Provenance, f: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(Current::of(self.clone()), || {
            let result = f();
            *provenance = provenance.and(CURRENT.with(|current| current.provenance.get()));
            result
        })
    }

    /// Notes, for the answer to the request being handled, that a call made for it has failed like this.
    ///
    /// What a spawned task notes is noted for nobody.
    pub fn note(provenance: Provenance) {
        let note = |current: &Current| current.provenance.set(current.provenance.get().and(provenance));
        // Outside of a request there is nobody to tell.
        let _ = CURRENT.try_with(note);
    }
}

impl Current {
    fn of(context: Context) -> Self {
        Self { context, provenance: Cell::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn outside_of_a_request_there_is_neither_deadline_nor_trace() {
        assert!(Context::current().deadline().is_none() && Context::current().trace().is_none());
    }

    #[tokio::test]
    async fn a_call_made_while_a_request_is_handled_sees_its_deadline_and_trace() {
        let seen = context(5).scope(async {
            tokio::task::yield_now().await;
            (Context::current().deadline(), Context::current().trace().cloned())
        });
        let (deadline, trace) = seen.await;
        assert_eq!(deadline, Some(Time::ZERO + Duration::from_secs(5)));
        assert_eq!(trace.unwrap().parent, "00-a-b-01");
        assert!(Context::current().deadline().is_none());
    }

    #[tokio::test]
    async fn a_spawned_task_has_the_context_only_if_it_takes_it_along() {
        let (bare, taken) = context(5)
            .scope(async {
                let bare = tokio::spawn(async { Context::current().deadline() });
                let taken = tokio::spawn(Context::current().scope(async { Context::current().deadline() }));
                (bare.await.unwrap(), taken.await.unwrap())
            })
            .await;
        assert_eq!((bare, taken), (None, Some(Time::ZERO + Duration::from_secs(5))));
    }

    #[tokio::test]
    async fn requests_handled_at_once_do_not_see_each_other() {
        let one = context(1).scope(async {
            tokio::task::yield_now().await;
            Context::current().deadline()
        });
        let two = context(2).scope(async {
            tokio::task::yield_now().await;
            Context::current().deadline()
        });
        let (one, two) = tokio::join!(one, two);
        assert_eq!((one, two), (context(1).deadline(), context(2).deadline()));
    }

    #[test]
    fn what_calls_leave_behind_is_noted_for_the_request_they_were_made_for() {
        let mut noted = Provenance::NONE;
        context(1).enter_noting(&mut noted, || Context::note(Provenance::RETRIED));
        context(1).enter_noting(&mut noted, || Context::note(Provenance::BUDGET_SPENT));
        assert_eq!(noted, Provenance::RETRIED.and(Provenance::BUDGET_SPENT));
        let mut other = Provenance::NONE;
        context(1).enter_noting(&mut other, || ());
        assert!(other.is_none());
        Context::note(Provenance::RETRIED);
    }

    #[test]
    fn entering_is_for_one_poll_and_the_outer_context_returns() {
        let inner = context(1);
        let seen = context(2)
            .enter(|| (inner.enter(|| Context::current().deadline()), Context::current().deadline()));
        assert_eq!(seen, (context(1).deadline(), context(2).deadline()));
        assert!(Context::current().deadline().is_none());
    }

    fn context(seconds: u64) -> Context {
        let parent = http::HeaderValue::from_static("00-a-b-01");
        Context::new(Some(Time::ZERO + Duration::from_secs(seconds)), Some(Trace { parent, state: None }))
    }
}
