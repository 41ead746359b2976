//! What the configuration says of localities. It sorts nothing.

use crate::registry::Locality;
use std::{fmt, str::FromStr};

/// Which localities get the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalityPolicy {
    /// Each gets a share that depends on the caller's locality. The first distribution that covers it applies.
    Distribute(Vec<Distribution>),
    /// The nearest that is healthy gets them.
    Failover(Failover),
}

/// How the requests of some callers are distributed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Where the callers are.
    pub from: LocalityPattern,
    /// Where their requests go, and how many per cent of them; the sum is 100.
    pub to: Vec<(LocalityPattern, u32)>,
}

/// What near means. The default is: the same subzone, then the same zone, then the same region, then anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failover {
    /// Of a caller in the first region, another one comes last unless it is the second.
    pub regions: Vec<(String, String)>,
    /// The more of these labels, counted from the first, an endpoint has in common with the caller, the nearer it is.
    pub labels: Vec<PriorityLabel>,
}

/// A label by which nearness is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorityLabel {
    /// Its name.
    pub name: String,
    /// The value that counts as the caller's, in place of the one it has.
    pub value: Option<String>,
}

/// Localities: `region`, `region/zone` or `region/zone/subzone`. A part that is `*` or not written is any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalityPattern {
    region: Option<String>,
    zone: Option<String>,
    subzone: Option<String>,
}

/// Why a text names no localities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocalityPatternError {
    /// A part is empty.
    #[error("region, zone and subzone must not be empty")]
    Empty,
    /// There is more than one `*`, or something behind it.
    #[error("there may be one `*`, at the end")]
    Wildcard,
}

impl LocalityPattern {
    /// Returns whether `locality` is one of them.
    // spec: istio pilot/pkg/networking/util LocalityMatch
    pub fn covers(&self, locality: &Locality) -> bool {
        let is = |wanted: &Option<String>, part: &str| wanted.as_deref().is_none_or(|wanted| wanted == part);
        is(&self.region, &locality.region)
            && is(&self.zone, &locality.zone)
            && is(&self.subzone, &locality.subzone)
    }

    /// Returns whether some locality is covered by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        agree(&self.region, &other.region)
            && agree(&self.zone, &other.zone)
            && agree(&self.subzone, &other.subzone)
    }

    /// Returns whether it covers every locality that `other` covers.
    pub fn contains(&self, other: &Self) -> bool {
        let holds = |a: &Option<String>, b: &Option<String>| a.is_none() || a == b;
        holds(&self.region, &other.region)
            && holds(&self.zone, &other.zone)
            && holds(&self.subzone, &other.subzone)
    }
}

// spec: istio pkg/config/validation/agent validateLocalities, getLocalityParam
impl FromStr for LocalityPattern {
    type Err = LocalityPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.find('*').is_some_and(|at| at + 1 < text.len()) {
            return Err(LocalityPatternError::Wildcard);
        }
        if text.splitn(3, '/').any(str::is_empty) {
            return Err(LocalityPatternError::Empty);
        }
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().filter(|&part| part != "*").map(str::to_owned);
        Ok(Self { region: next(), zone: next(), subzone: next() })
    }
}

impl fmt::Display for LocalityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.region.as_deref().unwrap_or("*"))?;
        for part in [&self.zone, &self.subzone].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_the_localities_that_istio_matches() {
        for (pattern, locality, covers) in [
            ("*", "eu/a/1", true),
            ("eu", "eu/a/1", true),
            ("eu/*", "eu/a/1", true),
            ("eu/a", "eu/a/1", true),
            ("eu/a/*", "eu/a/1", true),
            ("eu/a/1", "eu/a/1", true),
            ("eu/a/1", "eu/a/2", false),
            ("eu/b", "eu/a/1", false),
            ("us/*", "eu/a/1", false),
            ("eu/a/1", "eu", false),
            ("eu", "", false),
            ("*", "", true),
        ] {
            let pattern: LocalityPattern = pattern.parse().unwrap();
            assert_eq!(pattern.covers(&Locality::parse(locality)), covers, "{pattern} {locality}");
        }
    }

    #[test]
    fn patterns_overlap_where_both_cover_a_locality_and_contain_what_covers_no_more() {
        for (a, b, overlaps, contains) in [
            ("eu", "eu/a", true, true),
            ("eu/a", "eu", true, false),
            ("eu/*", "eu/a/1", true, true),
            ("*", "eu", true, true),
            ("eu/a", "eu/b", false, false),
            ("eu/a/1", "eu/a/2", false, false),
            ("eu/a/1", "eu/a/1", true, true),
            ("eu", "us", false, false),
        ] {
            let (one, other): (LocalityPattern, LocalityPattern) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlaps, overlaps), "{a} {b}");
            assert_eq!(one.contains(&other), contains, "{a} {b}");
        }
    }

    #[test]
    fn what_names_no_localities_is_refused() {
        for (text, error) in [
            ("", LocalityPatternError::Empty),
            ("eu//1", LocalityPatternError::Empty),
            ("eu/", LocalityPatternError::Empty),
            ("*/a", LocalityPatternError::Wildcard),
            ("eu/*/*", LocalityPatternError::Wildcard),
        ] {
            assert_eq!(text.parse::<LocalityPattern>(), Err(error), "{text}");
        }
    }
}
