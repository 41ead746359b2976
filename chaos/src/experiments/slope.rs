//! Whether what a process holds grows.

use crate::{Failed, usage::Usage};
use std::time::Duration;

/// What one process held, again and again.
pub(super) struct Series {
    pub(super) name: &'static str,
    samples: Vec<(Duration, Usage)>,
}

impl Series {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, samples: Vec::new() }
    }

    /// Adds what it holds `at` that time.
    ///
    /// # Errors
    ///
    /// Returns that it is gone.
    pub(super) fn add(&mut self, at: Duration, usage: Option<Usage>) -> Result<(), Failed> {
        let usage = usage.ok_or_else(|| format!("the {} has ended after {at:.0?}", self.name))?;
        self.samples.push((at, usage));
        Ok(())
    }

    /// Returns by how much a figure grows in ten minutes: the slope of the line that fits best from `from` on.
    pub(super) fn per_ten_minutes(&self, from: Duration, figure: fn(&Usage) -> f64) -> f64 {
        let points = self.samples.iter().filter(|(at, _)| *at >= from);
        let points: Vec<_> = points.map(|(at, usage)| (at.as_secs_f64() / 600.0, figure(usage))).collect();
        slope(&points)
    }

    /// Returns by how much the median of the last third differs from that of the second third.
    pub(super) fn growth(&self, figure: fn(&Usage) -> f64) -> f64 {
        let third = self.samples.len() / 3;
        let median = |from: usize| {
            let part = self.samples.iter().skip(from).take(third);
            let mut figures: Vec<f64> = part.map(|(_, usage)| figure(usage)).collect();
            figures.sort_by(f64::total_cmp);
            figures.get(figures.len() / 2).copied().unwrap_or_default()
        };
        median(2 * third) - median(third)
    }

    /// Returns how a figure was at first, and at the end.
    pub(super) fn ends(&self, figure: fn(&Usage) -> f64) -> (f64, f64) {
        let at = |sample: Option<&(Duration, Usage)>| sample.map_or(0.0, |(_, usage)| figure(usage));
        (at(self.samples.first()), at(self.samples.last()))
    }
}

/// Returns the slope of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let across: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let along: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if along > 0.0 { across / along } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(figures: impl IntoIterator<Item = f64>) -> Series {
        let mut series = Series::of("a process");
        for (minute, figure) in (0..).zip(figures) {
            let usage = Usage { resident_kib: figure, descriptors: 0.0, threads: 0.0, tasks: 0.0 };
            series.add(Duration::from_secs(60 * minute), Some(usage)).unwrap();
        }
        series
    }

    #[test]
    fn what_grows_by_one_a_minute_grows_by_ten_in_ten_minutes_and_what_is_flat_does_not() {
        let growing = series((0..30).map(f64::from));
        assert!((growing.per_ten_minutes(Duration::ZERO, |usage| usage.resident_kib) - 10.0).abs() < 1e-9);
        assert!((growing.growth(|usage| usage.resident_kib) - 10.0).abs() < 1e-9);
        let flat = series([7.0; 30]);
        assert_eq!(flat.per_ten_minutes(Duration::ZERO, |usage| usage.resident_kib), 0.0);
        assert_eq!(flat.growth(|usage| usage.resident_kib), 0.0);
    }

    #[test]
    fn what_grew_only_at_the_start_counts_as_flat() {
        let warmed_up = series((0..30).map(|minute| f64::from(minute.min(5))));
        let slope = warmed_up.per_ten_minutes(Duration::from_secs(300), |usage| usage.resident_kib);
        assert!(slope.abs() < 1e-9, "{slope}");
        assert_eq!(warmed_up.growth(|usage| usage.resident_kib), 0.0);
    }
}
