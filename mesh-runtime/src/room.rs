//! A room for connections that are not admitted yet: bounded, and the ones that waited longest make place.
//!
//! A plain cap would let the first N silent sockets lock everybody else out. It does not know what the connections wait
//! for; who serves them does.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// A room with a fixed number of seats.
#[derive(Debug)]
pub struct Room {
    seats_max: usize,
    patience: Duration,
    seated: Mutex<Seated>,
}

#[derive(Debug, Default)]
struct Seated {
    next: u64,
    /// In order of arrival.
    by_arrival: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// A seat, free again when dropped.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Room>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Room {
    /// Returns a room in which whoever has sat for `patience` must make place for a newcomer.
    pub fn new(seats_max: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { seats_max, patience, seated: Mutex::default() })
    }

    /// Returns a seat; if there is none, that of the longest seated who has used up its patience; else nothing.
    pub fn enter(self: &Arc<Self>) -> Option<Seat> {
        let now = Instant::now();
        let (leave, evicted) = oneshot::channel();
        let mut seated = self.seated.lock().unwrap_or_else(PoisonError::into_inner);
        if seated.by_arrival.len() >= self.seats_max {
            let oldest = seated.by_arrival.first_entry()?;
            if now.saturating_duration_since(oldest.get().0) < self.patience {
                return None;
            }
            // The receiver may be gone already: then the seat is free all the same.
            let _ = oldest.remove().1.send(());
        }
        let number = seated.next;
        seated.next += 1;
        seated.by_arrival.insert(number, (now, leave));
        drop(seated);
        Some(Seat { room: Arc::clone(self), number, evicted })
    }
}

impl Seat {
    /// Runs `future` to its end, or returns `None` if this seat had to be given up first.
    pub async fn hold<F: Future>(mut self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            Ok(()) = &mut self.evicted => None,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = self.room.seated.lock().unwrap_or_else(PoisonError::into_inner);
        seated.by_arrival.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_seated_makes_place_only_after_its_patience() {
        let room = Room::new(2, Duration::from_secs(1));
        let first = room.enter().unwrap();
        let second = room.enter().unwrap();
        assert!(room.enter().is_none());
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = room.enter().unwrap();
        assert_eq!(first.hold(std::future::pending::<()>()).await, None);
        assert_eq!(second.hold(async { 2 }).await, Some(2));
        assert_eq!(third.hold(async { 3 }).await, Some(3));
    }

    #[tokio::test]
    async fn a_seat_is_free_again_when_its_holder_is_done_or_dropped() {
        let room = Room::new(1, Duration::MAX);
        drop(room.enter().unwrap());
        assert_eq!(room.enter().unwrap().hold(async { 1 }).await, Some(1));
        assert!(room.enter().is_some());
    }
}
