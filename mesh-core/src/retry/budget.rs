//! The retry ceiling that is always on: requests deposit, retries borrow, a retry that succeeds gives back.
//!
//! Useful retries are free; futile ones stop at a fifth of the requests, plus the tokens a destination starts with.
//! Tokens are counted in thousandths, so that no sequence of deposits rounds in anybody's favour.
//!
//! The bucket holds at most what the last two seconds deposited, but never less than ten tokens. "The last two seconds"
//! are the whole second of the clock that runs and the whole one before it: between one and two seconds, never more.

use crate::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Time,
};
use std::fmt;

/// The tokens of one destination host, shared by every request of the process to it.
///
/// Two words of atomics and no lock: a request pays two uncontended exchanges.
pub struct Budget {
    /// Thousandths of a token. May stand above the cap until the next deposit or loan cuts it.
    tokens: AtomicU64,
    /// Requests in the second that runs and the one before, which set the cap: see [`Seconds`].
    seconds: AtomicU64,
}

/// A token borrowed for a retry. Dropping it spends the token; [`Loan::on_success`] gives it back.
#[derive(Debug)]
#[must_use = "dropping a loan spends its token"]
pub struct Loan(Arc<Budget>);

impl Budget {
    /// Counts a request (not a retry): a fifth of a token.
    pub fn deposit(&self, now: Time) {
        let cap = self.roll(now, 1).cap();
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens + DEPOSIT).min(cap)));
    }

    /// Borrows a token for a retry, or returns `None` if there is none left: then the failure stands.
    pub fn borrow(self: &Arc<Self>, now: Time) -> Option<Loan> {
        let cap = self.roll(now, 0).cap();
        self.tokens
            .fetch_update(Relaxed, Relaxed, |tokens| tokens.min(cap).checked_sub(TOKEN))
            .ok()
            .map(|_| Loan(Arc::clone(self)))
    }

    /// Returns how many whole tokens are left, for display.
    pub fn available(&self) -> u64 {
        self.tokens.load(Relaxed) / TOKEN
    }

    /// Moves the windows to `now` and counts `requests` in the one that runs.
    fn roll(&self, now: Time, requests: u64) -> Seconds {
        let mut seen = self.seconds.load(Relaxed);
        loop {
            let next = Seconds::unpack(seen).at(now).count(requests);
            if next.pack() == seen {
                return next;
            }
            match self.seconds.compare_exchange_weak(seen, next.pack(), Relaxed, Relaxed) {
                Ok(_) => return next,
                Err(other) => seen = other,
            }
        }
    }
}

/// Full: a destination begins with ten tokens.
impl Default for Budget {
    fn default() -> Self {
        Self { tokens: AtomicU64::new(CAP_MIN), seconds: AtomicU64::new(0) }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("available", &self.available()).finish_non_exhaustive()
    }
}

impl Loan {
    /// Gives the token back, because the retry was worth it.
    pub fn on_success(self) {
        self.give_back();
    }

    /// Gives the token back, because the retry was not made after all.
    pub fn on_unused(self) {
        self.give_back();
    }

    fn give_back(self) {
        self.0.tokens.fetch_add(TOKEN, Relaxed);
    }
}

/// Two windows of one second each, as they fit one word.
#[derive(Clone, Copy)]
struct Seconds {
    /// The second that runs, modulo 2^24.
    number: u64,
    /// Requests in it.
    running: u64,
    /// Requests in the one before.
    before: u64,
}

impl Seconds {
    fn at(self, now: Time) -> Self {
        let number = (now.as_nanos() / 1_000_000_000) & NUMBER_MAX;
        match number.wrapping_sub(self.number) & NUMBER_MAX {
            0 => self,
            1 => Self { number, running: 0, before: self.running },
            // A thread that read its clock before another one counted: it counts in the second that runs.
            passed if passed > NUMBER_MAX - LATE_MAX => self,
            _ => Self { number, running: 0, before: 0 },
        }
    }

    fn count(self, requests: u64) -> Self {
        Self { running: (self.running + requests).min(COUNT_MAX), ..self }
    }

    fn cap(self) -> u64 {
        ((self.running + self.before) * DEPOSIT).max(CAP_MIN)
    }

    fn unpack(word: u64) -> Self {
        Self { number: word >> 40, running: word >> 20 & COUNT_MAX, before: word & COUNT_MAX }
    }

