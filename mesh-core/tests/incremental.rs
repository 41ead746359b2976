//! Compiling what changed gives what compiling everything gives, whatever the change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use http::{HeaderMap, Method};
use mesh_core::{
    config::{Accepted, Options, SourceFile},
    dice::{Dice as _, Lowest, Seeded},
    health::States,
    route::{Decision, Head},
    snapshot::{Compiler, MeshSettings, Snapshot, Viewer, compile},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

#[test]
fn a_snapshot_of_what_changed_is_the_snapshot_of_everything() {
    let mut kinds = BTreeSet::new();
    for seed in 0..SEEDS {
        let mut day = Day::new(seed);
        for step in 0..STEPS {
            day.edit();
            let (incremental, whole) = (day.compile_again(), day.compile_whole());
            let differ = |(a, b): &(&str, &str)| a != b;
            let difference = incremental.lines().zip(whole.lines()).find(differ);
            assert!(
                incremental == whole,
                "seed {seed}, step {step}, after {}: {difference:#?}",
                day.last_edit
            );
            kinds.extend(day.accepted.resources.iter().map(|resource| resource.key.kind.to_string()));
        }
    }
    assert_eq!(kinds, KINDS.map(str::to_owned).into(), "an edit that is refused tries nothing");
}

#[test]
fn what_a_change_does_not_touch_is_the_same_allocation() {
    let mut day = Day::new(0);
    for name in SERVICES {
        let text = service(name, &mut Seeded::new(1));
        day.files.insert(name.to_owned(), text);
    }
    let (before, _) = day.snapshot();
    let text = service(SERVICES[0], &mut Seeded::new(2));
    day.files.insert(SERVICES[0].to_owned(), text);
    let (after, _) = day.snapshot();
    let find = |snapshot: &Snapshot, name: &str| {
        let host = format!("{name}.shop.svc.cluster.local");
        snapshot.clusters().find(|cluster| *cluster.host == *host).map(Arc::clone).unwrap()
    };
    assert!(!Arc::ptr_eq(&find(&before, SERVICES[0]), &find(&after, SERVICES[0])));
    for name in &SERVICES[1..] {
        assert!(Arc::ptr_eq(&find(&before, name), &find(&after, name)), "{name}");
    }
}

/// A mesh that somebody edits at random.
struct Day {
    dice: Seeded,
    files: BTreeMap<String, String>,
    accepted: Accepted,
    compiler: Compiler,
    states: States,
    last_edit: String,
}

impl Day {
    fn new(seed: u64) -> Self {
        let (dice, states) = (Seeded::new(seed), States::default());
        let (files, accepted) = (BTreeMap::new(), Accepted::default());
        Self { dice, files, accepted, compiler: Compiler::new(viewer()), states, last_edit: String::new() }
    }

    /// Writes one file, or deletes it.
    fn edit(&mut self) {
        let (name, text) = match self.dice.below(25) {
            0..=2 => some_service(&mut self.dice),
            3 => some_entry(&mut self.dice),
            4..=6 => some_routes(&mut self.dice),
            7 | 8 => some_rule(&mut self.dice),
            9 => some_attached_route(&mut self.dice),
            10 => some_delegate(&mut self.dice),
            11 | 12 => some_policy(&mut self.dice),
            13 => some_policy_of_1_3(&mut self.dice),
            14 => some_authorization(&mut self.dice),
            15 => some_sidecar(&mut self.dice),
            16 => some_mesh_config(&mut self.dice),
            17 => (OWN.to_owned(), service(OWN, &mut self.dice)),
            18 | 19 => some_kubernetes_service(&mut self.dice),
            20 | 21 => some_pod(&mut self.dice),
            22 => some_slice(&mut self.dice),
            _ => some_scoped_entry(&mut self.dice),
        };
        self.last_edit = format!("{name}: {text}");
        match self.dice.below(4) {
            0 => drop(self.files.remove(&name)),
            _ => drop(self.files.insert(name, text)),
        }
    }

    fn compile_again(&mut self) -> String {
        let (snapshot, findings) = self.snapshot();
        format!("{}{findings}", shown(&snapshot))
    }

    fn snapshot(&mut self) -> (Snapshot, String) {
        let file =
            |(name, text): (&String, &String)| SourceFile { name: name.clone(), text: Ok(text.clone()) };
        let files: Vec<_> = self.files.iter().map(file).collect();
        self.accepted = self.accepted.update(&files, &Options::default());
        let (snapshot, findings) =
            self.compiler.compile("1", &self.accepted.resources, &settings(), &self.states);
        (snapshot, format!("{findings:#?}"))
    }

    fn compile_whole(&self) -> String {
        let (snapshot, findings) =
            compile("1", &self.accepted.resources, &viewer(), &settings(), &self.states);
        format!("{}{findings:#?}", shown(&snapshot))
    }
}

/// Everything a request can see of `snapshot`, without the numbers of clusters.
fn shown(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let names: BTreeSet<_> = snapshot.clusters().map(|cluster| cluster.name.to_string()).collect();
    assert_eq!(names.len(), snapshot.clusters().count(), "a cluster is there twice");
    for authority in authorities() {
        let headers = HeaderMap::new();
        for path in ["/", "/a"] {
            let head = Head {
                method: &Method::GET,
                scheme: "http",
                authority: &authority,
                path_and_query: path,
                headers: &headers,
            };
            let host = snapshot.virtual_host(&head);
            let _ = write!(text, "{authority}{path} -> {:?} ", host.map(|(host, port)| (&host.name, port)));
            let _ = match snapshot.route(&head, &mut Lowest) {
                Decision::Forward { route, target, .. } => {
                    let cluster = target.cluster.map(|id| snapshot.cluster(id));
                    let endpoints = cluster.map(|it| {
                        let endpoints = it.endpoints.as_slice().iter();
                        endpoints.map(|it| format!("{} {:?}", it.address, it.security)).collect::<Vec<_>>()
                    });
                    let policy = cluster.map(|it| (it.endpoints.policy(), it.limits, it.tls, &it.rule));
                    writeln!(text, "{} {} {endpoints:?} {policy:?}", route.name, target.name)
                }
                Decision::Answer { route, .. } => writeln!(text, "{}", route.name),
                Decision::NoRoute { .. } => writeln!(text, "no route"),
                Decision::Passthrough => writeln!(text, "passthrough"),
                Decision::Blocked => writeln!(text, "blocked"),
            };
        }
    }
    let _ = writeln!(text, "{names:#?}\n{:#?}", snapshot.inbound());
    text
}

fn authorities() -> Vec<String> {
    let outside = [
        "a.example.com",
        "b.other.org",
        "b.other.org:8080",
        "en.wiki.org",
        "en.wiki.org:443",
        "cart.shop:9999",
        "10.9.9.1",
    ];
    let mut names: Vec<_> = outside.map(str::to_owned).into();
    for name in SERVICES {
        for port in ["", ":80", ":8080"] {
            names.push(format!("{name}{port}"));
            names.push(format!("{name}.shop{port}"));
            names.push(format!("{name}.away.svc.cluster.local{port}"));
        }
    }
    names
}

fn some_service(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &SERVICES);
    (name.to_owned(), service(name, dice))
}

