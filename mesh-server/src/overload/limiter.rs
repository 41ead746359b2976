//! The limit on running requests, with a clock and with wakers.
//!
//! It is the lower of two: that of the program, and that of the Sidecar in force, which may change at any time.

use mesh_core::{
    config::istio::InboundPool,
    overload::{Change, Entry, Gate, Gradient, NoPlace, QueueLimits, RequestsMax, Ticket},
    time::Time,
};
use mesh_runtime::{Clock, ThreadDice, telemetry::GateReading};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::{sync::oneshot, time::Sleep};

/// How many requests run, and who waits. Nobody waits for a lock while nobody waits for a place.
#[derive(Debug)]
pub(crate) struct Limiter {
    gate: Gate<oneshot::Sender<Permit>>,
    /// The program's.
    limit: Option<Limit>,
    queue: QueueLimits,
    pool: Pool,
    /// How many were refused, in the order of [`NoPlace::ALL`].
    refused: [AtomicU64; 3],
    clock: Clock,
}

/// What a Sidecar allows; 2^32-1, Istio's default, is as good as no limit.
#[derive(Debug)]
struct Pool {
    connections_max: AtomicU32,
    pending_max: AtomicU32,
    requests_max: AtomicU32,
}

/// How many may run, and how many may wait if they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Places {
    running: u32,
    waiting: u32,
}

#[derive(Debug)]
enum Limit {
    Fixed(u32),
    Adaptive(Box<Gradient>),
}

/// What became of a request that came to the limiter.
#[derive(Debug)]
pub(crate) enum Entered {
    Admitted(Permit),
    Waiting(Waiting),
    Refused,
}

impl Limiter {
    pub(crate) fn new(max: Option<RequestsMax>, queue: QueueLimits, clock: Clock) -> Arc<Self> {
        let limit = max.map(|max| match max {
            RequestsMax::Fixed(limit) => Limit::Fixed(limit),
            RequestsMax::Adaptive(bounds) => Limit::Adaptive(Box::new(Gradient::new(bounds, clock.now()))),
        });
        let (pool, refused) = (Pool::of(InboundPool::default()), Default::default());
        Arc::new(Self { gate: Gate::new(queue), limit, queue, pool, refused, clock })
    }

    /// A Sidecar allows this much from now on. Who runs or waits stays; whom it gives room runs.
    pub(crate) fn on_pool(self: &Arc<Self>, pool: InboundPool) {
        self.pool.set(pool);
        self.admit_waiting(self.clock.now());
    }

    /// Takes a request in whose answer must be complete by `deadline`, or makes it wait, or refuses it.
    pub(crate) fn enter(self: &Arc<Self>, deadline: Option<Time>) -> Entered {
        let now = self.clock.now();
        let mut place = None;
        let waiter = || {
            let (told, awaited) = oneshot::channel();
            place = Some(awaited);
            told
        };
        let Places { running, waiting } = self.places();
        let deadline = deadline.unwrap_or(Time::MAX);
        match (self.gate.enter_below(running, waiting, now, deadline, waiter), place) {
            (Entry::Admitted, _) => Entered::Admitted(self.permit(now)),
            (Entry::Waiting { ticket, until }, Some(place)) => {
                let patience = Box::pin(tokio::time::sleep_until(self.clock.instant(until)));
                Entered::Waiting(Waiting { limiter: Arc::clone(self), ticket, place, patience })
            }
            (Entry::Refused(why), _) => {
                self.on_refused(why);
                Entered::Refused
            }
            // The gate asks for a waiter whenever it says that one waits.
            (Entry::Waiting { .. }, None) => Entered::Refused,
        }
    }

    /// Returns what the metrics say of it: running, waiting, how many may run, and how many were refused for what.
    pub(crate) fn reading(&self) -> GateReading {
        let limit = self.places().running;
        let refused = NoPlace::ALL.iter().zip(&self.refused);
        GateReading {
            running: self.gate.running(),
            waiting: self.gate.waiting(),
            limit: (limit != u32::MAX).then_some(limit),
            refused: refused.map(|(why, count)| (why.as_str(), count.load(Relaxed))).collect(),
            ..GateReading::default()
        }
    }

    fn on_refused(&self, why: NoPlace) {
        self.refused[why as usize].fetch_add(1, Relaxed);
        tracing::debug!(?why, running = self.gate.running(), "overloaded");
    }

    /// Returns the clock on which deadlines count.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    fn places(&self) -> Places {
        let own = match &self.limit {
            None => u32::MAX,
            Some(Limit::Fixed(limit)) => *limit,
            Some(Limit::Adaptive(gradient)) => gradient.limit(),
        };
        self.pool.places(own, self.queue.waiting_max)
    }

    fn permit(self: &Arc<Self>, since: Time) -> Permit {
        Permit { limiter: Arc::clone(self), since, complete: false }
    }

    fn on_end(self: &Arc<Self>, since: Time, complete: bool) {
        let now = self.clock.now();
        if let Some(Limit::Adaptive(gradient)) = &self.limit {
            let change = gradient.on_answer(since, now, complete, self.gate.running(), &mut ThreadDice);
            if change != Change::None {
                tracing::debug!(?change, "the limit of running requests is measured");
            }
        }
        self.gate.leave(now.since(since), complete);
        self.admit_waiting(now);
    }

    fn admit_waiting(self: &Arc<Self>, now: Time) {
        while let Some(waiter) = self.gate.admit_next(self.places().running, now) {
            // Whoever is gone by now gives the permit back by dropping it.
            let _ = waiter.send(self.permit(now));
        }
    }
}

