//! The edge of the mesh: which virtual hosts a Gateway has, and which of its servers takes a connection.
//!
//! A virtual host is what a server's hosts and a bound VirtualService's hosts have in common, the narrower of the two.
//! Other than inside the mesh, several VirtualServices may route one host: their routes stand one behind the other,
//! the oldest rule's first, those that take everything last. It listens to nothing: `mesh_server`'s edge does.
// spec: istio pilot/pkg/networking/core/gateway.go buildGatewayHTTPRouteConfig

use super::{
    MeshSettings, Scope, Snapshot, Viewer,
    clusters::{ClusterStore, Clusters},
    hosts::with_delegates,
    inbound,
    index::Index,
    routes::Compiler,
    sorted,
    view::{Typed, View, age, specificity},
};
use crate::{
    config::{
        Code, Diagnostic, Resource, Spec,
        istio::{Gateway, MtlsMode, NamespacedHost, Server, VirtualService, backwards, bound_gateway},
    },
    health::States,
    registry::{Answers, full_host},
    route::{HeaderOps, HostTable, Redirect, Route, RouteAction, RouteMatch, VirtualHost},
};
use http::StatusCode;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Compiles the Gateway `key`, its namespace and name, into the snapshot of an edge: unknown hosts are answered with
/// 404, and nothing is passed through. `None` if there is no such Gateway.
pub fn compile_gateway(
    key: (&str, &str),
    version: &str,
    resources: &[Arc<Resource>],
    settings: &MeshSettings,
    states: &States,
) -> Option<(Snapshot, Vec<Diagnostic>)> {
    let nothing = Answers::default();
    let edge = compile_edge(key, version, resources, settings, states, &nothing)?;
    Some((edge.snapshot, edge.findings))
}

/// Compiles snapshots for the edge that a Gateway describes, one after the other; each from scratch.
#[derive(Debug)]
pub struct EdgeCompiler {
    namespace: String,
    name: String,
    /// What names stand for.
    answers: Answers,
    last: Option<LastEdge>,
}

/// What was compiled last, and the names in it.
#[derive(Debug)]
struct LastEdge {
    version: Arc<str>,
    resources: Vec<Arc<Resource>>,
    settings: MeshSettings,
    names: Vec<Arc<str>>,
}

/// A Gateway, compiled.
struct CompiledEdge {
    snapshot: Snapshot,
    findings: Vec<Diagnostic>,
    names: Vec<Arc<str>>,
}

impl EdgeCompiler {
    /// Returns a compiler for the Gateway `namespace/name` that has compiled nothing.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), answers: Answers::default(), last: None }
    }

    /// Returns every name whose answer the configuration compiled last wants to be told, in order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.last.iter().flat_map(|last| &last.names)
    }

    /// Compiles `resources`. Without the Gateway there is an edge that lets nobody in, and a finding that says so.
    pub fn compile(
        &mut self,
        version: &str,
        resources: &[Arc<Resource>],
        settings: &MeshSettings,
        states: &States,
    ) -> (Snapshot, Vec<Diagnostic>) {
        let key = (self.namespace.as_str(), self.name.as_str());
        let compiled = compile_edge(key, version, resources, settings, states, &self.answers);
        let CompiledEdge { snapshot, findings, names } = compiled.unwrap_or_else(|| missing(key, version));
        let (resources, settings) = (resources.to_vec(), settings.clone());
        self.last = Some(LastEdge { version: version.into(), resources, settings, names });
        (snapshot, findings)
    }

    /// Takes what names stand for, and compiles again; `None` if nothing that was compiled goes by it.
    pub fn resolve(&mut self, answers: Answers, states: &States) -> Option<Snapshot> {
        self.answers = answers;
        let last = self.last.take().filter(|last| !last.names.is_empty())?;
        Some(self.compile(&last.version, &last.resources, &last.settings, states).0)
    }
}

fn missing((namespace, name): (&str, &str), version: &str) -> CompiledEdge {
    let message = format!("there is no Gateway {namespace}/{name}: this edge lets nobody in");
    let snapshot = Snapshot { version: version.into(), ..Snapshot::empty(MtlsMode::Strict) };
    let findings = vec![Diagnostic::error(Code::REFERENCE_NOT_FOUND, message)];
    CompiledEdge { snapshot, findings, names: Vec::new() }
}

