//! How the limit moves, window by window.

use super::*;
use crate::dice::{Highest, Lowest, Seeded};

const MS: Duration = Duration::from_millis(1);

#[test]
fn it_begins_at_its_minimum_and_with_a_probe() {
    let mut it = Subject::new(AdaptiveLimit::default());
    assert_eq!((it.gradient.limit(), it.gradient.base()), (3, Duration::ZERO));
    assert_eq!(it.answers(49, 20, 3), [Change::None; 49]);
    let base = it.median(20);
    assert_eq!(it.answers(1, 20, 3), [Change::Settled { limit: 3, base }]);
}

#[test]
fn it_grows_while_requests_take_no_longer_than_alone_up_to_its_maximum() {
    let mut it = Subject::settled();
    let limits: Vec<_> = (0..30).map(|_| it.window(20, u32::MAX)).collect();
    // 3 * 1.25 and its root; and so on.
    assert_eq!(limits[..4], [5, 8, 13, 20]);
    assert_eq!(limits.last(), Some(&1_000));
}

#[test]
fn it_halves_at_most_in_a_window_however_slow_requests_get() {
    let mut it = Subject::settled();
    it.gradient.limit.store(100, Relaxed);
    // Half of it, and room for a burst.
    assert_eq!(it.window(2_000, 100), 57);
}

#[test]
fn it_settles_where_requests_take_a_quarter_longer_and_a_burst_has_room() {
    let mut it = Subject::settled();
    // Ten at a time are answered in 20 ms, more in proportion.
    for _ in 0..30 {
        let limit = it.gradient.limit();
        it.window(20 * limit.max(10) / 10, limit);
    }
    assert!((14..=18).contains(&it.gradient.limit()), "{}", it.gradient.limit());
}

#[test]
fn it_does_not_grow_that_half_of_would_do() {
    let mut it = Subject::settled();
    it.gradient.limit.store(40, Relaxed);
    assert_eq!(it.window(20, 19), 40);
    assert_eq!(it.window(20, 20), 57);
}

#[test]
fn a_window_ends_when_its_time_is_over_and_ten_answers_are_in() {
    let mut it = Subject::settled();
    assert_eq!(it.answers(9, 20, 3), [Change::None; 9]);
    it.now = it.now + 100 * MS;
    assert!(matches!(it.answers(1, 20, 3)[..], [Change::Settled { limit: 5, .. }]));
    assert_eq!(it.answers(20, 20, 5), [Change::None; 20]);
}

#[test]
fn a_probe_lets_half_of_those_run_that_would_not_slow_each_other_down_and_gives_the_limit_back() {
    let mut it = Subject::settled();
    it.now = it.now + 10_000 * MS;
    it.changes(10, 20, 19);
    it.gradient.limit.store(40, Relaxed);
    let before = it.now;
    // A hundred in 100 ms, of 20 ms each, are twenty at a time.
    it.now = it.now + 99 * MS;
    assert_eq!(it.answers(99, 40, 40), [Change::None; 99]);
    it.now = it.now + MS;
    assert_eq!(it.answers(1, 40, 40), [Change::Probing { limit: 10 }]);
    // These were slowed down by more than may run now.
    let stale = (0..100).map(|_| it.gradient.on_answer(before, it.now, true, 40, &mut Lowest));
    assert!(stale.collect::<Vec<_>>().iter().all(|change| *change == Change::None));
    it.now = it.now + 60 * MS;
    let base = it.median(30);
    assert_eq!(it.changes(50, 30, 10), [Change::Settled { limit: 30, base }]);
}

#[test]
fn there_is_no_probe_while_requests_take_no_longer_than_in_the_last_one() {
    let mut it = Subject::settled();
    let changes: Vec<_> = (0..600).flat_map(|_| it.calm_window()).collect();
    assert!(it.now > Time::ZERO + 60_000 * MS);
    assert!(changes.iter().all(|change| matches!(change, Change::Settled { .. })));
}

#[test]
fn a_limit_that_stays_at_its_minimum_is_measured_again() {
    let mut it = Subject::settled();
    let changes: Vec<_> = (0..5).flat_map(|_| it.slow_window()).collect();
    assert!(
        changes[..4].iter().all(|change| matches!(change, Change::Settled { limit: 3, .. })),
        "{changes:?}"
    );
    assert_eq!(changes[4..], [Change::Probing { limit: 3 }]);
    it.now = it.now + 1_000 * MS;
    let base = it.median(500);
    assert_eq!(it.changes(50, 500, 3), [Change::Settled { limit: 3, base }]);
}

