//! A histogram of durations with Istio's buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Counts of durations by bucket; the last bucket has no bound.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, PartialEq)]
pub(super) struct Reading {
    /// Upper bound in milliseconds, and how many were not above it; the last bound is infinite.
    pub(super) cumulative: Vec<(f64, u64)>,
    pub(super) sum_millis: f64,
}

impl Histogram {
    pub(super) fn on_duration(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(micros, Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    pub(super) fn read(&self) -> Reading {
        let bounds = BOUNDS_MICROS.iter().map(|&micros| micros as f64 / 1000.0).chain([f64::INFINITY]);
        let mut sum = 0;
        let cumulative = bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                sum += bucket.load(Relaxed);
                (bound, sum)
            })
            .collect();
        Reading { cumulative, sum_millis: self.sum_micros.load(Relaxed) as f64 / 1000.0 }
    }
}

// spec: envoy config/metrics/v3/stats.proto HistogramBucketSettings, the default buckets (there in milliseconds)
const BOUNDS_MICROS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_that_is_not_below_it() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 1_000_000, 3_600_000_001] {
            histogram.on_duration(Duration::from_micros(micros));
        }
        let counts: Vec<_> = histogram.read().cumulative.into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5]);
        assert_eq!(histogram.count(), 5);
    }

    #[test]
    fn the_bounds_are_written_in_milliseconds_and_end_with_infinity() {
        let bounds: Vec<_> =
            Histogram::default().read().cumulative.into_iter().map(|(bound, _)| bound).collect();
        assert_eq!((bounds[0], bounds[1], bounds[19]), (0.5, 1.0, f64::INFINITY));
        assert!(bounds.is_sorted());
    }
}