fn service(name: &str, dice: &mut Seeded) -> String {
    let namespace = one_of(dice, &["shop", "shop", "away"]);
    let second = one_of(dice, &["", ", {number: 8080, name: admin, protocol: HTTP}"]);
    let export = one_of(dice, &["", "", "exportTo: ['.'], "]);
    let endpoint = |dice: &mut Seeded| {
        let (version, mode) = (one_of(dice, &["v1", "v2"]), one_of(dice, &["istio", "disabled"]));
        format!(
            "{{address: 10.0.0.{}, labels: {{version: {version}, security.istio.io/tlsMode: {mode}}}}}",
            dice.below(250)
        )
    };
    let endpoints: Vec<_> = (0..dice.below(3)).map(|_| endpoint(dice)).collect();
    let host = format!("{name}.{namespace}.svc.cluster.local");
    entry(name, namespace, &host, second, &endpoints.join(", "))
        .replace("spec: {", &format!("spec: {{{export}"))
}

fn some_entry(dice: &mut Seeded) -> (String, String) {
    let host = one_of(dice, &["a.example.com", "*.example.com", "b.other.org", "cart.shop"]);
    ("entry".to_owned(), entry("entry", "shop", host, "", ""))
}

fn entry(name: &str, namespace: &str, host: &str, second_port: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{hosts: ['{host}'], location: MESH_INTERNAL, resolution: STATIC,
        ports: [{{number: 80, name: http, protocol: HTTP}}{second_port}], endpoints: [{endpoints}]}}}}"
    )
}

