//! One rule of a policy: some `from`, some `to` and the `when`, each a list of conditions that must all hold.

mod recorded;

use super::{
    Request, TrustDomains,
    pattern::{Pattern, host_without_port},
    principal::TokenPrincipal,
};
use crate::config::{
    Location,
    istio::{
        AuthorizationAction, AuthorizationRule, Condition as When, Lists, Operation, ServiceAccount, Source,
    },
};
use http::{HeaderName, HeaderValue, header::GetAll};
use ipnet::IpNet;
use std::{fmt, net::IpAddr};

/// A rule, compiled.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) location: Location,
    /// `from`, `to` and `when`: each must match.
    parts: [Clauses; 3],
}

/// Some of these must match; none written matches everything.
#[derive(Clone, Debug)]
pub(super) struct Clauses(Box<[Clause]>);

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
    /// As it is written: `from[0].source.notNamespaces ["shop"]`.
    text: Box<str>,
    test: Test,
    negated: bool,
    /// The answer when the request lacks what is asked about: the one that denies.
    unknown: bool,
}

#[derive(Clone, Debug)]
enum Test {
    /// The peer's ID without its scheme.
    Principal(Box<[Pattern]>),
    TrustDomain(Box<[Pattern]>),
    TokenPrincipal(Box<[TokenPrincipal]>),
    Claim(Box<[String]>, Box<[Pattern]>),
    Address(End, Box<[IpNet]>),
    Sni(Box<[Pattern]>),
    Host {
        patterns: Box<[Pattern]>,
        /// What to compare with a host without a port besides, where no port may stand in the way of a denial.
        portless: Option<Box<[Pattern]>>,
    },
    Port(Box<[u16]>),
    Method(Box<[Pattern]>),
    Path(Box<[Pattern]>),
    Header {
        name: HeaderName,
        patterns: Box<[Pattern]>,
        /// Whether one way to read several values is enough, instead of every one.
        any: bool,
    },
}

/// Whose address is asked about.
#[derive(Clone, Copy, Debug)]
enum End {
    Source,
    Remote,
    Destination,
}

impl Rule {
    pub(super) fn new(
        rule: &AuthorizationRule,
        action: AuthorizationAction,
        trust_domains: &TrustDomains<'_>,
        location: Location,
    ) -> Self {
        let clause = |path| Writing::new(path, action, trust_domains);
        let sources = rule.from.iter().enumerate();
        let operations = rule.to.iter().enumerate();
        let from = sources.map(|(i, source)| clause(format!("from[{i}].source.")).source(source));
        let to = operations.map(|(i, operation)| clause(format!("to[{i}].operation.")).operation(operation));
        let when = (!rule.when.is_empty()).then(|| clause("when ".to_owned()).when(&rule.when));
        Self { location, parts: [from.collect(), to.collect(), when.into_iter().collect()].map(Clauses) }
    }

    pub(super) fn matches(&self, request: &Request<'_>) -> bool {
        self.failed(request).is_none()
    }

    /// Returns the first part of which no clause matches.
    pub(super) fn failed(&self, request: &Request<'_>) -> Option<&Clauses> {
        self.parts.iter().find(|part| !part.match_any(request))
    }
}

impl Clauses {
    fn match_any(&self, request: &Request<'_>) -> bool {
        self.0.is_empty() || self.0.iter().any(|clause| clause.matches(request))
    }

    /// Returns the first condition of each clause that `request` does not meet, in words.
    pub(super) fn tell(&self, request: &Request<'_>) -> String {
        let told: Vec<_> = self.0.iter().map(|clause| clause.tell(request)).collect();
        told.join("; ")
    }
}

impl Clause {
    fn matches(&self, request: &Request<'_>) -> bool {
        match &*self.conditions {
            [] => self.empty,
            conditions => conditions.iter().all(|condition| condition.holds(request)),
        }
    }

