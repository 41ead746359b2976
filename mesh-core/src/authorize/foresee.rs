//! What policies would make of a request that was recorded. A record holds less than a request did: where a policy asks
//! for more, the answer is that nobody can tell, never a guess.

use super::{Authorizer, Grounds, Policies, Policy, Request, Rules};
use crate::{config::Origin, identity::SpiffeId};
use http::{HeaderMap, Method};
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

/// What is recorded of a request. Headers, tokens, the server name and other addresses are not.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// The verified peer; `None` is known, too.
    pub peer: Option<&'a SpiffeId>,
    /// The address of the direct peer, where it was recorded.
    pub source: Option<IpAddr>,
    /// The port of the workload.
    pub port: u16,
    /// The method.
    pub method: &'a Method,
    /// The host, normalised, with the port that the request names, if it names one.
    pub host: &'a str,
    /// The path, normalised, without query.
    pub path: &'a str,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreseen {
    /// It would be let through.
    Allowed,
    /// It would be denied, by a DENY policy; `None` if there are ALLOW policies, and none matches.
    Denied(Option<Grounds>),
    /// It depends on what is not recorded; this policy asks for it.
    Unsure(Grounds),
}

impl Authorizer {
    /// Returns what the policies that are enforced would make of it.
    pub fn foresee(&self, request: &Recorded<'_>) -> Foreseen {
        self.enforced.foresee(request)
    }

    /// Returns what the policies on trial would make of it, were they enforced, by themselves.
    pub fn foresee_on_trial(&self, request: &Recorded<'_>) -> Foreseen {
        self.on_trial.foresee(request)
    }

    /// Returns the ALLOW policies that are enforced, or those on trial: what none of them matches is denied.
    pub fn allowing(&self, on_trial: bool) -> impl Iterator<Item = &Origin> {
        let policies = if on_trial { &self.on_trial } else { &self.enforced };
        policies.allow.iter().map(|policy| &*policy.source)
    }

    /// Returns whether there is no policy that could deny anything, now or were it enforced.
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.on_trial.is_empty()
    }
}

impl Policies {
    fn foresee(&self, request: &Recorded<'_>) -> Foreseen {
        let denies = first(&self.deny, request);
        if let Verdict::Matches(grounds) = denies {
            return Foreseen::Denied(Some(grounds));
        }
        let allows = match self.allow.is_empty() {
            true => None,
            false => Some(first(&self.allow, request)),
        };
        match (denies, allows) {
            // Whatever the DENY policies say, nobody allows it.
            (_, Some(Verdict::No)) => Foreseen::Denied(None),
            (Verdict::Unsure(grounds), _) | (_, Some(Verdict::Unsure(grounds))) => Foreseen::Unsure(grounds),
            _ => Foreseen::Allowed,
        }
    }
}

/// What a list of policies comes to.
enum Verdict {
    Matches(Grounds),
    Unsure(Grounds),
    No,
}

/// Returns the first rule that matches for certain, else the first that may.
fn first(policies: &[Policy], request: &Recorded<'_>) -> Verdict {
    let mut unsure = None;
    for policy in policies {
        for (rule, matched) in policy.matched(request) {
            let grounds = || Grounds { policy: Arc::clone(&policy.source), rule };
            match matched {
                Some(true) => return Verdict::Matches(grounds()),
                Some(false) => {}
                None => unsure = unsure.or_else(|| Some(grounds())),
            }
        }
    }
    unsure.map_or(Verdict::No, Verdict::Unsure)
}

impl Policy {
    /// Returns each rule, and whether it matches.
    fn matched(&self, request: &Recorded<'_>) -> Vec<(Option<usize>, Option<bool>)> {
        match &self.rules {
            Rules::Unreadable { matches } => vec![(None, Some(*matches))],
            Rules::AnyOf(rules) => {
                rules.iter().enumerate().map(|(i, rule)| (Some(i), rule.matched(request))).collect()
            }
        }
    }
}

