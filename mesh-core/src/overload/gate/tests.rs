//! Who runs, who waits and who is refused, at every limit.

use super::*;
use crate::dice::{Dice, Seeded};
use std::sync::atomic::AtomicU32;

const MS: Duration = Duration::from_millis(1);

#[test]
fn as_many_run_as_the_limit_says_and_the_others_wait_in_order() {
    let gate = gate(QueueLimits::default());
    assert_eq!((0..5).filter(|&n| enter(&gate, 3, n).is_none()).count(), 3);
    assert_eq!((gate.running(), gate.waiting()), (3, 2));
    gate.leave(MS, true);
    assert_eq!(gate.admit_next(3, at(1)), Some(3));
    assert_eq!(gate.admit_next(3, at(1)), None);
    gate.leave(MS, true);
    gate.leave(MS, true);
    assert_eq!((gate.admit_next(3, at(2)), gate.admit_next(3, at(2))), (Some(4), None));
    assert_eq!((gate.running(), gate.waiting()), (2, 0));
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait() {
    let gate = gate(QueueLimits::default());
    enter(&gate, 1, 0);
    enter(&gate, 1, 1);
    // The place is free, and not handed on yet.
    gate.leave(MS, true);
    assert!(enter(&gate, 1, 2).is_some());
    assert_eq!((gate.admit_next(1, at(1)), gate.admit_next(1, at(1))), (Some(1), None));
}

#[test]
fn a_higher_limit_admits_as_many_as_it_has_places_for_and_a_lower_one_none_until_enough_are_gone() {
    let gate = gate(QueueLimits::default());
    (0..6).for_each(|n| _ = enter(&gate, 2, n));
    assert_eq!([(); 3].map(|()| gate.admit_next(4, at(1))), [Some(2), Some(3), None]);
    for _ in 0..2 {
        gate.leave(MS, true);
        assert_eq!(gate.admit_next(2, at(2)), None);
    }
    gate.leave(MS, true);
    assert_eq!(gate.admit_next(2, at(2)), Some(4));
}

#[test]
fn who_withdraws_frees_its_place_in_the_queue_and_is_not_admitted() {
    let gate = gate(QueueLimits { waiting_max: 1, ..QueueLimits::default() });
    enter(&gate, 1, 0);
    let ticket = enter(&gate, 1, 1).unwrap();
    assert_eq!(refused(&gate, at(0), Time::MAX), Some(NoPlace::Full));
    assert!(gate.withdraw(ticket));
    assert!(!gate.withdraw(ticket));
    enter(&gate, 1, 2);
    gate.leave(MS, true);
    assert_eq!(gate.admit_next(1, at(1)), Some(2));
    assert_eq!((gate.running(), gate.waiting()), (1, 0));
}

#[test]
fn nobody_waits_longer_than_allowed_and_a_place_is_not_wasted_on_who_has() {
    let gate = gate(QueueLimits { wait_max: 50 * MS, ..QueueLimits::default() });
    enter(&gate, 1, 0);
    let Entry::Waiting { until, .. } = gate.enter(1, at(0), Time::MAX, || 1) else {
        panic!("it does not wait")
    };
    assert_eq!(until, at(50));
    gate.enter(1, at(20), Time::MAX, || 2);
    gate.leave(MS, true);
    assert_eq!(gate.admit_next(1, at(51)), Some(2));
    assert_eq!((gate.running(), gate.waiting()), (1, 0));
}

/// Handlers usually take 20 ms, two at a time: a place comes every 10 ms.
#[test]
fn who_could_not_be_answered_by_its_deadline_is_refused_at_once() {
    let gate = busy(2, 20);
    // Ten milliseconds for the place, twenty for the handler.
    assert_eq!(refused_of(&gate, 2, at(0), at(29)), Some(NoPlace::TooLate));
    assert_eq!(refused_of(&gate, 2, at(0), at(30)), None);
    // And ten more for the one before it.
    assert_eq!(refused_of(&gate, 2, at(0), at(39)), Some(NoPlace::TooLate));
    assert_eq!(refused_of(&gate, 2, at(0), at(40)), None);
    assert_eq!(gate.waiting(), 2);
}

#[test]
fn a_request_that_finds_a_place_is_not_judged_by_its_deadline() {
    let gate = busy(2, 20);
    gate.leave(20 * MS, true);
    assert_eq!(gate.enter(2, at(0), at(0), || 0), Entry::Admitted);
}

#[test]
fn the_pace_of_places_is_what_it_is_and_not_what_handlers_promise() {
    // Ten places, nine of them taken for hours: one place every 20 ms.
    let gate = busy(10, 20);
    let mut now = 0;
    gate.enter(10, at(now), Time::MAX, || 0);
    for _ in 0..50 {
        gate.enter(10, at(now), Time::MAX, || 0);
        now += 20;
        gate.leave(20 * MS, true);
        assert!(gate.admit_next(10, at(now)).is_some());
    }
    // One waits, so its place comes after two of 20 ms.
    assert_eq!(refused_of(&gate, 10, at(now), at(now + 59)), Some(NoPlace::TooLate));
    assert_eq!(refused_of(&gate, 10, at(now), at(now + 60)), None);
}

#[test]
fn when_handlers_hang_a_request_with_a_deadline_is_refused_at_once() {
    let gate = busy(2, 20);
    gate.enter(2, at(0), Time::MAX, || 0);
    assert_eq!(refused_of(&gate, 2, at(500), at(500 + 1_000)), Some(NoPlace::TooLate));
}

//  Burst --not empty for 100 ms--> Standing --none refused for 100 ms--> Burst
#[test]
fn a_burst_may_wait_and_a_standing_queue_is_cut_to_twice_the_root_of_the_limit() {
    let gate = busy(9, 90);
    assert_eq!((0..50).filter_map(|_| refused_of(&gate, 9, at(0), Time::MAX)).count(), 0);
    // The queue has not been empty for 100 ms.
    assert_eq!(refused_of(&gate, 9, at(100), Time::MAX), Some(NoPlace::Standing));
    hand_on_until(&gate, 5, at(100));
    assert_eq!(refused_of(&gate, 9, at(150), Time::MAX), None);
    assert_eq!(refused_of(&gate, 9, at(150), Time::MAX), Some(NoPlace::Standing));
    // Being empty for a moment changes nothing.
    hand_on_until(&gate, 0, at(200));
    let refused = |now, of| (0..of).filter_map(|_| refused_of(&gate, 9, at(now), Time::MAX)).count();
    assert_eq!(refused(249, 10), 4);
    // Nobody was refused for 100 ms.
    assert_eq!(refused(349, 3), 0);
    assert_eq!(gate.waiting(), 9);
}

/// Every kind of queue with every event, and what becomes of the newcomer after it. There is one place, and a standing
/// queue has room for two.
#[test]
fn every_state_of_a_queue_meets_every_event() {
    #[derive(Clone, Copy, Debug)]
    enum State {
        Empty,
        Burst,
        Standing,
    }
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Nothing,
        TimePasses,
        PlaceComes,
        OneWithdraws,
    }
    use {Event::*, State::*};
    let table = [
        (Empty, Nothing, None),
        (Empty, TimePasses, None),
        (Empty, PlaceComes, None),
        (Empty, OneWithdraws, None),
        (Burst, Nothing, None),
        (Burst, TimePasses, Some(NoPlace::Standing)),
        (Burst, PlaceComes, None),
        (Burst, OneWithdraws, None),
        (Standing, Nothing, Some(NoPlace::Standing)),
        (Standing, TimePasses, None),
        (Standing, PlaceComes, None),
        (Standing, OneWithdraws, None),
    ];
    for (state, event, expected) in table {
        let gate = busy(1, 90);
        let mut tickets = Vec::new();
        if !matches!(state, Empty) {
            tickets.extend((0..2).filter_map(|name| enter(&gate, 1, name)));
        }
        if let Standing = state {
            assert_eq!(refused(&gate, at(100), Time::MAX), Some(NoPlace::Standing));
        }
        let mut now = if let Standing = state { at(150) } else { at(50) };
        match event {
            Nothing => {}
            TimePasses => now = now + 50 * MS,
            PlaceComes => {
                gate.leave(90 * MS, true);
                gate.admit_next(1, now);
            }
            OneWithdraws => {
                assert_eq!(tickets.pop().is_some_and(|it| gate.withdraw(it)), !matches!(state, Empty))
            }
        }
        assert_eq!(refused(&gate, now, Time::MAX), expected, "{state:?} on {event:?}");
    }
}