/// A Service that selects, or lists, or only is another name; who sees it differs.
fn some_kubernetes_service(dice: &mut Seeded) -> (String, String) {
    let (name, namespace) = (one_of(dice, &SERVICES), one_of(dice, &["shop", "shop", "away"]));
    let (target, of) = (one_of(dice, &SERVICES), one_of(dice, &["shop", "away"]));
    let external = one_of(dice, &["api.example.org", "a.example.com", ""]);
    let inside = format!("{target}.{of}.svc.cluster.local");
    let external = if external.is_empty() { &inside } else { external };
    let export = one_of(dice, &["", "", "'*'", "'.'", "away", "'~'", "'., shop'"]);
    let annotations = match export {
        "" => String::new(),
        export => format!(", annotations: {{networking.istio.io/exportTo: {export}}}"),
    };
    let spec = match dice.below(4) {
        0 | 1 => format!("selector: {{app: {target}}}, clusterIP: 10.9.9.1"),
        2 => "clusterIP: None".to_owned(),
        _ => format!("type: ExternalName, externalName: {external}"),
    };
    let second = one_of(dice, &["", ", {port: 8080, name: admin}"]);
    let text = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}{annotations}}},
        spec: {{{spec}, ports: [{{port: 80, name: http}}{second}]}}}}"
    );
    (format!("service-{name}-{namespace}"), text)
}

fn some_pod(dice: &mut Seeded) -> (String, String) {
    let (name, namespace) = (one_of(dice, &["one", "two", "three"]), one_of(dice, &["shop", "shop", "away"]));
    let (app, version) = (one_of(dice, &SERVICES), one_of(dice, &["v1", "v2"]));
    let mode = one_of(dice, &["istio", "disabled"]);
    let (ip, phase) = (one_of(dice, &ADDRESSES), one_of(dice, &["Running", "Running", "Succeeded"]));
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace},
        labels: {{app: {app}, version: {version}, security.istio.io/tlsMode: {mode}}}}},
        spec: {{serviceAccountName: {app}, containers: [{{name: a}}]}}, status: {{podIP: {ip}, phase: {phase}}}}}"
    );
    (format!("pod-{name}-{namespace}"), text)
}

fn some_slice(dice: &mut Seeded) -> (String, String) {
    let (service, namespace) = (one_of(dice, &SERVICES), one_of(dice, &["shop", "shop", "away"]));
    let (first, second) = (one_of(dice, &ADDRESSES), one_of(dice, &ADDRESSES));
    let text = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {service}, namespace: {namespace},
        labels: {{kubernetes.io/service-name: {service}}}}}, addressType: IPv4,
        endpoints: [{{addresses: [{first}, {second}]}}], ports: [{{port: 80, name: http}}]}}"
    );
    (format!("slice-{service}-{namespace}"), text)
}

/// An entry of one of several namespaces that have the same hosts, for some of them only.
fn some_scoped_entry(dice: &mut Seeded) -> (String, String) {
    let namespace = one_of(dice, &["shop", "away", "far"]);
    let host = one_of(dice, &["a.example.com", "cart.shop.svc.cluster.local", "pay.away.svc.cluster.local"]);
    let export = one_of(dice, &["[]", "['.']", "[shop]", "['*']"]);
    let address = one_of(dice, &ADDRESSES);
    let (host, resolution) = match dice.below(4) {
        0 => ("*.wiki.org", "NONE".to_owned()),
        _ => (
            host,
            format!(
                "STATIC, endpoints: [{{address: {address}, serviceAccount: a, labels: {{security.istio.io/tlsMode: istio}}}}]"
            ),
        ),
    };
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: scoped, namespace: {namespace}}},
        spec: {{hosts: ['{host}'], exportTo: {export}, resolution: {resolution},
        ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}]}}}}"
    );
    (format!("scoped-{namespace}"), text)
}

fn some_routes(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["first", "second", "third"]);
    let hosts = one_of(
        dice,
        &["cart", "pay", "'*.example.com'", "cart, books", "b.other.org", "'*.shop.svc.cluster.local'"],
    );
    let namespace = one_of(dice, &["shop", "away"]);
    let to = |dice: &mut Seeded| {
        let (service, subset) =
            (one_of(dice, &SERVICES), one_of(dice, &["", ", subset: v1", ", subset: v2"]));
        format!("{{destination: {{host: {service}.shop.svc.cluster.local{subset}}}}}")
    };
    let (one, two) = (to(dice), to(dice));
    let first = one_of(dice, &["delegate: {name: child, namespace: shop}", ""]);
    let first = if first.is_empty() { format!("route: [{one}]") } else { first.to_owned() };
    let export = one_of(dice, &["", "exportTo: ['.'], "]);
    let port = one_of(dice, &["", "port: 8080, "]);
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{{export}hosts: [{hosts}], http: [{{match: [{{{port}uri: {{prefix: /a}}}}], {first}}}, {{route: [{two}]}}]}}}}"
    );
    (format!("{name}-routes"), text)
}

fn some_delegate(dice: &mut Seeded) -> (String, String) {
    let service = one_of(dice, &SERVICES);
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: child, namespace: shop}},
        spec: {{http: [{{match: [{{uri: {{prefix: /a}}}}], route: [{{destination: {{host: {service}}}}}]}}]}}}}"
    );
    ("child".to_owned(), text)
}

