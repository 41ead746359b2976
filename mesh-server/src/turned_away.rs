//! Why a connection is closed without an answer, counted by reason and logged sparingly.

use mesh_core::identity::Refusal;
use mesh_runtime::{
    Clock,
    identity::{IdentityError, SvidError},
};
use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Why a connection was not served, or is served no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("TLS, and policy disables it on this port")]
    TlsDisabled,
    #[error("no TLS handshake is possible: {0}")]
    NoIdentity(#[from] IdentityError),
    #[error("its certificate: {0}")]
    Untrusted(#[from] SvidError),
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("it sent nothing")]
    Silent,
    #[error("too many connections wait already")]
    Crowded,
    #[error("it broke before it sent anything: {0}")]
    Broken(#[from] io::Error),
}

impl TurnedAway {
    /// Tells what our own verifier refused from what TLS did.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        match SvidError::find(&error) {
            Some(why) => Self::Untrusted(why.clone()),
            None => Self::Handshake(error),
        }
    }

    /// Returns the metric label: one of a closed list.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Refused(Refusal::Plaintext) => "plaintext",
            Self::Refused(Refusal::Anonymous) => "anonymous",
            Self::TlsDisabled => "tls_disabled",
            Self::NoIdentity(_) => "no_identity",
            Self::Untrusted(why) => why.reason(),
            Self::Handshake(_) => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Silent => "silent",
            Self::Crowded => "crowded",
            Self::Broken(_) => "broken",
        }
    }

    /// Returns whether an operator should hear of it: policy, identity and pressure, but not every port scan and
    /// health check that connects and leaves.
    const fn is_notable(&self) -> bool {
        !matches!(self, Self::Broken(_) | Self::Silent)
    }
}

/// Logs connections that are turned away, sparingly: what a stranger does must not fill a disk.
#[derive(Debug)]
pub(crate) struct Log(Sparingly);

impl Log {
    pub(crate) fn new(clock: Clock) -> Self {
        Self(Sparingly::new(clock))
    }

    /// A connection was turned away.
    pub(crate) fn on(&self, why: &TurnedAway, peer: SocketAddr) {
        let reason = why.reason();
        if !why.is_notable() {
            tracing::debug!(%peer, reason, "connection closed: {why}");
        } else if let Some(unlogged) = self.0.line() {
            tracing::warn!(%peer, reason, unlogged, "connection turned away: {why}");
        }
    }

    /// No connection could be accepted: there is no file descriptor or memory left for it.
    pub(crate) fn on_exhausted(&self, error: &io::Error, open: usize) {
        if let Some(unlogged) = self.0.line() {
            tracing::warn!(%error, open, unlogged, "cannot accept connections, trying again: raise the limit of open files");
        }
    }
}

/// Lets one line a second be written, and counts those left out.
#[derive(Debug)]
pub(crate) struct Sparingly {
    clock: Clock,
    /// From when the next line may be written, in nanoseconds of `clock`.
    next_nanos: AtomicU64,
    unlogged: AtomicU64,
}

const LINE_EVERY: Duration = Duration::from_secs(1);

impl Sparingly {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, next_nanos: AtomicU64::new(0), unlogged: AtomicU64::new(0) }
    }

    /// Returns how many lines were left out since the last one, if one may be written.
    pub(crate) fn line(&self) -> Option<u64> {
        let now = self.clock.now();
        let next = self.next_nanos.load(Relaxed);
        let due = now.as_nanos() >= next;
        let then = (now + LINE_EVERY).as_nanos();
        if due && self.next_nanos.compare_exchange(next, then, Relaxed, Relaxed).is_ok() {
            return Some(self.unlogged.swap(0, Relaxed));
        }
        self.unlogged.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_second_says_how_many_it_stands_for() {
        let lines = Sparingly::new(Clock::start());
        let written: Vec<_> = (0..4).map(|_| lines.line()).collect();
        assert_eq!(written, [Some(0), None, None, None]);
        tokio::time::advance(LINE_EVERY).await;
        assert_eq!((lines.line(), lines.line()), (Some(3), None));
    }
}
