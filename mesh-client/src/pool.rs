//! The connections to one endpoint: who gets one, when another is made, and when one is no longer used.
//!
//! A request takes a connection that has room, or waits in line; connections are made by tasks of their own, so a
//! caller that goes away does not undo a handshake that others wait for. The pool knows nothing of balancing or
//! retries.

mod connect;
mod dial;
mod error;
mod http1;
mod http2;
mod lease;
mod origination;
mod state;
mod table;
mod tls;

pub(crate) use connect::Connector;
use connect::{Believers, Connected};
use error::ConnectError;
pub(crate) use http1::One;
pub(crate) use http2::Two;
pub(crate) use lease::{Lease, Lent};
pub(crate) use origination::Originations;
use state::{Next, Start, State, Waiter};
pub(crate) use table::{Key, Pools};

use crate::{Error, breaker::overflow};
use http::{Version, uri::Scheme};
use mesh_core::{
    balance::Security,
    health::{ClusterState, Limits, Overflow, Permit},
    registry::Address,
    snapshot::{Cluster, ConnectionPolicy, UpstreamHttp},
    time::Time,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync::oneshot};

/// Which HTTP a client speaks to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/2 where the TLS handshake agrees on it, else HTTP/1.1. Plaintext is HTTP/1.1.
    #[default]
    Any,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, in plaintext with prior knowledge.
    Http2,
}

impl Protocol {
    /// Returns what is spoken to the endpoints of a cluster with this policy, for a request of this version.
    pub(crate) fn under(self, http: UpstreamHttp, version: Version) -> Self {
        match http {
            UpstreamHttp::Http1 => Self::Http1,
            UpstreamHttp::Http2 => Self::Http2,
            UpstreamHttp::AsRequested if version == Version::HTTP_2 => Self::Http2,
            UpstreamHttp::AsRequested => Self::Http1,
            _ => self,
        }
    }
}

/// A new connection.
pub(crate) enum New {
    One(One),
    Two(Arc<Two>),
}

/// The terms of a cluster by which its connections are used.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    /// 0 is unlimited.
    pub(crate) requests_max: u32,
    pub(crate) connection: Arc<ConnectionPolicy>,
    pub(crate) limits: Limits,
    pub(crate) state: Arc<ClusterState>,
}

impl Terms {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            connect_timeout: cluster.connect_timeout,
            idle_timeout: cluster.idle_timeout,
            requests_max: cluster.max_requests_per_connection,
            connection: Arc::clone(&cluster.connection),
            limits: cluster.limits,
            state: Arc::clone(&cluster.state),
        }
    }

    /// Returns how many streams an HTTP/2 connection carries before another is made.
    pub(crate) fn streams_max(&self) -> u32 {
        self.connection.streams_max.unwrap_or(http2::STREAMS_MAX)
    }
}

/// The connections to one endpoint with one kind of security.
pub(crate) struct Pool {
    key: Key,
    connector: Arc<Connector>,
    draining: AtomicBool,
    /// How many wait, readable without the lock.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

impl Pool {
    pub(crate) fn new(key: Key, connector: Arc<Connector>) -> Self {
        Self {
            key,
            connector,
            draining: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
        }
    }

    /// Returns the scheme of what is sent here, as the other end sees it: a workload of the mesh is not told of the
    /// mesh's TLS, a server outside of it speaks TLS itself.
    pub(crate) fn scheme(&self) -> Scheme {
        match self.key.security {
            Security::Origination(_) => Scheme::HTTPS,
            _ => Scheme::HTTP,
        }
    }

    /// Returns a connection to send one request on: one that has room, else the first that gets room.
    pub(crate) async fn checkout(self: &Arc<Self>, terms: &Terms) -> Result<Lease, Error> {
        loop {
            let mut lease = match self.take(terms) {
                Some(lease) => lease,
                None => self.wait(terms).await?,
            };
            if lease.is_ready().await {
                return Ok(lease);
            }
            // One that was kept may have been closed meanwhile, and another may live. One that was just made says how the
            // next would end: without an error here, a peer that closes each would be dialled for ever.
            if !lease.is_kept() {
                return Err(ConnectError::closed(&self.key).into());
            }
        }
    }

    /// Returns a connection on which nothing was sent yet.
    pub(crate) async fn checkout_fresh(self: &Arc<Self>, terms: &Terms) -> Result<Lease, Error> {
        let place = terms.state.admit_always(Overflow::Connections);
        let connected = self.connector.connect(&self.key, terms).await.map_err(Error::from)?;
        let lent = match self.adopt(connected, place) {
            New::One(one) => Lent::One(one),
            New::Two(two) => {
                let mut state = self.lock();
                let _ = two.open(terms.streams_max());
                state.shared.push(Arc::clone(&two));
                Lent::Two(two, false)
            }
        };
        let mut lease = Lease::new(Arc::clone(self), lent, terms);
        if lease.is_ready().await { Ok(lease) } else { Err(ConnectError::closed(&self.key).into()) }
    }

    fn take(self: &Arc<Self>, terms: &Terms) -> Option<Lease> {
        let now = self.connector.clock.now();
        self.lock().take(now, terms).map(|lent| Lease::new(Arc::clone(self), lent.found(), terms))
    }