#[test]
fn a_standing_queue_has_room_for_twice_the_root_of_the_limit_and_never_for_none() {
    let table = [(0, 2), (1, 2), (2, 4), (4, 4), (5, 6), (9, 6), (10, 8), (100, 20), (u32::MAX, 131_072)];
    assert!(table.iter().all(|&(limit, max)| standing_max(limit) == max));
}

#[test]
fn what_is_usual_is_not_moved_by_streams_nor_by_what_was_given_up_early() {
    let usual = Usual::default();
    let mut dice = Seeded::new(5);
    for _ in 0..2_000 {
        match dice.below(10) {
            0 => usual.on_held(Duration::from_secs(3_600), true),
            1..4 => usual.on_held(MS, false),
            _ => usual.on_held(Duration::from_millis(15 + dice.below(11)), true),
        }
    }
    assert!((15 * MS..28 * MS).contains(&usual.get()), "{:?}", usual.get());
    // What is given up late took that long at the least.
    (0..500).for_each(|_| usual.on_held(100 * MS, false));
    assert_eq!(usual.get(), 100 * MS);
}

#[test]
fn no_limit_and_no_time_are_too_much() {
    for limit in [0, 1, u32::MAX] {
        let gate = gate(QueueLimits { waiting_max: u32::MAX, wait_max: Duration::MAX });
        for (now, deadline) in [(Time::MAX, Time::ZERO), (Time::ZERO, Time::MAX), (Time::MAX, Time::MAX)] {
            gate.enter(limit, now, deadline, || 0);
            gate.enter(limit, now, deadline, || 0);
            gate.leave(Duration::MAX, true);
            gate.admit_next(limit, now);
        }
    }
}