impl<'a> Recorded<'a> {
    /// Returns it as a request that lacks what is not recorded; only of use to conditions that ask for none of that.
    pub(super) fn request(&self) -> Request<'a> {
        static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
        Request {
            peer: self.peer,
            source: self.source,
            remote: None,
            destination: None,
            port: self.port,
            sni: None,
            method: self.method,
            host: self.host,
            path: self.path,
            headers: &NO_HEADERS,
            claims: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::TrustDomains,
        config::{Options, load},
        identity::TrustDomain,
    };

    #[test]
    fn what_is_recorded_decides_and_what_is_not_leaves_it_open() {
        let allow_get = "rules: [{to: [{operation: {methods: [GET]}}]}]";
        let allow_checkout = "rules: [{from: [{source: {serviceAccounts: [shop/checkout]}}]}]";
        let with_header = "rules: [{when: [{key: 'request.headers[x-team]', values: [pay]}]}]";
        let with_header_or_get = "rules: [{when: [{key: 'request.headers[x-team]', values: [pay]}]}, {to: [{operation: {methods: [GET]}}]}]";
        let admin = "action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]";
        let admin_with_header = "action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}], when: [{key: 'request.headers[x-team]', notValues: [ops]}]}]";
        for (policies, path, expected) in [
            (&[][..], "/", "allowed"),
            (&[allow_get], "/", "allowed"),
            (&[allow_checkout], "/", "allowed"),
            (&["rules: [{to: [{operation: {methods: [PUT]}}]}]"], "/", "denied by none"),
            (&["{}"], "/", "denied by none"),
            (&[admin], "/", "allowed"),
            (&[admin], "/admin/x", "denied by ns[shop]-policy[p0]-rule[0]"),
            (&[allow_get, admin], "/admin", "denied by ns[shop]-policy[p1]-rule[0]"),
            (&[with_header], "/", "unsure for ns[shop]-policy[p0]-rule[0]"),
            (&[with_header_or_get], "/", "allowed"),
            (&[admin_with_header], "/", "allowed"),
            (&[admin_with_header], "/admin", "unsure for ns[shop]-policy[p0]-rule[0]"),
            // Nobody allows it, whatever the header says.
            (&[admin_with_header, "{}"], "/admin", "denied by none"),
            (
                &["rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]"],
                "/",
                "unsure for ns[shop]-policy[p0]-rule[0]",
            ),
            (
                &["rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]"],
                "/",
                "unsure for ns[shop]-policy[p0]-rule[0]",
            ),
        ] {
            let id = "spiffe://cluster.local/ns/shop/sa/checkout".parse().unwrap();
            let recorded = Recorded {
                peer: Some(&id),
                source: None,
                port: 8080,
                method: &Method::GET,
                host: "payment",
                path,
            };
            let told = match authorizer(policies).foresee(&recorded) {
                Foreseen::Allowed => "allowed".to_owned(),
                Foreseen::Denied(by) => {
                    format!("denied by {}", by.map_or("none".to_owned(), |by| by.to_string()))
                }
                Foreseen::Unsure(by) => format!("unsure for {by}"),
            };
            assert_eq!(told, expected, "{policies:?} on {path}");
        }
    }

    fn authorizer(policies: &[&str]) -> Authorizer {
        let object = |(i, spec): (usize, &&str)| {
            let spec = if *spec == "{}" { "{}".to_owned() } else { format!("{{{spec}}}") };
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: p{i}, namespace: shop}}\nspec: {spec}\n"
            )
        };
        let yaml = policies.iter().enumerate().map(object).collect::<Vec<_>>().join("---\n");
        let loaded = load("test.yaml", &yaml, &Options::default());
        assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let domain = TrustDomain::cluster_local();
        Authorizer::new(&resources, &TrustDomains { own: &domain, aliases: &[] })
    }
}
