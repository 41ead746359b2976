//! Peak EWMA: how long an endpoint takes to answer, as a moving average that rises at once and falls slowly.
//!
//! Not Istio's: least request counts what is in flight, and does not see that one endpoint is slower than another while
//! both are nearly idle. Ours in the sense of Finagle's balancer of that name: of two endpoints the one is taken whose
//! latency, times the requests it would then have in flight, is less.
// spec: github.com/twitter/finagle finagle-core/src/main/scala/com/twitter/finagle/loadbalancer/PeakEwma.scala

use crate::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Time,
};
use std::time::Duration;

/// The latency of one endpoint, and when it was last measured: one word, so that both change at once.
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

#[derive(Clone, Copy)]
struct Average {
    /// 0 if nothing was measured yet.
    nanos: f32,
    /// Wraps after seven weeks, which does no harm: an average that old is nothing.
    at_ms: u32,
}

impl PeakEwma {
    /// An answer took so long.
    pub(crate) fn on_latency(&self, latency: Duration, now: Time) {
        let sample = latency.as_nanos().max(1) as f32;
        let add = |word| Some(Average::of(word).with(sample, ms(now)).word());
        let _ = self.0.fetch_update(Relaxed, Relaxed, add);
    }

    /// Returns what one more request would cost, in any unit: latency, times requests.
    ///
    /// The average of an idle endpoint falls, so that it is tried again. One that nothing is known of is asked once, and
    /// not again before it has answered.
    pub(crate) fn cost(&self, in_flight: u32, now: Time) -> f64 {
        let average = Average::of(self.0.load(Relaxed));
        if average.nanos == 0.0 {
            return UNKNOWN_NANOS * f64::from(in_flight);
        }
        f64::from(average.nanos) * average.decay(ms(now)) * (f64::from(in_flight) + 1.0)
    }
}

impl Average {
    fn of(word: u64) -> Self {
        Self { nanos: f32::from_bits((word >> 32) as u32), at_ms: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.nanos.to_bits()) << 32 | u64::from(self.at_ms)
    }

    /// A peak counts in full; anything lower by how long the average has had to forget.
    fn with(self, sample: f32, at_ms: u32) -> Self {
        let kept = self.decay(at_ms) as f32;
        let nanos = if sample > self.nanos { sample } else { self.nanos * kept + sample * (1.0 - kept) };
        Self { nanos, at_ms: self.at_ms.wrapping_add(self.age_ms(at_ms)) }
    }

    /// Returns how much of it is left.
    fn decay(self, at_ms: u32) -> f64 {
        (-f64::from(self.age_ms(at_ms)) / DECAY_MS).exp()
    }

    /// Threads may be told times a little apart: it is never younger than new.
    fn age_ms(self, at_ms: u32) -> u32 {
        at_ms.wrapping_sub(self.at_ms).cast_signed().max(0).cast_unsigned()
    }
}

fn ms(now: Time) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

// spec: finagle PeakEwma decayTime
const DECAY_MS: f64 = 10_000.0;
/// More than any answer should take.
const UNKNOWN_NANOS: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const START: Time = Time::from_nanos(1_000_000_000);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let latency = PeakEwma::default();
        latency.on_latency(10 * MS, START);
        latency.on_latency(100 * MS, START);
        assert_near(&latency, START, 100e6);
        latency.on_latency(10 * MS, START + 10_000 * MS);
        let expected = 100e6 * (-1.0_f64).exp() + 10e6 * (1.0 - (-1.0_f64).exp());
        assert_near(&latency, START + 10_000 * MS, expected);
        assert_near(&latency, START + 20_000 * MS, expected * (-1.0_f64).exp());
    }

    #[test]
    fn requests_in_flight_multiply_the_cost() {
        let latency = PeakEwma::default();
        latency.on_latency(5 * MS, START);
        assert!((latency.cost(3, START) / latency.cost(0, START) - 4.0).abs() < 1e-6);
    }

    #[test]
    fn an_unknown_endpoint_is_asked_once() {
        let (unknown, known) = (PeakEwma::default(), PeakEwma::default());
        known.on_latency(20 * MS, START);
        assert!(unknown.cost(0, START) < known.cost(0, START));
        assert!(unknown.cost(1, START) > known.cost(9, START));
    }

    #[test]
    fn an_answer_from_a_thread_whose_clock_is_behind_forgets_nothing() {
        let latency = PeakEwma::default();
        latency.on_latency(100 * MS, START);
        latency.on_latency(1 * MS, START - 50 * MS);
        assert_near(&latency, START, 100e6);
    }

    #[test]
    fn a_latency_of_nothing_is_known_nevertheless() {
        let latency = PeakEwma::default();
        latency.on_latency(Duration::ZERO, START);
        assert!(latency.cost(0, START) > 0.0);
    }

    fn assert_near(latency: &PeakEwma, now: Time, expected: f64) {
        let cost = latency.cost(0, now);
        assert!((cost / expected - 1.0).abs() < 1e-3, "{cost} is not near {expected}");
    }
}