fn compile_edge(
    key: (&str, &str),
    version: &str,
    resources: &[Arc<Resource>],
    settings: &MeshSettings,
    states: &States,
    answers: &Answers,
) -> Option<CompiledEdge> {
    let resources = &sorted(resources)[..];
    let gateway = find(resources, key)?;
    let (settings, mut findings) = settings.of(resources);
    let labels = gateway.selector.clone();
    let viewer = Viewer { namespace: key.0.to_owned(), service: None, labels };
    // A Sidecar is for workloads that call; an edge sees everything.
    let mut index = Index::of(resources, &viewer, &settings, Scope::default());
    index.registry.resolve(answers.clone());
    let view = View::new(&index, &viewer, &settings);
    let mut store = ClusterStore::new();
    let mut clusters = Clusters::new(view, states, &mut store);
    let hosts = Edge { key, gateway, view }.hosts(&mut clusters, &mut findings);
    let inbound = inbound::compile(&view, states);
    let (_, _, mut others) = clusters.finish();
    findings.append(&mut others);
    findings.extend(store.findings().cloned());
    let snapshot = Snapshot {
        version: version.into(),
        hosts,
        clusters: store.table,
        allow_any: false,
        domain: settings.domain.clone(),
        inbound,
        gateway: Some(Arc::new(gateway.clone())),
    };
    Some(CompiledEdge { snapshot, findings, names: index.registry.names().cloned().collect() })
}

impl Gateway {
    /// Returns the server that takes a connection at `port` for `host`: the server name of TLS, or what a request in
    /// plain asks for. The most specific host wins, then the first server.
    pub fn server(&self, port: u16, host: &str) -> Option<&Server> {
        let host = host.to_ascii_lowercase();
        let fits = |server: &Server| {
            server.hosts.iter().filter_map(|offered| specificity(&offered.host, &host)).max()
        };
        let servers = self.servers.iter().filter(|server| server.port.number == port);
        let best = servers.filter_map(|server| Some((fits(server)?, server)));
        best.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, server)| server)
    }
}

fn find<'a>(resources: &'a [Arc<Resource>], (namespace, name): (&str, &str)) -> Option<&'a Gateway> {
    resources.iter().find_map(|resource| match &resource.spec {
        Spec::Gateway(spec) if *resource.key.namespace == *namespace && *resource.key.name == *name => {
            Some(spec)
        }
        _ => None,
    })
}

/// A Gateway that is being compiled.
struct Edge<'a, 'b> {
    key: (&'b str, &'b str),
    gateway: &'b Gateway,
    view: View<'a>,
}

/// The rules that route a host at a port, the oldest first.
type Claims<'a> = BTreeMap<(u16, String), Vec<Typed<'a, VirtualService>>>;

impl<'a> Edge<'a, '_> {
    fn hosts(&self, clusters: &mut Clusters<'a, '_>, findings: &mut Vec<Diagnostic>) -> HostTable {
        let (claims, redirected) = self.claims();
        let mut table = HostTable::of_edge();
        for (port, host) in redirected {
            table.insert(&host, Some(port), &Arc::new(to_https(&host, port)));
        }
        for ((port, host), rules) in claims {
            let gateway = Some(self.key);
            let mut compiler = Compiler { view: self.view, clusters, findings, port, gateway };
            let virtual_host = merged(&mut compiler, &format!("{host}:{port}"), &rules);
            table.insert(&host, Some(port), &Arc::new(virtual_host));
        }
        for port in self.servers().map(|server| server.port.number) {
            let name = format!("blackhole:{port}").into();
            let nothing = VirtualHost { name, routes: Vec::new(), source: None };
            table.insert("*", Some(port), &Arc::new(nothing));
        }
        table
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.gateway.servers.iter().filter(|server| server.routes_http())
    }

    /// Returns which rules route which host, and the hosts that are only sent on to `https`.
    fn claims(&self) -> (Claims<'a>, BTreeSet<(u16, String)>) {
        let offers = Offers::of(self.servers());
        let (mut claims, mut redirected) = (Claims::new(), BTreeSet::new());
        for server in self.servers().filter(|server| server.redirects()) {
            redirected.extend(server.hosts.iter().map(|offered| (server.port.number, offered.host.clone())));
        }
        for rule in self.rules() {
            let namespace = &*rule.resource.key.namespace;
            for host in &rule.spec.hosts {
                let host = full_host(&host.value, namespace, &self.view.settings.domain);
                for (server, offered, common) in offers.common(&host) {
                    if !offered.namespaces.include(namespace, self.key.0) {
                        continue;
                    }
                    let place = (server.port.number, common.to_owned());
                    if server.redirects() {
                        redirected.insert(place.clone());
                    }
                    let rules = claims.entry(place).or_default();
                    // Several servers may offer what one rule asks for.
                    if !rules.last().is_some_and(|last| Arc::ptr_eq(last.resource, rule.resource)) {
                        rules.push(rule);
                    }
                }
            }
        }
        (claims, redirected)
    }

    /// Returns the visible rules that are bound to this Gateway, the oldest first.
    fn rules(&self) -> Vec<Typed<'a, VirtualService>> {
        let specs = self.view.resources.iter().filter_map(|resource| match &resource.spec {
            Spec::VirtualService(spec) => Some(Typed { resource, spec }),
            _ => None,
        });
        let is_bound = |rule: &Typed<'_, VirtualService>| {
            let namespace = &rule.resource.key.namespace;
            let bound = |name: &String| name != "mesh" && bound_gateway(name, namespace) == self.key;
            rule.spec.gateways.iter().any(bound) && self.view.sees_rule(rule)
        };
        let mut rules: Vec<_> = specs.filter(is_bound).collect();
        rules.sort_by(|a, b| age(a.resource).cmp(&age(b.resource)));
        rules
    }
}