    fn tell(&self, request: &Request<'_>) -> String {
        match self.conditions.iter().find(|condition| !condition.holds(request)) {
            Some(Condition { text, test, .. }) => format!("{text}, got {}", Subject { test, request }),
            None => "no condition is written".to_owned(),
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
            Self::Principal(patterns) => request.peer.is_some_and(|peer| on(patterns, peer.principal())),
            Self::TrustDomain(patterns) => request.peer.is_some_and(|peer| on(patterns, peer.trust_domain())),
            Self::TokenPrincipal(principals) => {
                let claims = request.claims?;
                principals.iter().any(|principal| principal.matches(claims))
            }
            Self::Claim(path, patterns) => request.claims?.texts(path).any(|text| on(patterns, text)),
            Self::Address(end, blocks) => {
                let address = end.address(request)?.to_canonical();
                blocks.iter().any(|block| contains(block, address))
            }
            Self::Sni(patterns) => on(patterns, request.sni.unwrap_or_default()),
            Self::Host { patterns, portless } => host_answer(request.host, patterns, portless.as_deref()),
            Self::Port(ports) => ports.contains(&request.port),
            Self::Method(patterns) => on(patterns, request.method.as_str()),
            Self::Path(patterns) => on(patterns, request.path),
            Self::Header { name, patterns, any } => {
                header_answer(&request.headers.get_all(name), patterns, *any)
            }
        })
    }
}

fn on(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

/// Returns whether `host`, with its port if it has one, is on the list.
fn host_answer(host: &str, patterns: &[Pattern], portless: Option<&[Pattern]>) -> bool {
    let on = |patterns: &[Pattern], host| patterns.iter().any(|pattern| pattern.matches_ignoring_case(host));
    let besides = |portless| match host_without_port(host) {
        Some(name) => on(patterns, name),
        None => on(portless, host),
    };
    on(patterns, host) || portless.is_some_and(besides)
}

/// Returns whether a header's values are on the list. Envoy compares them joined by commas, a handler mostly takes one
/// of them: with `any` one way to read them is enough, else all must agree.
// spec: envoy config.route.v3.HeaderMatcher; CVE-2020-25017
fn header_answer(values: &GetAll<'_, HeaderValue>, patterns: &[Pattern], any: bool) -> bool {
    let pieces = || values.iter().map(HeaderValue::as_bytes);
    let one = |piece| listed(patterns, || std::iter::once(piece));
    match any {
        _ if pieces().next().is_none() => false,
        true => pieces().any(one) || listed(patterns, pieces),
        false => pieces().all(one) && listed(patterns, pieces),
    }
}

fn listed<'p, I: Iterator<Item = &'p [u8]>>(patterns: &[Pattern], pieces: impl Fn() -> I) -> bool {
    patterns.iter().any(|pattern| pattern.matches_joined(&pieces))
}

impl End {
    fn address(self, request: &Request<'_>) -> Option<IpAddr> {
        match self {
            Self::Source => request.source,
            Self::Remote => request.remote,
            Self::Destination => request.destination,
        }
    }
}

fn contains(block: &IpNet, address: IpAddr) -> bool {
    match (block, address) {
        // A caller that came in over a dual-stack socket is the IPv4 address it is; so is a block written that way.
        (IpNet::V6(block), IpAddr::V4(address)) => block.contains(&address.to_ipv6_mapped()),
        (block, address) => block.contains(&address),
    }
}

/// What a request has where a test looks.
struct Subject<'a> {
    test: &'a Test,
    request: &'a Request<'a>,
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { test, request } = self;
        match test {
            Test::Principal(_) | Test::TrustDomain(_) => match request.peer {
                Some(peer) => write!(f, "{:?}", peer.principal()),
                None => f.write_str("no verified peer"),
            },
            Test::TokenPrincipal(_) | Test::Claim(..) => match request.claims {
                Some(claims) => write!(f, "a token of {:?} for {:?}", claims.issuer(), claims.subject()),
                None => f.write_str("no token, as nobody verifies any"),
            },
            Test::Address(end, _) => match end.address(request) {
                Some(address) => write!(f, "{address}"),
                None => f.write_str("no address"),
            },
            Test::Sni(_) => write!(f, "{:?}", request.sni.unwrap_or_default()),
            Test::Host { .. } => write!(f, "{:?}", request.host),
            Test::Port(_) => write!(f, "{}", request.port),
            Test::Method(_) => write!(f, "{:?}", request.method.as_str()),
            Test::Path(_) => write!(f, "{:?}", request.path),
            Test::Header { name, .. } => f.debug_list().entries(request.headers.get_all(name)).finish(),
        }
    }
}