#[test]
fn probes_are_ten_seconds_apart_give_or_take_and_longer_if_they_take_long() {
    let gradient = Gradient::new(AdaptiveLimit::default(), Time::ZERO);
    let now = Time::ZERO + 200 * MS;
    assert_eq!(now.until(gradient.next_probe(Time::ZERO, now, &mut Lowest)), 10_000 * MS);
    let late = now.until(gradient.next_probe(Time::ZERO, now, &mut Highest));
    assert!((11_499 * MS..=11_500 * MS).contains(&late), "{late:?}");
    let now = Time::ZERO + 2_000 * MS;
    assert_eq!(now.until(gradient.next_probe(Time::ZERO, now, &mut Lowest)), 40_000 * MS);
}

#[test]
fn what_is_given_up_counts_only_if_it_is_known_to_be_slow() {
    let given_up = |it: &Subject, took: u32| {
        it.gradient.on_answer(it.now - took * MS, it.now, false, 3, &mut Lowest);
        it.gradient.window.durations.count()
    };
    let mut fresh = Subject::new(AdaptiveLimit::default());
    fresh.now = fresh.now + 1_000 * MS;
    assert_eq!(given_up(&fresh, 500), 0);
    let mut it = Subject::settled();
    it.now = it.now + 1_000 * MS;
    assert_eq!([given_up(&it, 1), given_up(&it, 20), given_up(&it, 500)], [0, 0, 1]);
}

#[test]
fn bounds_that_contradict_each_other_and_times_that_do_not_exist_are_survived() {
    let bounds =
        AdaptiveLimit { limit_min: 7, limit_max: 2, window: Duration::MAX, probe_interval: Duration::MAX };
    for bounds in [bounds, AdaptiveLimit { limit_min: u32::MAX, window: Duration::ZERO, ..bounds }] {
        let gradient = Gradient::new(bounds, Time::MAX);
        for (since, now) in [(Time::MAX, Time::ZERO), (Time::ZERO, Time::MAX), (Time::MAX, Time::MAX)] {
            for _ in 0..200 {
                gradient.on_answer(since, now, true, u32::MAX, &mut Highest);
            }
        }
        assert!(gradient.limit() >= 7);
    }
}

#[test]
fn threads_that_answer_at_once_end_each_window_once() {
    let it = Subject::settled();
    let (gradient, now) = (&it.gradient, it.now + 200 * MS);
    let settled: usize = std::thread::scope(|scope| {
        let answer = move |_| gradient.on_answer(now - 20 * MS, now, true, 3, &mut Seeded::new(1));
        let count = move || (0..1_000).map(answer).filter(|change| *change != Change::None).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((settled, it.gradient.limit()), (1, 5));
}

struct Subject {
    gradient: Gradient,
    now: Time,
}

impl Subject {
    fn new(bounds: AdaptiveLimit) -> Self {
        Self { gradient: Gradient::new(bounds, Time::ZERO), now: Time::ZERO }
    }

    /// One whose base is 20 ms.
    fn settled() -> Self {
        let mut it = Self::new(AdaptiveLimit::default());
        it.now = it.now + 30 * MS;
        it.answers(50, 20, 3);
        it
    }

    /// So many answers that took so many milliseconds, while so many ran.
    fn answers(&mut self, count: u32, took: u32, running: u32) -> Vec<Change> {
        let since = self.now - took * MS;
        // The very first ones are as old as the limit.
        let (since, now) = if since == Time::ZERO { (since, since + took * MS) } else { (since, self.now) };
        (0..count).map(|_| self.gradient.on_answer(since, now, true, running, &mut Lowest)).collect()
    }

    fn changes(&mut self, count: u32, took: u32, running: u32) -> Vec<Change> {
        self.answers(count, took, running).into_iter().filter(|change| *change != Change::None).collect()
    }

    /// A whole window of such answers; returns the limit after it.
    fn window(&mut self, took: u32, running: u32) -> u32 {
        self.now = self.now + (100 + took) * MS;
        self.changes(10, took, running);
        self.gradient.limit()
    }

    fn calm_window(&mut self) -> Vec<Change> {
        self.now = self.now + 120 * MS;
        self.changes(10, 22, 3)
    }

    fn slow_window(&mut self) -> Vec<Change> {
        self.now = self.now + 600 * MS;
        self.changes(10, 500, 3)
    }

    /// What is read when all take so many milliseconds.
    fn median(&self, took: u32) -> Duration {
        let durations = Durations::default();
        durations.on_duration(took * MS);
        durations.take_median().unwrap()
    }
}
