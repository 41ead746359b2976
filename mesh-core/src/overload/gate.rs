//! The gate before the handlers: who runs, who waits, and who is told at once that there is no place.
//!
//! ```text
//! arrived --place--> running -----------------------------> gone
//!    | \---none-----> waiting --place--> running
//!    |                   \---too late, or given up--------> gone
//!     \---no place, and none in time----------------------> refused
//! ```
//!
//! The queue is first come, first served, and short when it matters. Last come, first served would keep the answers
//! fresh too, but those it lets wait learn last that they waited for nothing; who is refused at the door can go
//! elsewhere. So it is decided there, by three questions:
//!
//! - Is the queue full? It has room for a burst ([`QueueLimits::waiting_max`]). One that has not been empty for 100 ms
//!   is no burst but a load above capacity: there a long queue adds to every wait and answers nobody the more. It is
//!   then cut to twice the square root of the limit, which keeps every place busy, until 100 ms pass in which nobody had
//!   to be refused for that.
//! - Will a place come in time? Places come at the pace at which they came since somebody waits.
//! - And will there be time to answer then? A request with less left than the usual handler takes would most likely
//!   be work for nobody.
//!
//! While nobody waits, one word of atomics is all there is; the queue has a lock.
// spec: B. Maurer, Fail at Scale, ACM Queue 13(8), 2015: controlled delay, N = 100 ms
// spec: envoy configuration/http/http_filters/adaptive_concurrency_filter: headroom of the square root of the limit

use super::QueueLimits;
use crate::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};
use std::{collections::BTreeMap, time::Duration};

/// The gate of one server. `W` is how somebody who waits is told: it is handed out with a place by [`Gate::admit_next`],
/// and dropped when no place will come.
///
/// The limit is an argument, so that it may change at any time: a lower one ends nothing, it admits no more until enough
/// are gone.
#[derive(Debug)]
pub struct Gate<W> {
    limits: QueueLimits,
    /// How many run and how many wait, see [`Counts`].
    counts: AtomicU64,
    usual: Usual,
    queue: Mutex<Queue<W>>,
}

/// What became of a request that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It runs.
    Admitted,
    /// It waits.
    Waiting {
        /// By which it withdraws.
        ticket: Ticket,
        /// Until when it waits: afterwards no place is of use to it.
        until: Time,
    },
    /// It is to be answered at once.
    Refused(NoPlace),
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoPlace {
    /// As many wait as may.
    Full,
    /// The queue has not been empty for long, and is long enough.
    Standing,
    /// Its deadline would pass before it is answered.
    TooLate,
}

impl NoPlace {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Full, Self::Standing, Self::TooLate];

    /// Returns its name, for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::Standing => "queue_standing",
            Self::TooLate => "too_late",
        }
    }
}