/// The hosts that the servers offer, to be found by the hosts of rules.
struct Offers<'s> {
    /// By name: full, `*.suffix` or `*`.
    by_name: HashMap<&'s str, Vec<(&'s Server, &'s NamespacedHost)>>,
    /// The names spelled backwards, so that those below a suffix stand side by side.
    backwards: BTreeMap<String, &'s str>,
}

impl<'s> Offers<'s> {
    fn of(servers: impl Iterator<Item = &'s Server>) -> Self {
        let mut offers = Self { by_name: HashMap::new(), backwards: BTreeMap::new() };
        for server in servers {
            for host in &server.hosts {
                offers.by_name.entry(&host.host).or_default().push((server, host));
                offers.backwards.insert(backwards(&host.host), &host.host);
            }
        }
        offers
    }

    /// Returns every offer that has something in common with `host`, and what: the narrower of the two.
    fn common<'h>(&self, host: &'h str) -> Vec<(&'s Server, &'s NamespacedHost, &'h str)>
    where
        's: 'h,
    {
        let suffix = host.strip_prefix('*').unwrap_or(host);
        let parents = suffix.match_indices('.').map(|(dot, _)| format!("*{}", &suffix[dot..]));
        let own = [host.to_owned(), "*".to_owned()];
        let wider: BTreeSet<_> = own.into_iter().chain(parents).collect();
        let wider = wider.iter().filter_map(|name| self.by_name.get(name.as_str()));
        let mut found: Vec<_> = wider.flatten().map(|(server, offer)| (*server, *offer, host)).collect();
        if let Some(suffix) = host.strip_prefix('*') {
            let start = backwards(suffix);
            let below =
                self.backwards.range(start.clone()..).take_while(|(name, _)| name.starts_with(&start));
            for (_, name) in below.filter(|(_, name)| **name != host) {
                let offers = self.by_name.get(name).into_iter().flatten();
                found.extend(offers.map(|(server, offer)| (*server, *offer, *name)));
            }
        }
        found
    }
}

/// Returns the routes of `rules`, one rule behind the other, with those that take everything last.
// spec: istio pilot/pkg/networking/core/route/route.go SortVHostRoutes
fn merged<'a>(
    compiler: &mut Compiler<'a, '_, '_>,
    name: &str,
    rules: &[Typed<'a, VirtualService>],
) -> VirtualHost {
    let mut all = VirtualHost { name: name.into(), routes: Vec::new(), source: None };
    for rule in rules {
        let merged = with_delegates(compiler.view, *rule, compiler.clusters, compiler.findings);
        let spec = merged.as_ref().unwrap_or(rule.spec);
        let one = compiler.virtual_host(name, Typed { resource: rule.resource, spec });
        all.routes.extend(one.routes);
        all.source = all.source.or(one.source);
    }
    all.routes.sort_by_key(|route| route.matches.is_catch_all());
    all
}

/// Returns the virtual host of a server with `httpsRedirect`.
// spec: envoy config.route.v3.VirtualHost require_tls: 301
fn to_https(host: &str, port: u16) -> VirtualHost {
    let redirect = Redirect {
        status: StatusCode::MOVED_PERMANENTLY,
        uri: None,
        authority: None,
        port: None,
        scheme: Some("https".to_owned()),
        path: None,
        fault: None,
    };
    let route = Route {
        name: "httpsRedirect".into(),
        source: None,
        matches: RouteMatch::default(),
        action: RouteAction::Redirect(redirect),
        response_headers: HeaderOps::default(),
    };
    VirtualHost { name: format!("{host}:{port}").into(), routes: vec![route], source: None }
}
