//! What happened to a request, in words that metrics, logs and assertions share.

use std::fmt;

/// Envoy's response flags that this mesh can set, as a set.
///
/// Displayed as Envoy does: the short names joined by `,`, or nothing if the set is empty.
// spec: envoy configuration/observability/access_log/usage#response-flags
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(u16);

/// One of Envoy's response flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[repr(u16)]
#[allow(clippy::upper_case_acronyms, reason = "the names are Envoy's")]
pub enum Flag {
    /// No healthy upstream host in the cluster.
    UH = 1 << 0,
    /// Upstream connection failure.
    UF = 1 << 1,
    /// Upstream overflow: a circuit breaker refused the request.
    UO = 1 << 2,
    /// No route matched.
    NR = 1 << 3,
    /// Retries used up.
    URX = 1 << 4,
    /// No such cluster.
    NC = 1 << 5,
    /// Upstream request timeout.
    UT = 1 << 6,
    /// The caller went away.
    DC = 1 << 7,
    /// The connection was reset here.
    LR = 1 << 8,
    /// The upstream reset the stream.
    UR = 1 << 9,
    /// The upstream closed the connection.
    UC = 1 << 10,
    /// A delay was injected.
    DI = 1 << 11,
    /// A fault was injected.
    FI = 1 << 12,
    /// Rate limited here.
    RL = 1 << 13,
    /// Upstream protocol error.
    UPE = 1 << 14,
    /// The maximum stream duration was reached.
    UMSDR = 1 << 15,
}

impl Flag {
    const ALL: [Self; 16] = [
        Self::UH,
        Self::UF,
        Self::UO,
        Self::NR,
        Self::URX,
        Self::NC,
        Self::UT,
        Self::DC,
        Self::LR,
        Self::UR,
        Self::UC,
        Self::DI,
        Self::FI,
        Self::RL,
        Self::UPE,
        Self::UMSDR,
    ];
}

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);

    /// Returns this set with `flag` in it.
    #[must_use]
    pub const fn with(self, flag: Flag) -> Self {
        Self(self.0 | flag as u16)
    }

    /// Returns whether `flag` is in the set.
    pub const fn contains(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Returns whether no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self::NONE.with(flag)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = Flag::ALL.into_iter().filter(|&flag| self.contains(flag));
        if let Some(first) = rest.next() {
            write!(f, "{first:?}")?;
        }
        rest.try_for_each(|flag| write!(f, ",{flag:?}"))
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_as_envoy_writes_them() {
        assert_eq!(Flags::NONE.to_string(), "");
        assert_eq!(Flags::from(Flag::URX).with(Flag::UF).to_string(), "UF,URX");
    }
}