/// A clause that is being compiled.
struct Writing<'a> {
    /// Where it stands in its rule.
    path: String,
    denies: bool,
    trust_domains: &'a TrustDomains<'a>,
    conditions: Vec<Condition>,
}

impl<'a> Writing<'a> {
    fn new(path: String, action: AuthorizationAction, trust_domains: &'a TrustDomains<'a>) -> Self {
        // An AUDIT errs as a DENY does: it rather records too much.
        let denies = action != AuthorizationAction::Allow;
        Self { path, denies, trust_domains, conditions: Vec::new() }
    }

    fn finish(self) -> Clause {
        Clause { conditions: self.conditions.into(), empty: self.denies }
    }

    fn source(mut self, source: &Source) -> Clause {
        let domains = self.trust_domains;
        self.lists("principals", &source.principals, |texts, _| principals(texts, domains));
        self.lists("requestPrincipals", &source.request_principals, |texts, _| token_principals(texts));
        self.lists("namespaces", &source.namespaces, |texts, _| namespaces(texts));
        self.lists("serviceAccounts", &source.service_accounts, |accounts, _| service_accounts(accounts));
        self.lists("trustDomains", &source.trust_domains, |texts, _| trust_domains_of(texts, domains));
        self.lists("ipBlocks", &source.ip_blocks, |blocks, _| Test::Address(End::Source, blocks.into()));
        self.lists("remoteIpBlocks", &source.remote_ip_blocks, |blocks, _| {
            Test::Address(End::Remote, blocks.into())
        });
        self.finish()
    }

    fn operation(mut self, operation: &Operation) -> Clause {
        self.lists("hosts", &operation.hosts, hosts);
        self.lists("ports", &operation.ports, |ports, _| Test::Port(ports.into()));
        self.lists("methods", &operation.methods, |texts, _| Test::Method(patterns(texts)));
        self.lists("paths", &operation.paths, paths);
        self.finish()
    }

    fn when(mut self, conditions: &[When]) -> Clause {
        for condition in conditions {
            self.on(condition);
        }
        self.finish()
    }

    fn on(&mut self, condition: &When) {
        let domains = self.trust_domains;
        match condition {
            When::Header(name, lists) => {
                let test = |texts: &[String], any| Test::Header {
                    name: name.clone(),
                    patterns: patterns(texts),
                    any,
                };
                self.lists(&format!("request.headers[{name}]"), lists, test);
            }
            When::Host(lists) => self.lists("request.headers[host]", lists, hosts),
            When::Method(lists) => {
                self.lists("request.headers[:method]", lists, |texts, _| Test::Method(patterns(texts)));
            }
            When::SourceIp(lists) => self.addresses("source.ip", lists, End::Source),
            When::RemoteIp(lists) => self.addresses("remote.ip", lists, End::Remote),
            When::DestinationIp(lists) => self.addresses("destination.ip", lists, End::Destination),
            When::SourceNamespace(lists) => {
                self.lists("source.namespace", lists, |texts, _| namespaces(texts));
            }
            When::SourcePrincipal(lists) => {
                self.lists("source.principal", lists, |texts, _| principals(texts, domains));
            }
            When::SourceServiceAccount(lists) => {
                self.lists("source.serviceAccount", lists, |accounts, _| service_accounts(accounts));
            }
            When::RequestPrincipal(lists) => {
                self.lists("request.auth.principal", lists, |texts, _| token_principals(texts));
            }
            When::Claim(path, lists) => {
                let test = |texts: &[String], _| Test::Claim(path.as_slice().into(), patterns(texts));
                self.lists(&format!("request.auth.claims[{}]", path.join("][")), lists, test);
            }
            When::DestinationPort(lists) => {
                self.lists("destination.port", lists, |ports, _| Test::Port(ports.into()));
            }
            When::Sni(lists) => self.lists("connection.sni", lists, |texts, _| Test::Sni(patterns(texts))),
        }
    }

