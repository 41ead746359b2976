//! What a failed answer says of the retries behind it, so that three tiers with three attempts each do not turn one
//! request into twenty-seven.
//!
//! A service whose answer fails because its own call failed says in a response header whether that call was retried
//! there already, or refused a retry by the budget. Its caller then does not try again: the next try would only set off
//! the same retries a hop deeper. The header goes from one verified workload to another and nowhere else.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Why a failed call is not worth a retry a hop above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance(u8);

impl Provenance {
    /// Nothing is known: the failure may be this hop's own.
    pub const NONE: Self = Self(0);
    /// The call was retried, in vain.
    pub const RETRIED: Self = Self(1);
    /// A retry was due, and the budget refused it.
    pub const BUDGET_SPENT: Self = Self(2);

    /// The response header that carries it.
    pub const HEADER: HeaderName = HeaderName::from_static("x-mesh-provenance");

    /// Returns both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether nothing is known.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Reads what `headers` say; words that are not known say nothing.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let mut provenance = Self::NONE;
        for value in headers.get_all(&Self::HEADER) {
            for word in value.to_str().unwrap_or_default().split(',') {
                provenance = provenance.and(match word.trim() {
                    RETRIED => Self::RETRIED,
                    BUDGET_SPENT => Self::BUDGET_SPENT,
                    _ => Self::NONE,
                });
            }
        }
        provenance
    }

    /// Returns the header's value; `None` if nothing is known.
    pub fn header_value(self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static(match self {
            Self::NONE => return None,
            Self::RETRIED => RETRIED,
            Self::BUDGET_SPENT => BUDGET_SPENT,
            _ => BOTH,
        }))
    }
}

const RETRIED: &str = "retried";
const BUDGET_SPENT: &str = "budget-spent";
const BOTH: &str = "retried, budget-spent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let both = Provenance::RETRIED.and(Provenance::BUDGET_SPENT);
        for provenance in [Provenance::NONE, Provenance::RETRIED, Provenance::BUDGET_SPENT, both] {
            let mut headers = HeaderMap::new();
            headers.extend(provenance.header_value().map(|value| (Provenance::HEADER, value)));
            assert_eq!(Provenance::of_headers(&headers), provenance);
        }
    }

    #[test]
    fn words_that_are_not_known_say_nothing() {
        let mut headers = HeaderMap::new();
        headers.append(Provenance::HEADER, HeaderValue::from_static("hop=3, retried"));
        headers.append(Provenance::HEADER, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Provenance::of_headers(&headers), Provenance::RETRIED);
    }
}
