//! Faults that a route injects, to see how callers bear them.
// spec: istio networking/v1alpha3/virtual_service.proto HTTPFaultInjection; envoy http/http_filters/fault_filter

use crate::dice::Dice;
use http::StatusCode;
use std::time::Duration;

/// The faults of a route. Both are drawn for by themselves, the delay first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Waits before anything else happens; the route's timeout has not begun yet.
    pub delay: Option<Delay>,
    /// Answers instead of the destination.
    pub abort: Option<Abort>,
}

/// A delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// How often.
    pub chance: Chance,
    /// How long.
    pub duration: Duration,
}

/// An answer that no destination gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// How often.
    pub chance: Chance,
    /// What is answered.
    pub answer: AbortAnswer,
}

/// What an aborted request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortAnswer {
    /// An HTTP status, with the body `fault filter abort`.
    Status(StatusCode),
    /// A status of gRPC, 0 to 16.
    Grpc(u8),
}

/// How often something happens to a request: a number of millionths.
// spec: envoy type.v3.FractionalPercent: Istio writes percentages with four decimals
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// To every request.
    pub const ALWAYS: Self = Self(MILLION);
    /// To none.
    pub const NEVER: Self = Self(0);

    /// Returns the chance of `percent`, 0 to 100, rounded down to a ten-thousandth.
    pub fn of_percent(percent: f64) -> Self {
        // The bounds make the conversion exact; not-a-number becomes 0.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a million"
        )]
        let millionths = (percent.clamp(0.0, 100.0) * 10_000.0 + 1e-6) as u32;
        Self(millionths.min(MILLION))
    }

    /// Returns the percentage.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Draws: returns whether it happens to this request.
    pub fn happens(self, dice: &mut impl Dice) -> bool {
        match self.0 {
            0 => false,
            MILLION => true,
            millionths => dice.below(u64::from(MILLION)) < u64::from(millionths),
        }
    }
}

const MILLION: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Seeded;

    #[test]
    fn a_percentage_is_kept_to_the_ten_thousandth() {
        for (percent, kept) in [
            (0.0, 0.0),
            (100.0, 100.0),
            (0.0001, 0.0001),
            (0.00001, 0.0),
            (33.3333, 33.3333),
            (250.0, 100.0),
            (-1.0, 0.0),
        ] {
            assert!((Chance::of_percent(percent).percent() - kept).abs() < 1e-9, "{percent}");
        }
    }

    #[test]
    fn a_chance_happens_as_often_as_it_says() {
        let mut dice = Seeded::new(7);
        let mut happened = |chance: Chance| (0..100_000).filter(|_| chance.happens(&mut dice)).count();
        assert_eq!(happened(Chance::NEVER), 0);
        assert_eq!(happened(Chance::ALWAYS), 100_000);
        assert!((9_600..10_400).contains(&happened(Chance::of_percent(10.0))));
    }
}
