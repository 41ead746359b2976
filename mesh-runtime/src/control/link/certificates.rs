//! The first certificate, and every renewal: a new key pair each time, at half the life of the one in use.
//!
//! If it cannot be had, the one in use is used to its end; after that handshakes fail with a reason (the identity store
//! sees to that), never in plaintext.

use super::{Link, Talk, read_identity};
use crate::{
    ThreadDice,
    control::{
        backoff::LONGEST,
        cache::CachedIdentity,
        http::{Ask, CallError},
        trust::Proof,
        wire::{BundleAnswer, CertificateAnswer, CertificateAsk},
    },
    identity::{Identity, KeyPair, Svid},
};
use futures_util::FutureExt as _;
use http::Method;
use mesh_core::{
    dice::Dice,
    identity::{SpiffeId, TrustDomain},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Keeps the identity current for ever.
pub(super) async fn run(link: Arc<Link>) {
    let mut renewal = Renewal { talk: Talk::new(link), failures: 0, renewed: None };
    loop {
        if renewal.failures == 0 {
            renewal.wait_until_due().await;
        }
        match renewal.renew().await {
            Ok(()) => renewal.on_renewed(),
            Err(error) => renewal.on_failure(&error).await,
        }
    }
}

#[derive(Debug)]
struct Renewal {
    talk: Talk,
    /// In a row; the next proof is tried after each, so that a lost CA or a spent token is not the end.
    failures: usize,
    renewed: Option<Instant>,
}

impl Renewal {
    /// Waits for half of the life of what is in use, or for doubts about it: an endpoint with a new CA, or without its
    /// memory, may take the join token.
    async fn wait_until_due(&self) {
        let Some(identity) = self.talk.link.identity.current() else { return };
        tokio::select! {
            () = self.until_due(&identity) => {}
            () = self.until_doubted() => {}
        }
    }

    async fn until_doubted(&self) {
        if let Some(renewed) = self.renewed {
            tokio::time::sleep_until(renewed + DOUBT_SPACING).await;
        }
        self.talk.link.doubted.notified().await;
    }

    async fn until_due(&self, identity: &Identity) {
        let due = due(identity.svid.not_before(), identity.svid.not_after(), &mut ThreadDice);
        // By the wall clock, and looked at often enough: it may be set while we sleep.
        while let Ok(left) = due.duration_since(self.talk.link.identity.clock().now()) {
            tokio::time::sleep(left.min(CLOCK_CHECK)).await;
        }
    }

    async fn renew(&mut self) -> Result<(), CallError> {
        let proofs = self.talk.link.trust.proofs();
        let proof = proofs.get(self.failures % proofs.len().max(1)).ok_or(CallError::Unproven)?;
        let id = self.wanted(proof).await?;
        let key = KeyPair::generate().map_err(own)?;
        let csr = key.request(&id).map_err(own)?.pem;
        let ask = Ask::send(Method::POST, "/v1/certificates", &CertificateAsk { csr });
        let answer: CertificateAnswer = self.talk.ask_as(&ask, proof).await?.json()?;
        let mut key = Zeroizing::new(key.to_pem());
        let link = Arc::clone(&self.talk.link);
        let identity = accept(&id, &answer, &key, link.identity.clock().now())?;
        tracing::info!(%id, serial = identity.svid.serial(), "certificate issued");
        link.trust.on_renewal(answer.renewal.as_deref());
        link.identity.publish(identity);
        let CertificateAnswer { chain, bundles, renewal } = answer;
        let key = std::mem::take(&mut *key);
        link.store(Arc::new(CachedIdentity { chain, key, bundles, renewal })).await;
        Ok(())
    }

    /// Returns the ID to ask for: its trust domain is the one set, else that of the identity in use, else the
    /// endpoint's.
    async fn wanted(&mut self, proof: &Proof) -> Result<SpiffeId, CallError> {
        let link = Arc::clone(&self.talk.link);
        let in_use = || link.identity.current()?.svid.id().trust_domain().parse().ok();
        let domain = match link.trust_domain.clone().or_else(in_use) {
            Some(domain) => domain,
            None => self.served_domain(proof).await?,
        };
        let settings = &link.settings;
        SpiffeId::of_account(&domain, &settings.namespace, &settings.service_account).map_err(own)
    }

    async fn served_domain(&mut self, proof: &Proof) -> Result<TrustDomain, CallError> {
        let answer: BundleAnswer = self.talk.ask_as(&Ask::get("/v1/bundle"), proof).await?.json()?;
        let name = answer.trust_domain;
        name.parse()
            .map_err(|e| CallError::Unreadable(format!("trust domain `{}`: {e}", name.escape_debug())))
    }

    fn on_renewed(&mut self) {
        self.failures = 0;
        self.renewed = Some(Instant::now());
        // Doubts about the one before are settled.
        let _ = self.talk.link.doubted.notified().now_or_never();
        self.talk.backoff.on_answer();
        self.talk.link.progress.on_identity();
    }

    async fn on_failure(&mut self, error: &CallError) {
        self.failures += 1;
        let trouble = self.talk.describe(error);
        let store = &self.talk.link.identity;
        let left = store.current().and_then(|identity| left(&identity.svid, store.clock().now()));
        if self.talk.link.progress.on_identity_trouble(&trouble) {
            match left {
                Some(left) => {
                    tracing::warn!("certificate not renewed, {} s left of it: {trouble}", left.as_secs())
                }
                None => tracing::error!("no valid certificate: {trouble}"),
            }
        }
        // Several more tries before it ends, however short it is.
        let most = left.map_or(LONGEST, |left| left / 4);
        self.talk.back_off(error, most).await;
    }
}

/// Judges an answer: what is put in force must be what was asked for, and of use.
fn accept(
    id: &SpiffeId,
    answer: &CertificateAnswer,
    key: &str,
    now: SystemTime,
) -> Result<Identity, CallError> {
    let identity = read_identity(&answer.chain, key, &answer.bundles).map_err(CallError::Unreadable)?;
    let got = identity.svid.id();
    if got != id {
        return Err(CallError::Unreadable(format!("a certificate of {got}; {id} was asked for")));
    }
    if left(&identity.svid, now).is_none() {
        let why = "a certificate that has expired already; are the clocks of both machines right?";
        return Err(CallError::Unreadable(why.to_owned()));
    }
    Ok(identity)
}

/// Returns the time left to `svid` at `now`, if there is any.
fn left(svid: &Svid, now: SystemTime) -> Option<Duration> {
    svid.not_after().duration_since(now).ok().filter(|left| !left.is_zero())
}

/// Returns when to renew: at half the life, give or take a tenth, so that what was issued together is not renewed
/// together.
// spec: spire pkg/common/rotationutil
fn due(from: SystemTime, to: SystemTime, dice: &mut impl Dice) -> SystemTime {
    let life = to.duration_since(from).unwrap_or_default();
    let permille = 450 + u32::try_from(dice.below(101)).unwrap_or(50);
    from + life / 1000 * permille
}

/// A fault on this side, before anything is asked.
fn own(error: impl fmt::Display) -> CallError {
    CallError::Unaskable(error.to_string())
}

/// An endpoint that certifies a workload and then does not believe it is not asked for certificates without end.
const DOUBT_SPACING: Duration = Duration::from_secs(60);
const CLOCK_CHECK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_between_45_and_55_per_cent_of_its_life() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let to = from + Duration::from_secs(1000);
        let seconds = |roll| due(from, to, &mut Roll(roll)).duration_since(from).unwrap().as_secs();
        assert_eq!((seconds(0), seconds(u64::MAX)), (450, 550));
    }

    #[test]
    fn a_certificate_that_ends_before_it_begins_is_due_at_once() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(due(from, SystemTime::UNIX_EPOCH, &mut Roll(0)), from);
    }

    struct Roll(u64);

    impl Dice for Roll {
        fn roll(&mut self) -> u64 {
            self.0
        }
    }
}