    fn addresses(&mut self, name: &str, lists: &Lists<IpNet>, end: End) {
        self.lists(name, lists, |blocks, _| Test::Address(end, blocks.into()));
    }

    /// Adds the conditions of a list and its opposite; a list that is not written is no condition. `test` is told
    /// whether to be on its list denies.
    fn lists<T: fmt::Debug>(&mut self, name: &str, lists: &Lists<T>, test: impl Fn(&[T], bool) -> Test) {
        for (negated, values) in [(false, &lists.values), (true, &lists.not_values)] {
            if values.is_empty() {
                continue;
            }
            self.conditions.push(Condition {
                text: self.text(name, values, negated),
                test: test(values, self.denies != negated),
                negated,
                unknown: self.denies,
            });
        }
    }

    fn text<T: fmt::Debug>(&self, name: &str, values: &[T], negated: bool) -> Box<str> {
        let shown = &values[..values.len().min(SHOWN_MAX)];
        let (not, more) =
            (if negated { "not " } else { "" }, if values.len() > SHOWN_MAX { " …" } else { "" });
        format!("{}{name} {not}{shown:?}{more}", self.path).into()
    }
}

fn patterns(texts: &[String]) -> Box<[Pattern]> {
    texts.iter().map(|text| Pattern::text(text)).collect()
}

fn principals(texts: &[String], trust_domains: &TrustDomains<'_>) -> Test {
    let all = texts.iter().flat_map(|text| trust_domains.principals(text));
    Test::Principal(all.map(|text| Pattern::text(&text)).collect())
}

fn trust_domains_of(texts: &[String], trust_domains: &TrustDomains<'_>) -> Test {
    let all = texts.iter().flat_map(|text| trust_domains.domains(text));
    Test::TrustDomain(all.map(|text| Pattern::text(&text)).collect())
}

fn token_principals(texts: &[String]) -> Test {
    Test::TokenPrincipal(texts.iter().map(|text| TokenPrincipal::new(text)).collect())
}

/// Returns the test for what Istio's expression `.*/ns/NAMESPACE/.*` sees in an ID; of an Istio ID that is one name.
// spec: istio pilot/pkg/security/authz/model srcNamespaceGenerator
fn namespaces(texts: &[String]) -> Test {
    Test::Principal(texts.iter().map(|text| Pattern::glob(&format!("*/ns/{text}/*"))).collect())
}

/// Returns the test for what Istio's expression `spiffe://.+/ns/NAMESPACE/(.+/|)sa/ACCOUNT(/.+)?` sees in an ID.
// spec: istio pilot/pkg/security/authz/model serviceAccountRegex
fn service_accounts(accounts: &[ServiceAccount]) -> Test {
    let globs = accounts.iter().flat_map(|ServiceAccount { namespace, name }| {
        ["", "*/"].into_iter().flat_map(move |before| {
            ["", "/*"].map(|after| Pattern::glob(&format!("*/ns/{namespace}/{before}sa/{name}{after}")))
        })
    });
    Test::Principal(globs.collect())
}

/// Returns the test over paths. A wrong template matches every path where matching denies, else none.
fn paths(paths: &[String], towards_denial: bool) -> Test {
    let pattern = |path: &String| Pattern::path(path).or(towards_denial.then_some(Pattern::Present));
    Test::Path(paths.iter().filter_map(pattern).collect())
}

/// Returns the test over hosts. Envoy compares them with the whole authority, so `reviews` is not `reviews:9080` to an
/// ALLOW. Where matching denies (`towards_denial`), a port that only one of the two has makes no difference. The dot at the
/// end of a host is gone by the time a request is judged.
// spec: istio pilot/pkg/security/authz/matcher HostMatcher; ISTIO-SECURITY-2021-008
fn hosts(hosts: &[String], towards_denial: bool) -> Test {
    let pattern =
        |host: &str| Pattern::text(host.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(host));
    let portless = || hosts.iter().filter_map(|host| host_without_port(host)).map(pattern).collect();
    Test::Host {
        patterns: hosts.iter().map(|host| pattern(host)).collect(),
        portless: towards_denial.then(portless),
    }
}

/// More values of one list tell nobody more.
const SHOWN_MAX: usize = 8;