fn some_attached_route(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["attached-a", "attached-b"]);
    let namespace = one_of(dice, &["shop", "away"]);
    let (parent, backend) = (one_of(dice, &SERVICES), one_of(dice, &SERVICES));
    let port = one_of(dice, &["80", "8080"]);
    let text = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{parentRefs: [{{kind: Service, group: '', name: {parent}, namespace: shop, port: {port}}}],
        rules: [{{backendRefs: [{{name: {backend}, namespace: shop, port: 80}}]}}]}}}}"
    );
    (name.to_owned(), text)
}

fn some_rule(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["rule-a", "rule-b", "rule-c"]);
    let namespace = one_of(dice, &["shop", "away", "istio-system"]);
    let host =
        one_of(dice, &["cart", "pay.shop.svc.cluster.local", "'*.local'", "books.shop.svc.cluster.local"]);
    let policy = one_of(
        dice,
        &[
            "{loadBalancer: {simple: RANDOM}}",
            "{tls: {mode: DISABLE}}",
            "{connectionPool: {http: {http2MaxRequests: 7}}}",
        ],
    );
    let subsets = one_of(
        dice,
        &["", ", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"],
    );
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{host: {host}, trafficPolicy: {policy}{subsets}}}}}"
    );
    (name.to_owned(), text)
}

fn some_policy(dice: &mut Seeded) -> (String, String) {
    let namespace = one_of(dice, &["shop", "istio-system"]);
    let mode = one_of(dice, &["STRICT", "PERMISSIVE", "DISABLE"]);
    let text = format!(
        "{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: default, namespace: {namespace}}},
        spec: {{mtls: {{mode: {mode}}}}}}}"
    );
    ("policy".to_owned(), text)
}

fn some_policy_of_1_3(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["default", "own"]);
    let targets = match name {
        "default" => "",
        _ => one_of(
            dice,
            &["targets: [{name: checkout}], ", "targets: [{name: checkout, ports: [{number: 8080}]}], "],
        ),
    };
    let peers = one_of(dice, &["[{mtls: {}}]", "[{mtls: {mode: PERMISSIVE}}]"]);
    let text = format!(
        "{{apiVersion: authentication.istio.io/v1alpha1, kind: Policy, metadata: {{name: {name}, namespace: shop}},
        spec: {{{targets}peers: {peers}}}}}"
    );
    (format!("policy-of-1.3-{name}"), text)
}

fn some_authorization(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["allow", "deny"]);
    let namespace = one_of(dice, &["shop", "away", "istio-system"]);
    let path = one_of(dice, &["/a", "/b*"]);
    let text = format!(
        "{{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{action: {}, rules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]}}}}",
        name.to_uppercase()
    );
    (name.to_owned(), text)
}

fn some_sidecar(dice: &mut Seeded) -> (String, String) {
    let name = one_of(dice, &["sidecar-a", "sidecar-b"]);
    let namespace = one_of(dice, &["shop", "istio-system"]);
    let spec = one_of(
        dice,
        &[
            "egress: [{hosts: ['./*']}]",
            "egress: [{hosts: ['*/cart.shop.svc.cluster.local', '*/b.other.org']}]",
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
        ],
    );
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: {name}, namespace: {namespace}}},
        spec: {{{spec}}}}}"
    );
    (name.to_owned(), text)
}

fn some_mesh_config(dice: &mut Seeded) -> (String, String) {
    let setting = one_of(
        dice,
        &[
            "enableAutoMtls: false",
            "connectTimeout: 3s",
            "defaultServiceExportTo: [.]",
            "defaultVirtualServiceExportTo: [.]",
            "outboundTrafficPolicy: {mode: REGISTRY_ONLY}",
            "rootNamespace: away",
        ],
    );
    let text = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: istio, namespace: istio-system}},
        data: {{mesh: '{setting}'}}}}"
    );
    ("mesh-config".to_owned(), text)
}

fn one_of<'a>(dice: &mut Seeded, choices: &[&'a str]) -> &'a str {
    choices[usize::try_from(dice.below(choices.len() as u64)).unwrap()]
}

fn viewer() -> Viewer {
    Viewer { namespace: "shop".to_owned(), service: Some(OWN.to_owned()), labels: BTreeMap::new() }
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().unwrap())
}

const SERVICES: [&str; 4] = ["cart", "pay", "books", "mail"];
const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
/// The service of the workload itself.
const OWN: &str = "checkout";
const KINDS: [&str; 12] = [
    "AuthorizationPolicy",
    "ConfigMap",
    "DestinationRule",
    "EndpointSlice",
    "HTTPRoute",
    "PeerAuthentication",
    "Pod",
    "Policy",
    "Service",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
];
const SEEDS: u64 = 40;
const STEPS: usize = 60;
