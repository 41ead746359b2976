//! Tells of decisions: every one in a counter, and of denials one line a second that names the policy and the rule. So it
//! does of tokens that are not good.

use crate::normalise;
use http::{Method, request::Parts};
use mesh_core::{
    authenticate::TokenFault,
    authorize::{Decision, Grounds, Request},
};
use mesh_runtime::{
    Clock, Sparing,
    callers::{Caller, Callers, Seen},
    telemetry::{PolicyOutcome, Telemetry},
};
use std::{fmt, sync::Arc};

/// Where the decisions of one server go.
#[derive(Debug)]
pub(crate) struct Record {
    telemetry: Arc<Telemetry>,
    /// Apart from the denials: bad tokens of strangers must not hide whom policy denies.
    tokens: Sparing,
    denials: Sparing,
}

impl Record {
    pub(crate) fn new(telemetry: Arc<Telemetry>, clock: Clock) -> Self {
        Self { telemetry, tokens: Sparing::new(clock), denials: Sparing::new(clock) }
    }

    pub(super) fn on_token_refused(&self, fault: TokenFault, head: &Parts) {
        self.telemetry.on_token_refused(fault);
        let request = Shown { method: &head.method, host: normalise::host(head), path: head.uri.path() };
        match self.tokens.line() {
            Some(unlogged) => tracing::warn!(%request, unlogged, "token refused: {fault}"),
            None => tracing::debug!(%request, "token refused: {fault}"),
        }
    }

    pub(super) fn on_audit(&self, matched: Option<&Grounds>, request: &Request<'_>) {
        if let Some(grounds) = matched {
            self.telemetry.on_policy(PolicyOutcome::Audited, Some(&grounds.policy));
            tracing::debug!(%grounds, request = %Shown::of(request), "audited");
        }
    }

    pub(super) fn on_trial(&self, decision: Option<&Decision>, request: &Request<'_>) {
        let Some(decision) = decision else { return };
        if decision.is_allowed() {
            return self.telemetry.on_allowed_on_trial();
        }
        let policy = decision.grounds().map(|grounds| &*grounds.policy);
        self.telemetry.on_policy(PolicyOutcome::DeniedOnTrial, policy);
        tracing::debug!(by = %By(decision), request = %Shown::of(request), "would be denied, on trial");
    }

    pub(super) fn on_decision(&self, decision: &Decision, request: &Request<'_>) {
        if decision.is_allowed() {
            return self.telemetry.on_allowed();
        }
        let policy = decision.grounds().map(|grounds| &*grounds.policy);
        self.telemetry.on_policy(PolicyOutcome::Denied, policy);
        let (by, shown) = (By(decision), Shown::of(request));
        let peer = request.peer.map_or("none", |peer| peer.as_str());
        match self.denials.line() {
            Some(unlogged) => tracing::warn!(%by, peer, request = %shown, unlogged, "RBAC: access denied"),
            None => tracing::debug!(%by, peer, request = %shown, "RBAC: access denied"),
        }
    }
}

/// Where it is noted who calls, and what for.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) callers: Arc<Callers>,
    pub(crate) caller: Arc<Caller>,
}

impl Calls {
    /// What is denied already is nothing that a policy on trial could break.
    pub(super) fn on_allowed(&self, request: &Request<'_>, on_trial: Option<&Decision>) {
        let seen = Seen { method: request.method, host: request.host, path: request.path };
        self.caller.on_request(seen);
        if let Some(decision) = on_trial.filter(|decision| !decision.is_allowed()) {
            self.callers.on_denied_on_trial(decision.grounds(), &self.caller, seen);
        }
    }
}

/// Which policy decided.
struct By<'a>(&'a Decision);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.grounds() {
            Some(grounds) => write!(f, "{grounds} at {}", grounds.policy.location),
            None => f.write_str("no ALLOW policy matches"),
        }
    }
}

/// A request as a line shows it: bounded, and without its query, which may hold a token.
struct Shown<'a> {
    method: &'a Method,
    host: &'a str,
    path: &'a str,
}

impl<'a> Shown<'a> {
    fn of(request: &Request<'a>) -> Self {
        Self { method: request.method, host: request.host, path: request.path }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounded =
            |text: &str| text.chars().take(SHOWN_MAX).collect::<String>().escape_debug().to_string();
        write!(f, "{} {}{}", bounded(self.method.as_str()), bounded(self.host), bounded(self.path))
    }
}

const SHOWN_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request as HttpRequest;
    use mesh_core::config::{Location, Mark, Origin, ResourceKey};
    use mesh_runtime::Settings;

    #[test]
    fn a_line_names_the_policy_the_rule_and_the_place() {
        let resource = ResourceKey::new("AuthorizationPolicy", "shop", "no-admin");
        let policy = Origin { resource, location: Location::new(&"mesh.yaml".into(), Mark::default()) };
        let denied = Decision::Denied(Grounds { policy: Arc::new(policy), rule: Some(2) });
        let said = By(&denied).to_string();
        assert!(said.starts_with("ns[shop]-policy[no-admin]-rule[2] at mesh.yaml:"), "{said}");
        assert_eq!(By(&Decision::NotAllowed).to_string(), "no ALLOW policy matches");
    }

    #[tokio::test(start_paused = true)]
    async fn bad_tokens_of_strangers_use_up_no_line_about_a_denial() {
        let telemetry = Telemetry::new(&Settings::for_service("payment"));
        let record = Record::new(Arc::new(telemetry), Clock::start());
        let head = HttpRequest::get("/").body(()).unwrap().into_parts().0;
        record.on_token_refused(TokenFault::Form, &head);
        assert_eq!((record.tokens.line(), record.denials.line()), (None, Some(0)));
    }

    #[test]
    fn what_a_stranger_asks_for_fills_no_line_and_breaks_none() {
        let path = format!("/\n\u{1b}[31m{}", "a".repeat(9_000));
        let shown = Shown { method: &Method::GET, host: "shop", path: &path }.to_string();
        assert!(shown.starts_with("GET shop/\\n\\u{1b}[31ma"), "{shown}");
        assert!(shown.len() < 300 && !shown.contains(char::is_control));
    }
}
