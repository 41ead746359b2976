//! The YAML that somebody edits at random, well and badly, and what must be in force by it.

use mesh_core::{
    config::{Accepted, Options, Resource, SourceFile},
    dice::{Dice, Seeded},
    registry::Address,
};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// The services, from the first one called to the last.
pub(crate) const SERVICES: [&str; 3] = ["shop", "store", "ledger"];

/// The files as they stand, and which text of each is the last good one.
#[derive(Default)]
pub(crate) struct Files {
    texts: BTreeMap<String, String>,
    good: BTreeMap<String, InForce>,
    accepted: Accepted,
    pub(crate) last_edit: String,
}

/// What must be in force of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InForce {
    /// This text.
    Text(String),
    /// A security object that could not be read, and was never read before.
    Closed,
}

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Good,
    Bad,
    Gone,
}

/// What is wrong with a bad edit.
#[derive(Clone, Copy)]
enum Mistake {
    /// A field; which object is meant can be read.
    Field,
    /// The file breaks off.
    Text,
}

impl Files {
    /// Writes a good text.
    pub(crate) fn write(&mut self, name: &str, text: String) {
        self.good.insert(name.to_owned(), InForce::Text(text.clone()));
        self.put(name, text);
    }

    /// Edits one of the files at random.
    pub(crate) fn edit(&mut self, dice: &mut Seeded) -> Edit {
        let service = one_of(dice, &SERVICES);
        let (name, text, is_optional) = match dice.below(8) {
            0..=2 => (format!("routes-{service}"), routes(service, dice), true),
            3..=5 => (format!("rule-{service}"), rule(service, dice), false),
            6 => (DENY.to_owned(), deny(dice), true),
            _ => (PEER.to_owned(), peer(dice), true),
        };
        match dice.below(10) {
            0 | 1 => self.write_badly(&name, &text, Mistake::Field),
            2 => self.write_badly(&name, &text, Mistake::Text),
            3 if is_optional => self.delete(&name),
            _ => {
                self.write(&name, text);
                Edit::Good
            }
        }
    }

    /// Returns what must be in force of file `name`.
    pub(crate) fn in_force(&self, name: &str) -> Option<&InForce> {
        self.good.get(name)
    }

    /// Reads the files as they stand, and returns what is in force, beside what must be.
    pub(crate) fn read(&mut self) -> (Vec<Arc<Resource>>, Vec<Arc<Resource>>) {
        self.accepted = self.accepted.update(&sources(&self.texts), &Options::default());
        let text = |(name, in_force): (&String, &InForce)| match in_force {
            InForce::Text(text) => Some((name.clone(), text.clone())),
            InForce::Closed => None,
        };
        let good: BTreeMap<_, _> = self.good.iter().filter_map(text).collect();
        let is_good = good == self.texts;
        let has_error = self.accepted.diagnostics.iter().any(|finding| finding.is_error());
        assert_eq!(has_error, !is_good, "{}: {:#?}", self.last_edit, self.accepted.diagnostics);
        let expected = Accepted::default().update(&sources(&good), &Options::default());
        (self.accepted.resources.clone(), expected.resources)
    }

    fn put(&mut self, name: &str, text: String) {
        self.last_edit = format!("{name}: {text}");
        self.texts.insert(name.to_owned(), text);
    }

    fn write_badly(&mut self, name: &str, good: &str, mistake: Mistake) -> Edit {
        let is_security = [DENY, PEER].contains(&name);
        let text = match mistake {
            Mistake::Field => good.replacen("spec: {", "spec: {mistake: [1], ", 1),
            Mistake::Text => good.get(..good.len() - 3).unwrap_or_default().to_owned(),
        };
        if is_security && matches!(mistake, Mistake::Field) {
            self.good.entry(name.to_owned()).or_insert(InForce::Closed);
        }
        self.put(name, text);
        Edit::Bad
    }

    fn delete(&mut self, name: &str) -> Edit {
        self.last_edit = format!("{name} is gone");
        self.good.remove(name);
        self.texts.remove(name);
        Edit::Gone
    }
}

fn sources(texts: &BTreeMap<String, String>) -> Vec<SourceFile> {
    let source = |(name, text): (&String, &String)| SourceFile { name: name.clone(), text: Ok(text.clone()) };
    texts.iter().map(source).collect()
}

/// The file that denies `/admin` to everybody.
pub(crate) const DENY: &str = "deny";
/// The file that says which peers are let in.
pub(crate) const PEER: &str = "peer";

