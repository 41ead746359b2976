//! Whose token does a request bring, and is it good? The JWT rules of the RequestAuthentication objects that select a
//! workload, compiled. A request without a token is let through: whether it must bring one is for policy to say.
//!
//! It fetches no keys, checks no signature and reads no clock itself: keys lie in [`FetchedKeys`], the judgement of
//! signatures is handed in as [`Signatures`], and the time as a number.
// spec: istio security/v1beta1/request_authentication.proto; pilot/pkg/security/authn policy_applier.go; envoy
// configuration/http/http_filters/jwt_authn_filter

mod fault;
mod fetched;
mod key;
mod places;
mod rule;
mod token;

pub use fault::TokenFault;
pub use fetched::{FetchedKeys, KeyLocation};
pub use key::{Algorithm, KeySet, KeysError, PublicKey};

use crate::{
    authorize::Claims,
    config::istio::{JwtRule, Lists},
    health::States,
};
use http::{Method, header, request::Parts};
use rule::{Rule, Verdict};
use std::{sync::Arc, time::Duration};

/// Judges signatures. The cryptography lives in the shell.
pub trait Signatures {
    /// Returns whether `signature` is that of `message` by the holder of `key`.
    fn is_good(&self, algorithm: Algorithm, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool;
}

/// The rules about tokens of one workload, compiled. Without any it lets everything through, and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    /// By issuer, as Istio orders them.
    rules: Vec<Rule>,
}

impl Authenticator {
    /// Adds `rules`, which hold on the workload ports of `ports`. Keys that must be fetched are those of `states`, so
    /// that a reload finds them again.
    pub fn add(&mut self, rules: &[JwtRule], ports: &Lists<u16>, states: &States) {
        self.rules.extend(rules.iter().map(|rule| Rule::new(rule, ports.clone(), states)));
        // spec: istio pilot/pkg/security/authn policy_applier.go: by issuer, whichever objects they come from
        self.rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    }

    /// Returns how many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Returns the keys that must be fetched: from where, within which time, and where they go.
    pub fn fetched_keys(&self) -> impl Iterator<Item = (&KeyLocation, Duration, &Arc<FetchedKeys>)> {
        self.rules.iter().filter_map(Rule::fetched_keys)
    }

    /// Returns whether `head`, which came in on `port`, brings a token for whose keys nobody has an answer yet: a fetch
    /// is under way, and how it ends decides about the request.
    pub fn awaits_keys(&self, head: &Parts, port: u16) -> bool {
        self.on(port).any(|rule| rule.awaits_keys(head))
    }

    /// Verifies the token of a request that came in on `port`, `now_seconds` after 1970, and returns what it says: the
    /// claims of nobody where there is none. Does not allocate where there is no rule.
    ///
    /// The first rule, by issuer, by which the request's token is good takes the token out of `head`, unless it is to be
    /// forwarded, and passes on what it is asked to. Headers by which rules pass things on are taken out of every
    /// request: nobody else may set them. So are tokens that no rule has found good, where they are let through.
    ///
    /// # Errors
    ///
    /// Returns why there is a token and none is good.
    // spec: istio pilot/pkg/security/authn policy_applier.go: any of the rules, else all of {rule or missing}
    pub fn judge(
        &self,
        head: &mut Parts,
        port: u16,
        signatures: &impl Signatures,
        now_seconds: u64,
    ) -> Result<Claims, TokenFault> {
        self.on(port).for_each(|rule| rule.clear(&mut head.headers));
        // A browser asks first without its user's token, and is answered without one.
        // spec: envoy config.filter.http.jwt_authn JwtAuthentication.bypass_cors_preflight, which Istio sets
        if is_preflight(head) {
            self.on(port).for_each(|rule| rule.clear_tokens(head));
            return Ok(Claims::default());
        }
        let mut fault = None;
        for rule in self.on(port) {
            match rule.judge(head, signatures, now_seconds) {
                Verdict::NoToken => {}
                Verdict::Good(good) => {
                    let claims = rule.accept(good, head);
                    self.clear_unverified(rule, head, port, signatures, now_seconds);
                    return Ok(claims);
                }
                Verdict::Bad(why) => fault = Some(fault.map_or(why, |known| why.or(known))),
            }
        }
        fault.map_or_else(|| Ok(Claims::default()), Err)
    }

    /// Takes out what stands where rules beside `accepted` look for tokens, unless it is good and to be forwarded. Envoy
    /// passes it on as it came, and whoever finds a token where one is forwarded takes it for verified.
    fn clear_unverified(
        &self,
        accepted: &Rule,
        head: &mut Parts,
        port: u16,
        signatures: &impl Signatures,
        now_seconds: u64,
    ) {
        for other in self.on(port).filter(|other| !other.looks_where(accepted)) {
            if !(other.forwards() && matches!(other.judge(head, signatures, now_seconds), Verdict::Good(_))) {
                other.clear_tokens_beside(accepted, head);
            }
        }
    }

    fn on(&self, port: u16) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.is_for(port))
    }
}

// spec: fetch standard, CORS-preflight request; envoy source/extensions/filters/http/jwt_authn/filter.cc
fn is_preflight(head: &Parts) -> bool {
    let says = |name| head.headers.get(name).is_some_and(|value| !value.is_empty());
    head.method == Method::OPTIONS && says(header::ORIGIN) && says(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests;
