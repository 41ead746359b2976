//! One rule of a policy: some `from` and some `to`, each a list of conditions that must all hold.

use super::{
    Effect, Request,
    pattern::{Pattern, host_without_port},
};
use crate::{
    config::istio::{AuthorizationRule, Operation, Source},
    identity::SpiffeId,
};
use ipnet::IpNet;
use std::net::IpAddr;

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    from: Clauses,
    to: Clauses,
}

/// Some of these must match; none written matches everything.
#[derive(Clone, Debug)]
struct Clauses(Box<[Clause]>);

/// Every condition must hold.
#[derive(Clone, Debug)]
struct Clause {
    conditions: Box<[Condition]>,
    /// The answer when there is no condition at all, which Istio refuses to take: the one that denies.
    empty: bool,
}

/// One list of a clause, `paths` say, or its opposite, `notPaths`.
#[derive(Clone, Debug)]
struct Condition {
    test: Test,
    negated: bool,
    /// The answer when the request lacks what is asked about: the one that denies.
    unknown: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Principal(Box<[Pattern]>),
    Namespace(Box<[Pattern]>),
    Address(Box<[IpNet]>),
    Host(Box<[Pattern]>),
    Port(Box<[u16]>),
    Method(Box<[Pattern]>),
    Path(Box<[Pattern]>),
}

impl Rule {
    pub(super) fn new(rule: &AuthorizationRule, effect: Effect) -> Self {
        Self {
            from: Clauses(rule.from.iter().map(|source| Clause::of_source(source, effect)).collect()),
            to: Clauses(rule.to.iter().map(|operation| Clause::of_operation(operation, effect)).collect()),
        }
    }

    pub(super) fn matches(&self, request: &Request<'_>) -> bool {
        self.from.match_any(request) && self.to.match_any(request)
    }
}

impl Clauses {
    fn match_any(&self, request: &Request<'_>) -> bool {
        self.0.is_empty() || self.0.iter().any(|clause| clause.matches(request))
    }
}

impl Clause {
    fn of_source(source: &Source, effect: Effect) -> Self {
        let Source { principals, not_principals, namespaces, not_namespaces, ip_blocks, not_ip_blocks } =
            source;
        Self::new(
            effect,
            [
                (false, texts(principals, Test::Principal)),
                (true, texts(not_principals, Test::Principal)),
                (false, texts(namespaces, Test::Namespace)),
                (true, texts(not_namespaces, Test::Namespace)),
                (false, values(ip_blocks, Test::Address)),
                (true, values(not_ip_blocks, Test::Address)),
            ],
        )
    }

    fn of_operation(operation: &Operation, effect: Effect) -> Self {
        let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } =
            operation;
        Self::new(
            effect,
            [
                (false, host_test(hosts, effect == Effect::Deny)),
                (true, host_test(not_hosts, effect == Effect::Allow)),
                (false, values(ports, Test::Port)),
                (true, values(not_ports, Test::Port)),
                (false, texts(methods, Test::Method)),
                (true, texts(not_methods, Test::Method)),
                (false, path_test(paths, effect == Effect::Deny)),
                (true, path_test(not_paths, effect == Effect::Allow)),
            ],
        )
    }

    fn new(effect: Effect, tests: impl IntoIterator<Item = (bool, Option<Test>)>) -> Self {
        let denies = effect == Effect::Deny;
        let conditions = tests
            .into_iter()
            .filter_map(|(negated, test)| test.map(|test| Condition { test, negated, unknown: denies }));
        Self { conditions: conditions.collect(), empty: denies }
    }

    fn matches(&self, request: &Request<'_>) -> bool {
        match &*self.conditions {
            [] => self.empty,
            conditions => conditions.iter().all(|condition| condition.holds(request)),
        }
    }
}

impl Condition {
    fn holds(&self, request: &Request<'_>) -> bool {
        match self.test.answer(request) {
            Some(answer) => answer != self.negated,
            None => self.unknown,
        }
    }
}

impl Test {
    /// Returns whether `request` is on the list; `None` if it cannot be told.
    fn answer(&self, request: &Request<'_>) -> Option<bool> {
        Some(match self {
            // A caller without a principal is on no list of them, and so on every `not` list, as with Envoy.
            Self::Principal(patterns) => {
                request.peer.is_some_and(|peer| any(patterns, |pattern| pattern.matches(peer.principal())))
            }
            Self::Namespace(patterns) => request.peer.is_some_and(|peer| {
                namespaces(peer).any(|name| any(patterns, |pattern| pattern.matches(name)))
            }),
            Self::Address(blocks) => {
                let source = request.source?.to_canonical();
                blocks.iter().any(|block| contains(block, source))
            }
            Self::Host(patterns) => any(patterns, |pattern| pattern.matches_ignoring_case(request.host)),
            Self::Port(ports) => ports.contains(&request.port),
            Self::Method(patterns) => any(patterns, |pattern| pattern.matches(request.method.as_str())),
            Self::Path(patterns) => any(patterns, |pattern| pattern.matches(request.path)),
        })
    }
}

fn any(patterns: &[Pattern], matches: impl Fn(&Pattern) -> bool) -> bool {
    patterns.iter().any(matches)
}

/// Returns the namespaces that Istio's expression `.*/ns/NAMESPACE/.*` sees in an ID; of an Istio ID that is one.
fn namespaces(peer: &SpiffeId) -> impl Iterator<Item = &str> {
    let segments = || peer.path().split('/');
    let after = segments().skip(2).map(Some).chain([None]);
    let pairs = segments().zip(segments().skip(1)).zip(after);
    pairs.filter_map(|((marker, name), next)| (marker == "ns" && next.is_some()).then_some(name))
}

fn contains(block: &IpNet, address: IpAddr) -> bool {
    match (block, address) {
        // A caller that came in over a dual-stack socket is the IPv4 address it is; so is a block written that way.
        (IpNet::V6(block), IpAddr::V4(address)) => block.contains(&address.to_ipv6_mapped()),
        (block, address) => block.contains(&address),
    }
}

/// Returns the test over a list of texts; a list that is not written is no condition.
fn texts(texts: &[String], test: fn(Box<[Pattern]>) -> Test) -> Option<Test> {
    (!texts.is_empty()).then(|| test(texts.iter().map(|text| Pattern::text(text)).collect()))
}

fn values<T: Clone>(values: &[T], test: fn(Box<[T]>) -> Test) -> Option<Test> {
    (!values.is_empty()).then(|| test(values.into()))
}

/// Returns the test over paths. A wrong template matches every path where matching denies, else none.
fn path_test(paths: &[String], towards_denial: bool) -> Option<Test> {
    let pattern = |path: &String| Pattern::path(path).or(towards_denial.then_some(Pattern::Present));
    (!paths.is_empty()).then(|| Test::Path(paths.iter().filter_map(pattern).collect()))
}

/// Returns the test over hosts. The port of the authority is gone by the time a request is judged, so a host written
/// with one, `reviews:9080` or `reviews:*`, matches every port where matching denies (`towards_denial`), else none.
fn host_test(hosts: &[String], towards_denial: bool) -> Option<Test> {
    let pattern = |host: &String| match host_without_port(host) {
        Some(name) => towards_denial.then(|| Pattern::text(name)),
        None => Some(Pattern::text(host)),
    };
    (!hosts.is_empty()).then(|| Test::Host(hosts.iter().filter_map(pattern).collect()))
}