/// Returns a service with the endpoints of `leases`: addresses with their versions.
pub(crate) fn entry(service: &str, leases: &BTreeMap<Address, &str>) -> String {
    let mut endpoints = String::new();
    for (address, version) in leases {
        let Address::Ip(address) = address else { continue };
        let address = address.ip();
        let _ = write!(
            endpoints,
            "{{address: {address}, labels: {{security.istio.io/tlsMode: istio, version: {version}}}, \
             serviceAccount: {service}}}, "
        );
    }
    object(
        "networking.istio.io/v1",
        "ServiceEntry",
        service,
        &format!(
            "hosts: [{service}.default.svc.cluster.local], location: MESH_INTERNAL, resolution: STATIC, \
             ports: [{{number: 80, name: http, protocol: HTTP}}], endpoints: [{endpoints}]"
        ),
    )
}

/// Returns routes that retry whatever may be retried, three times at every tier.
pub(crate) fn eager_routes(service: &str) -> String {
    let retries = "retries: {attempts: 3, retryOn: '5xx,reset,connect-failure'}, ";
    let spec =
        format!("hosts: [{service}], http: [{{{retries}route: [{{destination: {{host: {service}}}}}]}}]");
    object("networking.istio.io/v1", "VirtualService", service, &spec)
}

/// Returns routes for `service`, to its subsets and with retries of any kind.
pub(crate) fn routes(service: &str, dice: &mut Seeded) -> String {
    let timeout = one_of(dice, &["", "timeout: 1s, ", "timeout: 150ms, "]);
    let retries = one_of(
        dice,
        &[
            "",
            "retries: {attempts: 0}, ",
            "retries: {attempts: 3, perTryTimeout: 60ms, retryOn: '5xx,reset'}, ",
            "retries: {attempts: 2, retryOn: 'connect-failure,refused-stream,gateway-error', backoff: 5ms}, ",
            "retries: {attempts: 10, perTryTimeout: 30ms}, ",
            "retries: {attempts: 4, retryOn: '500', retryIgnorePreviousHosts: false}, ",
        ],
    );
    let share = dice.below(101);
    let to = |subset: &str| format!("destination: {{host: {service}, subset: {subset}}}");
    let spec = format!(
        "hosts: [{service}], http: [{{match: [{{uri: {{prefix: /second}}}}], {timeout}route: [{{{}}}]}}, \
         {{{timeout}{retries}route: [{{{}, weight: {share}}}, {{{}, weight: {}}}]}}]",
        to("v2"),
        to("v1"),
        to("v2"),
        100 - share,
    );
    object("networking.istio.io/v1", "VirtualService", service, &spec)
}

/// Returns policy for `service`; its subsets are always there, since routes name them.
pub(crate) fn rule(service: &str, dice: &mut Seeded) -> String {
    let outlier = one_of(
        dice,
        &[
            "",
            "outlierDetection: {consecutive5xxErrors: 2, interval: 200ms, baseEjectionTime: 300ms, \
             maxEjectionPercent: 50}, ",
            "outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 1s, maxEjectionPercent: 100}, ",
            "outlierDetection: {consecutiveGatewayErrors: 1, baseEjectionTime: 1s, maxEjectionPercent: 100, \
             minHealthPercent: 50}, ",
            "outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, \
             consecutive5xxErrors: 0, baseEjectionTime: 500ms, maxEjectionPercent: 40}, ",
        ],
    );
    let pool = one_of(
        dice,
        &[
            "",
            "",
            "connectionPool: {http: {http2MaxRequests: 3}}, ",
            "connectionPool: {http: {maxRetries: 1}}, ",
        ],
    );
    let budget = one_of(dice, &["", "", "", "retryBudget: {percent: 25, minRetryConcurrency: 1}, "]);
    let balancer = one_of(
        dice,
        &[
            "simple: LEAST_REQUEST",
            "simple: ROUND_ROBIN",
            "simple: RANDOM",
            "simple: ROUND_ROBIN, warmup: {duration: 1s}",
            "consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 32}}",
            "consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 31}}",
        ],
    );
    let spec = format!(
        "host: {service}, trafficPolicy: {{{outlier}{pool}{budget}loadBalancer: {{{balancer}}}}}, \
         subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]"
    );
    object("networking.istio.io/v1", "DestinationRule", service, &spec)
}

fn deny(dice: &mut Seeded) -> String {
    let more = one_of(dice, &["", ", {to: [{operation: {methods: [TRACE]}}]}"]);
    let spec = format!("action: DENY, rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}{more}]");
    object("security.istio.io/v1", "AuthorizationPolicy", DENY, &spec)
}

fn peer(dice: &mut Seeded) -> String {
    let mode = one_of(dice, &["STRICT", "PERMISSIVE"]);
    object("security.istio.io/v1", "PeerAuthentication", "default", &format!("mtls: {{mode: {mode}}}"))
}

fn object(version: &str, kind: &str, name: &str, spec: &str) -> String {
    format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}}}, spec: {{{spec}}}}}")
}

fn one_of<'a>(dice: &mut Seeded, choices: &[&'a str]) -> &'a str {
    choices[usize::try_from(dice.below(choices.len() as u64)).unwrap_or(0)]
}