impl Pool {
    fn of(pool: InboundPool) -> Self {
        let InboundPool { connections_max, pending_max, requests_max } = pool;
        let bound = |limit: Option<u32>| AtomicU32::new(limit.unwrap_or(u32::MAX));
        Self {
            connections_max: bound(connections_max),
            pending_max: bound(pending_max),
            requests_max: bound(requests_max),
        }
    }

    /// Sets one limit after the other: a request that comes in between meets some of each.
    fn set(&self, pool: InboundPool) {
        let next = Self::of(pool);
        self.connections_max.store(next.connections_max.into_inner(), Relaxed);
        self.pending_max.store(next.pending_max.into_inner(), Relaxed);
        self.requests_max.store(next.requests_max.into_inner(), Relaxed);
    }

    /// Returns the places where the program allows `own` to run and `queue` to wait.
    ///
    /// A request waits for a connection, in Envoy, and what it waits with is the limit of pending ones. Whoever has a
    /// connection and is over the limit of requests does not wait.
    // spec: envoy source/common/conn_pool/conn_pool_base.cc newStreamImpl
    fn places(&self, own: u32, queue: u32) -> Places {
        let (connections, requests) = (self.connections_max.load(Relaxed), self.requests_max.load(Relaxed));
        let running = own.min(connections);
        match self.pending_max.load(Relaxed) {
            _ if requests < running => Places { running: requests, waiting: 0 },
            u32::MAX => Places { running, waiting: queue },
            pending => Places { running, waiting: pending },
        }
    }
}

/// A place among the running requests, handed on when dropped.
#[derive(Debug)]
#[must_use = "dropping a permit gives its place back"]
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    since: Time,
    complete: bool,
}

impl Permit {
    /// The request is over; `complete` says whether its answer is out, or was given up.
    pub(crate) fn on_end(mut self, complete: bool) {
        self.complete = complete;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.on_end(self.since, self.complete);
    }
}

/// A request that waits for a place; dropped, it waits no more.
#[derive(Debug)]
pub(crate) struct Waiting {
    limiter: Arc<Limiter>,
    ticket: Ticket,
    /// If the request is dropped after its place was handed over, the permit goes with this.
    place: oneshot::Receiver<Permit>,
    patience: Pin<Box<Sleep>>,
}