/// The number of somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl<W> Gate<W> {
    /// Returns a gate that nobody has come to yet.
    pub fn new(limits: QueueLimits) -> Self {
        let (counts, usual) = (AtomicU64::new(0), Usual::default());
        Self { limits, counts, usual, queue: Mutex::new(Queue::default()) }
    }

    /// Takes a request in, or makes it wait, or refuses it. `waiter` is asked for only if it waits.
    pub fn enter(&self, limit: u32, now: Time, deadline: Time, waiter: impl FnOnce() -> W) -> Entry {
        self.enter_below(limit, self.limits.waiting_max, now, deadline, waiter)
    }

    /// Likewise, while no more than `waiting_max` may wait. As the limit, it may change at any time: nobody who waits is
    /// sent away for it.
    pub fn enter_below(
        &self,
        limit: u32,
        waiting_max: u32,
        now: Time,
        deadline: Time,
        waiter: impl FnOnce() -> W,
    ) -> Entry {
        if self.try_enter(limit) {
            return Entry::Admitted;
        }
        let mut queue = self.lock();
        // Counted before it is judged: whoever leaves from here on sees that somebody waits, and comes for the lock.
        let before = self.change(|counts| Some(counts.arrive(limit).unwrap_or_else(|| counts.wait())));
        if !before.must_wait(limit) {
            return Entry::Admitted;
        }
        let limits = QueueLimits { waiting_max, ..self.limits };
        match queue.judge(&Newcomer { limit, usual: self.usual.get(), now, deadline }, &limits) {
            Ok(until) => Entry::Waiting { ticket: queue.push(until, waiter()), until },
            Err(why) => {
                self.change(|counts| Some(counts.give_up()));
                Entry::Refused(why)
            }
        }
    }

    /// Gives a place back that was held for `held`; `complete` says whether the answer is out, or was given up. The place
    /// is handed on by [`Gate::admit_next`].
    pub fn leave(&self, held: Duration, complete: bool) {
        self.change(|counts| Some(counts.leave()));
        self.usual.on_held(held, complete);
    }

    /// Admits whoever has waited longest, if there is a place, and returns how to tell it. To be called until it returns
    /// `None`, after a place was given back or the limit has risen: as many are woken as there are places.
    pub fn admit_next(&self, limit: u32, now: Time) -> Option<W> {
        if !self.read().has_place_for_waiting(limit) {
            return None;
        }
        // Dropped after the lock: what telling somebody does is not known here.
        let mut late = Vec::new();
        let mut queue = self.lock();
        while queue.first_until()? < now {
            self.change(|counts| Some(counts.give_up()));
            late.extend(queue.pop());
        }
        if !self.change(|counts| counts.admit(limit)).has_place_for_waiting(limit) {
            return None;
        }
        queue.pace.on_place(now);
        queue.pop()
    }

    /// Takes somebody out of the queue; returns whether it still waited. If not, it was admitted or will be dropped.
    pub fn withdraw(&self, ticket: Ticket) -> bool {
        let mut queue = self.lock();
        let withdrawn = queue.remove(ticket);
        if withdrawn.is_some() {
            self.change(|counts| Some(counts.give_up()));
        }
        drop(queue);
        withdrawn.is_some()
    }

    /// Returns how many run.
    pub fn running(&self) -> u32 {
        self.read().running
    }

    /// Returns how many wait.
    pub fn waiting(&self) -> u32 {
        self.read().waiting
    }

    fn try_enter(&self, limit: u32) -> bool {
        self.read().arrive(limit).is_some() && !self.change(|counts| counts.arrive(limit)).must_wait(limit)
    }

    fn read(&self) -> Counts {
        Counts::unpack(self.counts.load(Relaxed))
    }

    /// Changes the counts as `change` says, if it says so; returns what they were.
    fn change(&self, change: impl Fn(Counts) -> Option<Counts>) -> Counts {
        let changed = |word| change(Counts::unpack(word)).map(Counts::pack);
        Counts::unpack(self.counts.fetch_update(Relaxed, Relaxed, changed).unwrap_or_else(|word| word))
    }

    fn lock(&self) -> MutexGuard<'_, Queue<W>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many run and how many wait, as they fit one word: who gives a place back and who begins to wait must not miss
/// each other.
#[derive(Clone, Copy)]
struct Counts {
    running: u32,
    /// Changed under the lock of the queue only.
    waiting: u32,
}

impl Counts {
    /// A newcomer runs, if there is a place and nobody has waited for it.
    fn arrive(self, limit: u32) -> Option<Self> {
        (!self.must_wait(limit)).then(|| Self { running: self.running + 1, ..self })
    }

    const fn must_wait(self, limit: u32) -> bool {
        self.waiting > 0 || self.running >= limit
    }

    fn wait(self) -> Self {
        Self { waiting: self.waiting + 1, ..self }
    }

    /// Somebody who waited runs.
    fn admit(self, limit: u32) -> Option<Self> {
        self.has_place_for_waiting(limit)
            .then(|| Self { running: self.running + 1, waiting: self.waiting - 1 })
    }

    const fn has_place_for_waiting(self, limit: u32) -> bool {
        self.waiting > 0 && self.running < limit
    }

    fn give_up(self) -> Self {
        Self { waiting: self.waiting.saturating_sub(1), ..self }
    }

    fn leave(self) -> Self {
        Self { running: self.running.saturating_sub(1), ..self }
    }

    const fn pack(self) -> u64 {
        (self.running as u64) << 32 | self.waiting as u64
    }

    const fn unpack(word: u64) -> Self {
        Self { running: (word >> 32) as u32, waiting: word as u32 }
    }
}

/// How long a handler usually takes: a running median, which an hour-long stream among a thousand requests does not move.
///
/// Each request moves it by a sixteenth towards itself. Two that do so at once may count as one.
// spec: Q. Ma, S. Muthukrishnan, M. Sandler, Frugal Streaming for Estimating Quantiles, 2013
#[derive(Debug, Default)]
struct Usual(AtomicU64);

impl Usual {
    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }

    /// A request that was given up early says nothing; one that was given up late took that long at the least.
    fn on_held(&self, held: Duration, complete: bool) {
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        let usual = self.0.load(Relaxed);
        let next = match () {
            () if held <= usual && !complete => return,
            () if usual == 0 => held,
            () if held > usual => held.min(usual.saturating_add(usual / STEP + 1)),
            () => held.max(usual - usual / STEP),
        };
        self.0.store(next, Relaxed);
    }
}