/// Who waits in a channel of its own is woken by whoever leaves; nobody is forgotten, and never do more run than may.
#[test]
fn threads_that_come_and_go_at_once_forget_nobody() {
    let gate = Gate::new(QueueLimits { waiting_max: 4, wait_max: Duration::MAX });
    let (running, refused, answered) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (gate, running, refused, answered) = (&gate, &running, &refused, &answered);
            scope.spawn(move || {
                let mut dice = Seeded::new(seed);
                for _ in 0..2_000 {
                    let (told, place) = std::sync::mpsc::channel();
                    match gate.enter(2, Time::ZERO, Time::MAX, || told) {
                        Entry::Refused(_) => {
                            refused.fetch_add(1, Relaxed);
                            continue;
                        }
                        Entry::Waiting { ticket, .. } if dice.below(4) == 0 && gate.withdraw(ticket) => {
                            continue;
                        }
                        Entry::Waiting { .. } => place.recv_timeout(Duration::from_secs(20)).unwrap(),
                        Entry::Admitted => {}
                    }
                    assert!(running.fetch_add(1, Relaxed) < 2);
                    answered.fetch_add(1, Relaxed);
                    running.fetch_sub(1, Relaxed);
                    gate.leave(MS, true);
                    while let Some(told) = gate.admit_next(2, Time::ZERO) {
                        told.send(()).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!((gate.running(), gate.waiting()), (0, 0));
    assert!(answered.into_inner() > 0);
}

fn gate(limits: QueueLimits) -> Gate<u32> {
    Gate::new(limits)
}

/// A gate whose places are all taken, by handlers that usually take so many milliseconds.
fn busy(limit: u32, millis: u32) -> Gate<u32> {
    let gate = gate(QueueLimits::default());
    gate.usual.on_held(millis * MS, true);
    (0..limit).for_each(|n| assert_eq!(gate.enter(limit, at(0), Time::MAX, || n), Entry::Admitted));
    gate
}

/// Lets handlers of `busy` end until only so many wait.
fn hand_on_until(gate: &Gate<u32>, waiting: u32, now: Time) {
    while gate.waiting() > waiting {
        gate.leave(90 * MS, true);
        gate.admit_next(9, now);
    }
}

/// Enters, at the beginning and without a deadline; returns the ticket if it waits.
fn enter(gate: &Gate<u32>, limit: u32, name: u32) -> Option<Ticket> {
    match gate.enter(limit, at(0), Time::MAX, || name) {
        Entry::Admitted => None,
        Entry::Waiting { ticket, .. } => Some(ticket),
        Entry::Refused(why) => panic!("{name} is refused: {why:?}"),
    }
}

fn refused(gate: &Gate<u32>, now: Time, deadline: Time) -> Option<NoPlace> {
    refused_of(gate, 1, now, deadline)
}

fn refused_of(gate: &Gate<u32>, limit: u32, now: Time, deadline: Time) -> Option<NoPlace> {
    match gate.enter(limit, now, deadline, || 0) {
        Entry::Refused(why) => Some(why),
        Entry::Admitted | Entry::Waiting { .. } => None,
    }
}

fn at(millis: u32) -> Time {
    Time::ZERO + millis * MS
}