impl Waiting {
    /// Waits for a place, or for the end of patience.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, NoPlace>> {
        if let Poll::Ready(place) = Pin::new(&mut self.place).poll(cx) {
            return Poll::Ready(place.map_err(|_| {
                self.limiter.on_refused(NoPlace::TooLate);
                NoPlace::TooLate
            }));
        }
        ready!(self.patience.as_mut().poll(cx));
        // If it is in the queue no more, its place is on the way, and wakes it.
        if self.limiter.gate.withdraw(self.ticket) {
            self.limiter.on_refused(NoPlace::TooLate);
            Poll::Ready(Err(NoPlace::TooLate))
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.limiter.gate.withdraw(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_place_given_back_wakes_the_first_who_waits_and_nobody_else() {
        let limiter = limiter(1);
        let first = admitted(&limiter);
        let (mut second, mut third) = (waiting(&limiter), waiting(&limiter));
        assert!(is_pending(&mut second) && is_pending(&mut third));
        first.on_end(true);
        let second = taken(second).await;
        assert!(is_pending(&mut third));
        second.on_end(true);
        taken(third).await.on_end(true);
        assert_eq!((limiter.gate.running(), limiter.gate.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_while_waiting_frees_its_place_in_the_queue() {
        let limiter = limiter(1);
        let first = admitted(&limiter);
        let (second, third) = (waiting(&limiter), waiting(&limiter));
        drop(second);
        assert_eq!(limiter.gate.waiting(), 1);
        drop(first);
        taken(third).await.on_end(true);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_with_a_place_on_the_way_hands_it_on() {
        let limiter = limiter(1);
        let first = admitted(&limiter);
        let (second, third) = (waiting(&limiter), waiting(&limiter));
        drop(first);
        // Handed over, and not looked at yet.
        drop(second);
        taken(third).await.on_end(true);
        assert_eq!((limiter.gate.running(), limiter.gate.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_at_its_time_and_a_place_that_comes_with_it_is_taken() {
        let limiter = limiter(1);
        let _first = admitted(&limiter);
        let start = tokio::time::Instant::now();
        let mut second = waiting(&limiter);
        let waited = std::future::poll_fn(|cx| second.poll(cx)).await;
        assert_eq!((waited.err(), start.elapsed()), (Some(NoPlace::TooLate), Duration::from_secs(1)));
        assert_eq!(limiter.gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_ends_patience_so_early_that_the_handler_could_still_answer() {
        let limiter = limiter(1);
        let first = admitted(&limiter);
        tokio::time::advance(Duration::from_millis(20)).await;
        first.on_end(true);
        let _first = admitted(&limiter);
        let start = tokio::time::Instant::now();
        let deadline = limiter.clock.now() + Duration::from_millis(100);
        let Entered::Waiting(mut second) = limiter.enter(Some(deadline)) else { panic!("it does not wait") };
        assert!(std::future::poll_fn(|cx| second.poll(cx)).await.is_err());
        let waited = start.elapsed();
        assert!((80..=81).contains(&waited.as_millis()), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_adaptive_limit_rises_while_nobody_is_slowed_down() {
        let max = RequestsMax::Adaptive(Default::default());
        let limiter = Limiter::new(Some(max), QueueLimits::default(), Clock::start());
        for _ in 0..30 {
            let running: Vec<_> = (0..3).map(|_| admitted(&limiter)).collect();
            tokio::time::advance(Duration::from_millis(20)).await;
            running.into_iter().for_each(|permit| permit.on_end(true));
        }
        assert!(limiter.places().running > 3, "{:?}", limiter.places());
    }

    /// One row per Sidecar: `maxConnections`, `http1MaxPendingRequests`, `http2MaxRequests`, and the places beside a
    /// program that says nothing, and beside one that lets 10 run and 20 wait.
    #[test]
    fn the_lower_limit_counts_and_only_who_would_wait_for_a_connection_waits() {
        const MAX: u32 = u32::MAX;
        for (connections_max, pending_max, requests_max, alone, beside) in [
            (None, None, None, (MAX, 1024), (10, 20)),
            (None, None, Some(5), (5, 0), (5, 0)),
            (None, Some(3), Some(50), (50, 0), (10, 3)),
            (Some(5), None, None, (5, 1024), (5, 20)),
            (Some(5), Some(3), None, (5, 3), (5, 3)),
            (Some(5), Some(3), Some(5), (5, 3), (5, 3)),
            (Some(5), Some(3), Some(4), (4, 0), (4, 0)),
            (Some(50), Some(3), Some(50), (50, 3), (10, 3)),
        ] {
            let pool = Pool::of(InboundPool { connections_max, pending_max, requests_max });
            let places = |(running, waiting)| Places { running, waiting };
            assert_eq!(pool.places(MAX, 1024), places(alone), "{pool:?}");
            assert_eq!(pool.places(10, 20), places(beside), "{pool:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_counted_by_reason_and_the_limit_is_the_one_in_force() {
        let limiter = Limiter::new(None, QueueLimits::default(), Clock::start());
        assert_eq!(limiter.reading().limit, None);
        limiter.on_pool(InboundPool { requests_max: Some(1), ..InboundPool::default() });
        let _first = admitted(&limiter);
        assert!(matches!(limiter.enter(None), Entered::Refused));
        limiter.on_pool(InboundPool { connections_max: Some(1), ..InboundPool::default() });
        let mut patient = waiting(&limiter);
        assert!(std::future::poll_fn(|cx| patient.poll(cx)).await.is_err());
        let expected = GateReading {
            running: 1,
            limit: Some(1),
            refused: vec![("queue_full", 1), ("queue_standing", 0), ("too_late", 1)],
            ..GateReading::default()
        };
        assert_eq!(limiter.reading(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_allows_more_lets_those_run_who_wait_for_it() {
        let limiter = Limiter::new(None, QueueLimits::default(), Clock::start());
        let first = admitted(&limiter);
        limiter.on_pool(InboundPool { connections_max: Some(1), ..InboundPool::default() });
        let (second, mut third) = (waiting(&limiter), waiting(&limiter));
        limiter.on_pool(InboundPool { connections_max: Some(2), ..InboundPool::default() });
        let second = taken(second).await;
        assert!(is_pending(&mut third));
        limiter.on_pool(InboundPool::default());
        let running = [first, second, taken(third).await];
        assert_eq!((limiter.gate.running(), limiter.gate.waiting()), (3, 0));
        drop(running);
        assert_eq!(limiter.gate.running(), 0);
    }

    fn limiter(max: u32) -> Arc<Limiter> {
        Limiter::new(Some(RequestsMax::Fixed(max)), QueueLimits::default(), Clock::start())
    }

    fn admitted(limiter: &Arc<Limiter>) -> Permit {
        match limiter.enter(None) {
            Entered::Admitted(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(limiter: &Arc<Limiter>) -> Waiting {
        match limiter.enter(None) {
            Entered::Waiting(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn is_pending(waiting: &mut Waiting) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        waiting.poll(&mut cx).is_pending()
    }

    async fn taken(mut waiting: Waiting) -> Permit {
        std::future::poll_fn(|cx| waiting.poll(cx)).await.unwrap()
    }
}