const STEP: u64 = 16;

/// Who waits, in order of arrival.
#[derive(Debug)]
struct Queue<W> {
    next: u64,
    by_arrival: BTreeMap<Ticket, Waiter<W>>,
    load: Load,
    pace: Pace,
}

#[derive(Debug)]
struct Waiter<W> {
    until: Time,
    waiter: W,
}

/// Somebody who would have to wait.
struct Newcomer {
    limit: u32,
    usual: Duration,
    now: Time,
    deadline: Time,
}

/// What kind of queue it is.
//  Burst --not empty for 100 ms--> Standing --none refused for 100 ms--> Burst
#[derive(Clone, Copy, Debug)]
enum Load {
    /// It will be empty again soon; since when it has not been.
    Burst(Time),
    /// More come than can be answered; when the last one was refused for that.
    Standing(Time),
}

/// How long a queue may not be empty before it counts as standing, and how long nobody must have been refused before it
/// does no more.
const INTERVAL: Duration = Duration::from_millis(100);

/// How fast places come, since somebody waits.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    last: Time,
    gap: Duration,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        let load = Load::Burst(Time::ZERO);
        Self { next: 0, by_arrival: BTreeMap::new(), load, pace: Pace::default() }
    }
}

impl<W> Queue<W> {
    /// Returns until when a newcomer may wait, or why it should not.
    fn judge(&mut self, newcomer: &Newcomer, limits: &QueueLimits) -> Result<Time, NoPlace> {
        self.on_newcomer(newcomer);
        let waiting = u32::try_from(self.by_arrival.len()).unwrap_or(u32::MAX);
        if waiting >= limits.waiting_max {
            return Err(NoPlace::Full);
        }
        if let Load::Standing(refused) = &mut self.load
            && waiting >= standing_max(newcomer.limit)
        {
            *refused = newcomer.now;
            return Err(NoPlace::Standing);
        }
        let until = (newcomer.now + limits.wait_max).min(newcomer.deadline - newcomer.usual);
        if self.pace.place(waiting, newcomer.now) > until { Err(NoPlace::TooLate) } else { Ok(until) }
    }

    fn on_newcomer(&mut self, newcomer: &Newcomer) {
        let now = newcomer.now;
        if self.by_arrival.is_empty() {
            // Nobody has waited for a place, so all that is known of their pace is what the handlers promise.
            self.pace = Pace { last: now, gap: newcomer.usual / newcomer.limit.max(1) };
        }
        self.load = match self.load {
            Load::Burst(_) if self.by_arrival.is_empty() => Load::Burst(now),
            Load::Burst(since) if now.since(since) >= INTERVAL => Load::Standing(now),
            Load::Standing(refused) if now.since(refused) >= INTERVAL => Load::Burst(now),
            same => same,
        };
    }

    fn push(&mut self, until: Time, waiter: W) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.by_arrival.insert(ticket, Waiter { until, waiter });
        ticket
    }

    /// Returns until when the first one waits.
    fn first_until(&self) -> Option<Time> {
        self.by_arrival.first_key_value().map(|(_, waiter)| waiter.until)
    }

    fn pop(&mut self) -> Option<W> {
        self.by_arrival.pop_first().map(|(_, waiter)| waiter.waiter)
    }

    fn remove(&mut self, ticket: Ticket) -> Option<W> {
        self.by_arrival.remove(&ticket).map(|waiter| waiter.waiter)
    }
}

/// How many may wait in a standing queue: two standard deviations of what chance adds to a load at capacity, so that no
/// place is ever idle. For a hundred places these are twenty, so nobody waits longer than a fifth of what a handler takes.
const fn standing_max(limit: u32) -> u32 {
    2 * (limit.saturating_sub(1).isqrt() + 1)
}

impl Pace {
    /// Returns when somebody may expect a place before whom `waiting` wait. If the next place has taken longer than usual
    /// already, so may the others: handlers that hang have no pace.
    fn place(&self, waiting: u32, now: Time) -> Time {
        now + self.gap.max(now.since(self.last)).saturating_mul(waiting.saturating_add(1))
    }

    /// Takes a place into account that somebody waited for: an eighth, as TCP does with a round trip.
    // spec: RFC 6298 2.3
    fn on_place(&mut self, now: Time) {
        let gap = now.since(self.last);
        *self = Self { last: now, gap: (self.gap.saturating_mul(7).saturating_add(gap)) / 8 };
    }
}

#[cfg(test)]
mod tests;