    fn pack(self) -> u64 {
        self.number << 40 | self.running << 20 | self.before
    }
}

const TOKEN: u64 = 1_000;
const DEPOSIT: u64 = TOKEN / 5;
const CAP_MIN: u64 = 10 * TOKEN;
const NUMBER_MAX: u64 = (1 << 24) - 1;
/// A million requests a second to one host from one process: beyond it the cap stops growing, which only errs towards
/// fewer retries.
const COUNT_MAX: u64 = (1 << 20) - 1;
/// Seconds by which a thread may be late with its reading of the clock.
const LATE_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, Seeded};
    use proptest::prelude::*;
    use std::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_new_destination_has_ten_tokens_and_no_more() {
        let budget = Arc::new(Budget::default());
        let loans: Vec<_> = std::iter::from_fn(|| budget.borrow(Time::ZERO)).collect();
        assert_eq!(loans.len(), 10);
    }

    #[test]
    fn five_requests_buy_one_retry() {
        let budget = drained();
        for _ in 0..4 {
            budget.deposit(Time::ZERO);
            assert!(budget.borrow(Time::ZERO).is_none());
        }
        budget.deposit(Time::ZERO);
        assert!(budget.borrow(Time::ZERO).is_some());
        assert!(budget.borrow(Time::ZERO).is_none());
    }

    #[test]
    fn a_loan_is_spent_by_dropping_it_and_given_back_by_success_or_by_not_using_it() {
        let budget = Arc::new(Budget::default());
        drop(budget.borrow(Time::ZERO).unwrap());
        assert_eq!(budget.available(), 9);
        budget.borrow(Time::ZERO).unwrap().on_success();
        budget.borrow(Time::ZERO).unwrap().on_unused();
        assert_eq!(budget.available(), 9);
    }

    #[test]
    fn the_bucket_holds_at_most_what_the_last_two_seconds_deposited() {
        let budget = Arc::new(Budget::default());
        for ms in 0..10_000 {
            budget.deposit(Time::ZERO + ms * MS);
        }
        let now = Time::ZERO + 9_999 * MS;
        assert_eq!(std::iter::from_fn(|| budget.borrow(now)).count(), 400);
    }

    #[test]
    fn tokens_of_a_busy_time_are_gone_two_seconds_later_but_for_ten() {
        let budget = Arc::new(Budget::default());
        (0..1_000).for_each(|_| budget.deposit(Time::ZERO));
        assert_eq!(budget.available(), 200);
        let later = Time::ZERO + Duration::from_secs(2);
        assert_eq!(std::iter::from_fn(|| budget.borrow(later)).count(), 10);
    }

    #[test]
    fn a_clock_read_a_little_late_counts_in_the_second_that_runs() {
        let budget = drained();
        let now = Time::ZERO + Duration::from_secs(100);
        (0..500).for_each(|_| budget.deposit(now));
        budget.deposit(now - 5 * MS);
        assert_eq!(std::iter::from_fn(|| budget.borrow(now)).count(), 100);
    }

    #[test]
    fn seconds_and_counts_beyond_their_fields_wrap_and_saturate_without_spilling() {
        let far = Time::MAX;
        let seconds = Seconds::unpack(0).at(far).count(u64::from(u32::MAX));
        assert_eq!(Seconds::unpack(seconds.pack()).running, COUNT_MAX);
        assert_eq!(Seconds::unpack(seconds.pack()).number, seconds.number);
        let wrapped = Seconds { number: NUMBER_MAX, running: 7, before: 0 }
            .at(Time::from_nanos((NUMBER_MAX + 1) * 1_000_000_000));
        assert_eq!((wrapped.number, wrapped.running, wrapped.before), (0, 0, 7));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Wait(u16),
        Request,
        Futile,
        Useful,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0..5_000_u16).prop_map(Step::Wait),
            6 => Just(Step::Request),
            4 => Just(Step::Futile),
            4 => Just(Step::Useful),
        ]
    }

    proptest! {
        #[test]
        fn futile_retries_never_exceed_a_fifth_of_the_requests_and_ten(
            steps in prop::collection::vec(step(), 0..2_000),
        ) {
            let budget = Arc::new(Budget::default());
            let (mut now, mut requests, mut futile) = (Time::ZERO, 0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Wait(ms) => now = now + u32::from(ms) * MS,
                    Step::Request => {
                        budget.deposit(now);
                        requests += 1;
                    }
                    Step::Futile => futile += u64::from(budget.borrow(now).is_some()),
                    Step::Useful => {
                        if let Some(loan) = budget.borrow(now) {
                            loan.on_success();
                        }
                    }
                }
                prop_assert!(5 * futile <= requests + 50, "{futile} futile retries of {requests} requests");
            }
        }
    }

    /// The model keeps the time of every request.
    #[test]
    fn over_random_days_a_budget_has_the_tokens_of_a_model_that_keeps_every_request() {
        for seed in 0..30 {
            let mut dice = Seeded::new(seed);
            let budget = Arc::new(Budget::default());
            let (mut now, mut tokens, mut requests) = (Time::ZERO, 10_000, Vec::new());
            for step in 0..1_000 {
                let longest = dice.below(200_000);
                now = now + Duration::from_micros(dice.below(1 + longest));
                let second = now.as_nanos() / 1_000_000_000;
                let cap = |requests: &[u64]| {
                    let counted = requests.iter().filter(|&&it| it + 1 >= second).count() as u64;
                    (200 * counted).max(10_000)
                };
                match dice.below(8) {
                    0 => {
                        let loan = budget.borrow(now);
                        tokens = tokens.min(cap(&requests));
                        assert_eq!(loan.is_some(), tokens >= 1_000, "seed {seed}, step {step}");
                        let is_useful = dice.below(2) == 0;
                        tokens -= if loan.is_some() && !is_useful { 1_000 } else { 0 };
                        loan.into_iter().filter(|_| is_useful).for_each(Loan::on_success);
                    }
                    _ => {
                        budget.deposit(now);
                        requests.push(second);
                        tokens = (tokens + 200).min(cap(&requests));
                    }
                }
                assert_eq!(budget.tokens.load(Relaxed), tokens, "seed {seed}, step {step}");
            }
        }
    }

    /// Every request fails at first; half of the retries help. What helps must not use the budget up.
    #[test]
    fn retries_that_succeed_are_free() {
        let budget = Arc::new(Budget::default());
        for ms in 0..60_000 {
            let now = Time::ZERO + ms * MS;
            budget.deposit(now);
            let loan = budget.borrow(now);
            assert!(loan.is_some(), "request {ms} had no retry");
            loan.into_iter().for_each(Loan::on_success);
        }
    }

    /// A destination is down for ten seconds, at every rate from 20 requests/s: at most 1.25 times the load reaches it.
    #[test]
    fn an_outage_of_ten_seconds_sees_at_most_a_quarter_more_load() {
        let mut dice = Seeded::new(11);
        for rate in [20, 21, 50, 100, 333, 1_000, 5_000] {
            let budget = Arc::new(Budget::default());
            let step = Duration::from_secs(1) / rate;
            // Healthy for a while first, so that the bucket is as full as it gets, then down.
            let start = Time::ZERO + Duration::from_nanos(dice.below(1_000_000_000));
            let (healthy, down) = (30 * rate, 10 * rate);
            (0..healthy).for_each(|n| budget.deposit(start + n * step));
            let retries = (healthy..healthy + down)
                .map(|n| start + n * step)
                .map(|now| {
                    budget.deposit(now);
                    std::iter::from_fn(|| budget.borrow(now)).take(2).count()
                })
                .sum::<usize>();
            assert!(
                4 * retries <= down as usize,
                "rate {rate}, seed 11: {retries} retries of {down} requests"
            );
        }
    }

    #[test]
    fn threads_that_deposit_and_borrow_at_once_lose_and_invent_no_token() {
        let budget = drained();
        let borrowed: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..5_000)
                            .filter(|_| {
                                budget.deposit(Time::ZERO);
                                budget.borrow(Time::ZERO).is_some()
                            })
                            .count()
                    })
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        let left = std::iter::from_fn(|| budget.borrow(Time::ZERO)).count();
        assert_eq!(borrowed + left, 4_000);
    }

    fn drained() -> Arc<Budget> {
        let budget = Arc::new(Budget::default());
        std::iter::from_fn(|| budget.borrow(Time::ZERO)).for_each(drop);
        budget
    }
}
