//! The limit on running requests, with a clock and with wakers.

use mesh_core::{
    overload::{Change, Entry, Gate, Gradient, NoPlace, QueueLimits, RequestsMax, Ticket},
    time::Time,
};
use mesh_runtime::{Clock, ThreadDice};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::oneshot, time::Sleep};

/// How many requests run, and who waits. Nobody waits for a lock while nobody waits for a place.
#[derive(Debug)]
pub(crate) struct Limiter {
    gate: Gate<oneshot::Sender<Permit>>,
    limit: Limit,
    clock: Clock,
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
    pub(crate) fn new(max: RequestsMax, queue: QueueLimits, clock: Clock) -> Arc<Self> {
        let limit = match max {
            RequestsMax::Fixed(limit) => Limit::Fixed(limit),
            RequestsMax::Adaptive(bounds) => Limit::Adaptive(Box::new(Gradient::new(bounds, clock.now()))),
        };
        Arc::new(Self { gate: Gate::new(queue), limit, clock })
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
        match (self.gate.enter(self.limit(), now, deadline.unwrap_or(Time::MAX), waiter), place) {
            (Entry::Admitted, _) => Entered::Admitted(self.permit(now)),
            (Entry::Waiting { ticket, until }, Some(place)) => {
                let patience = Box::pin(tokio::time::sleep_until(self.clock.instant(until)));
                Entered::Waiting(Waiting { limiter: Arc::clone(self), ticket, place, patience })
            }
            (Entry::Refused(why), _) => {
                tracing::debug!(?why, running = self.gate.running(), "overloaded");
                Entered::Refused
            }
            // The gate asks for a waiter whenever it says that one waits.
            (Entry::Waiting { .. }, None) => Entered::Refused,
        }
    }

    /// Returns the clock on which deadlines count.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    fn limit(&self) -> u32 {
        match &self.limit {
            Limit::Fixed(limit) => *limit,
            Limit::Adaptive(gradient) => gradient.limit(),
        }
    }

    fn permit(self: &Arc<Self>, since: Time) -> Permit {
        Permit { limiter: Arc::clone(self), since, complete: false }
    }

    fn on_end(self: &Arc<Self>, since: Time, complete: bool) {
        let now = self.clock.now();
        if let Limit::Adaptive(gradient) = &self.limit {
            let change = gradient.on_answer(since, now, complete, self.gate.running(), &mut ThreadDice);
            if change != Change::None {
                tracing::debug!(?change, "the limit of running requests is measured");
            }
        }
        self.gate.leave(now.since(since), complete);
        while let Some(waiter) = self.gate.admit_next(self.limit(), now) {
            // Whoever is gone by now gives the permit back by dropping it.
            let _ = waiter.send(self.permit(now));
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
            return Poll::Ready(place.map_err(|_| NoPlace::TooLate));
        }
        ready!(self.patience.as_mut().poll(cx));
        // If it is in the queue no more, its place is on the way, and wakes it.
        if self.limiter.gate.withdraw(self.ticket) {
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
        let limiter = Limiter::new(max, QueueLimits::default(), Clock::start());
        for _ in 0..30 {
            let running: Vec<_> = (0..3).map(|_| admitted(&limiter)).collect();
            tokio::time::advance(Duration::from_millis(20)).await;
            running.into_iter().for_each(|permit| permit.on_end(true));
        }
        assert!(limiter.limit() > 3, "{}", limiter.limit());
    }

    fn limiter(max: u32) -> Arc<Limiter> {
        Limiter::new(RequestsMax::Fixed(max), QueueLimits::default(), Clock::start())
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