    async fn wait(self: &Arc<Self>, terms: &Terms) -> Result<Lease, Error> {
        let _pending = terms
            .state
            .admit(Overflow::Pending, &terms.limits)
            .map_err(|limit| overflow(limit, &self.key.cluster, &terms.limits))?;
        let (to, lease) = oneshot::channel();
        let waiting = Waiting::new(self);
        self.lock().wait(Waiter { to, terms: terms.clone(), runtime: Handle::current() });
        self.settle();
        let lease = lease.await;
        drop(waiting);
        lease.unwrap_or_else(|_| Err(ConnectError::gone(&self.key))).map_err(Error::from)
    }

    /// Never under the lock: a runtime that is shutting down drops what is spawned at once.
    fn start(self: &Arc<Self>, new: Vec<Start>) {
        for Start { place, terms, runtime } in new {
            let attempt = Connecting(Some(Arc::clone(self)));
            let pool = Arc::clone(self);
            runtime.spawn(async move {
                let outcome = pool.connector.connect(&pool.key, &terms).await;
                attempt.on_outcome(outcome, place);
            });
        }
    }

    fn on_connected(self: &Arc<Self>, connected: Connected, place: Permit) {
        let new = self.adopt(connected, place);
        self.lock().on_connected(new);
        self.settle();
        if self.draining.load(Relaxed) {
            self.drain();
        }
    }

    /// Takes a new connection in and has it driven.
    fn adopt(self: &Arc<Self>, connected: Connected, place: Permit) -> New {
        let Connected { new, driver } = connected;
        self.lock().open += 1;
        let closed = Closed(Arc::downgrade(self));
        tokio::spawn(async move {
            let (_closed, _place) = (closed, place);
            if let Err(error) = driver.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        new
    }

    fn on_failed(self: &Arc<Self>, error: &ConnectError) {
        let now = self.connector.clock.now();
        let failed = self.lock().on_failed(now);
        for waiter in failed {
            // Nobody waits any more: nobody needs to know.
            let _ = waiter.to.send(Err(error.clone()));
        }
    }

    fn on_closed(self: &Arc<Self>) {
        self.lock().on_closed();
        self.settle();
    }

    /// Takes back a connection that can carry another request.
    pub(crate) fn give_back(self: &Arc<Self>, mut one: One) {
        if self.draining.load(Relaxed) && self.waiting.load(Relaxed) == 0 {
            return;
        }
        one.since = self.connector.clock.now();
        one.kept = true;
        self.lock().idle.push(one);
        if self.waiting.load(Relaxed) > 0 {
            self.settle();
        }
    }

    /// A stream of a shared connection has ended.
    pub(crate) fn on_stream_end(self: &Arc<Self>, two: &Two) {
        let last = two.on_end(self.connector.clock.now());
        if self.waiting.load(Relaxed) > 0 {
            self.settle();
        }
        if last && self.draining.load(Relaxed) {
            self.drain();
        }
    }

    /// Gives connections with room to those in line, in the order of the line, and makes more where they are needed.
    fn settle(self: &Arc<Self>) {
        let now = self.connector.clock.now();
        loop {
            let next = self.lock().next(now);
            match next {
                // If its receiver is gone by now, the lease comes back by its drop.
                Next::Serve(waiter, lent) => {
                    let _ = waiter.to.send(Ok(Lease::new(Arc::clone(self), lent, &waiter.terms)));
                }
                Next::Connect(new) => return self.start(new),
            }
        }
    }

    /// No new connections are kept from now on; requests in flight finish.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        let mut state = self.lock();
        let idle = std::mem::take(&mut state.idle);
        state.shared.retain(|two| !two.is_idle());
        drop(state);
        drop(idle);
    }

    /// Gives up connections that were not used for the idle timeout, may not be used any more, or whose peer would not be
    /// believed again; requests on them finish.
    pub(crate) fn sweep(&self, now: Time, identity: &Believers<'_>) {
        let mut state = self.lock();
        let idle_timeout = state.idle_timeout;
        let fresh = |since: Time| now.since(since) < idle_timeout;
        state.idle.retain(|one| one.is_usable(now, 0) && fresh(one.since) && identity.believe(&one.meta));
        state.shared.retain(|two| {
            two.is_usable(now, 0) && two.idle_since().is_none_or(fresh) && identity.believe(&two.meta)
        });
    }

    /// Returns the error for a new connection that ended before it took a byte of its first request.
    pub(crate) fn closed(&self, error: hyper::Error) -> Error {
        ConnectError::closed(&self.key).with_source(error).into()
    }

    /// Returns where it connects to.
    pub(crate) fn address(&self) -> &Address {
        &self.key.address
    }

    /// Returns whether it has no connection and makes none.
    pub(crate) fn is_unused(&self) -> bool {
        let state = self.lock();
        state.open + state.connecting == 0
    }

    // Poison is no danger here: a panic inside a section can only leave a connection unused.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a place in the line as long as it lives.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.waiting.fetch_add(1, Relaxed);
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A connection being made; if its task ends without an outcome, that is one too.
struct Connecting(Option<Arc<Pool>>);

impl Connecting {
    fn on_outcome(mut self, outcome: Result<Connected, ConnectError>, place: Permit) {
        let Some(pool) = self.0.take() else { return };
        match outcome {
            Ok(connected) => pool.on_connected(connected, place),
            Err(error) => {
                drop(place);
                tracing::debug!(error = error.message, "no connection");
                pool.on_failed(&error);
            }
        }
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.on_failed(&ConnectError::gone(&pool.key));
        }
    }
}

/// Tells the pool that a connection has ended, however its task ended.
struct Closed(Weak<Pool>);

impl Drop for Closed {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.on_closed();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Pool")
            .field("key", &self.key)
            .field("idle", &state.idle.len())
            .field("shared", &state.shared.len())
            .field("open", &state.open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
