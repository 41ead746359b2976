//! How long the requests of one window took: counts by size, good for a median and nothing finer.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{array, time::Duration};

/// Counts of durations, eight cells to each doubling: a reading is off by a sixteenth at most.
#[derive(Debug)]
pub(super) struct Durations {
    cells: Box<[AtomicU32; CELLS]>,
    count: AtomicU32,
}

impl Default for Durations {
    fn default() -> Self {
        Self { cells: Box::new(array::from_fn(|_| AtomicU32::new(0))), count: AtomicU32::new(0) }
    }
}

impl Durations {
    pub(super) fn on_duration(&self, duration: Duration) {
        self.cells[cell(nanos(duration))].fetch_add(1, Relaxed);
        self.count.fetch_add(1, Relaxed);
    }

    pub(super) fn count(&self) -> u32 {
        self.count.load(Relaxed)
    }

    /// Takes out everything and returns the median of it; what is counted meanwhile is in this reading or in the next.
    pub(super) fn take_median(&self) -> Option<Duration> {
        let mut counts = [0_u64; CELLS];
        for (count, cell) in counts.iter_mut().zip(self.cells.iter()) {
            *count = cell.swap(0, Relaxed).into();
        }
        self.count.store(0, Relaxed);
        let total: u64 = counts.iter().sum();
        let mut seen = 0;
        let median = counts.iter().position(|count| {
            seen += count;
            total > 0 && 2 * seen >= total
        });
        median.map(|cell| Duration::from_nanos(middle(cell)))
    }
}

/// Below this number of nanoseconds each has a cell of its own.
const FINE: u64 = 8;
const CELLS: usize = 8 + 61 * 8;

/// Returns the cell of a duration: its highest bit and the three below it.
fn cell(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let doublings = nanos.ilog2() - 3;
    (FINE + u64::from(doublings) * 8 + (nanos >> doublings & 7)) as usize
}

/// Returns the middle of what falls into a cell.
fn middle(cell: usize) -> u64 {
    let cell = cell as u64;
    if cell < FINE {
        return cell;
    }
    let (doublings, step) = ((cell - FINE) / 8, (cell - FINE) % 8);
    ((FINE + step) << doublings) + ((1 << doublings) >> 1)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, Seeded};

    #[test]
    fn every_duration_has_a_cell_whose_middle_is_within_a_sixteenth_of_it() {
        let mut dice = Seeded::new(1);
        let powers = (0..64).flat_map(|bit| [1 << bit, (1 << bit) - 1, (1 << bit) | (1 << bit >> 1)]);
        let any = (0..10_000).map(|_| dice.roll() >> dice.below(64));
        for nanos in powers.chain(any).chain([0, u64::MAX]).collect::<Vec<_>>() {
            let middle = middle(cell(nanos));
            assert!(middle.abs_diff(nanos) <= nanos / 16 + 1, "{nanos} is counted as {middle}");
        }
    }

    #[test]
    fn the_median_is_not_moved_by_what_takes_an_hour_and_is_taken_out_once() {
        let durations = Durations::default();
        assert_eq!(durations.take_median(), None);
        (0..10).for_each(|_| durations.on_duration(Duration::from_millis(16)));
        (0..9).for_each(|_| durations.on_duration(Duration::from_secs(3_600)));
        assert_eq!(durations.count(), 19);
        let median = durations.take_median().unwrap();
        assert!(median.abs_diff(Duration::from_millis(16)) <= Duration::from_millis(1), "{median:?}");
        assert_eq!((durations.count(), durations.take_median()), (0, None));
    }
}
