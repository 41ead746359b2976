//! Why a request goes where it goes, told by the very code that routes it. No second implementation, and no dice: every
//! destination is listed with its weight.

mod arrival;
mod policy;
mod written;

pub use arrival::{Arrival, Setting};
pub use policy::Effective;

use crate::{
    config::{Origin, istio::ClientTlsMode},
    dice::Lowest,
    event::Flag,
    retry::{RetryOn, RetryPolicy},
    route::{Authority, Decision, Forward, Head, RouteAction, Target, VirtualHost},
    snapshot::{Cluster, Snapshot},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use written::Written;

/// The whole story of one request. Serialises to the JSON that `meshctl explain` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The virtual host that answers for the authority, `host:port`.
    pub virtual_host: Option<Arc<str>>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// Its destinations.
    pub destinations: Vec<Destination>,
    /// The cluster of the destination with the most weight.
    pub cluster: Option<Arc<str>>,
    /// What happens.
    pub action: Action,
    /// Bound of the whole call.
    pub timeout_ms: Option<u64>,
    /// Retries; `None` if there are none.
    pub retries: Option<Retries>,
    /// How the endpoints of the cluster are called; `None` if nothing is called.
    pub mtls: Option<&'static str>,
    /// The response flag of the error that is the answer: `NC` for a cluster that does not exist, `NR` for no route.
    pub flag: Option<Flag>,
    /// Why this virtual host: what of the authority it answers to.
    pub because: Option<String>,
    /// What the route does to a request on its way, each a line: faults, rewrites, copies.
    pub on_the_way: Vec<String>,
    /// The policy towards the cluster, setting by setting.
    pub policy: Vec<Effective>,
    /// What becomes of it where it arrives; empty unless asked for, or if that is outside of the mesh.
    pub arrivals: Vec<Arrival>,
    /// Every route that was looked at, in order, and why it was not taken.
    pub tried: Vec<Tried>,
    /// Where each setting comes from; what is not listed is a default.
    pub sources: BTreeMap<&'static str, Place>,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is sent to a destination.
    Forward,
    /// It is answered with a redirect.
    Redirect,
    /// It is answered by the route.
    Direct,
    /// Nobody knows the host, or no more than that it is outside: it is sent there without policy.
    Passthrough,
    /// It is answered with an error: no route matches, or unknown hosts are blocked.
    None,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// The host as written.
    pub host: Arc<str>,
    /// The subset.
    pub subset: Option<Arc<str>>,
    /// The service port.
    pub port: u16,
    /// Its weight; the sum need not be 100.
    pub weight: u64,
}

/// The retry policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Retries after the first try.
    pub attempts: u32,
    /// The conditions.
    pub retry_on: Vec<String>,
    /// Bound of each try.
    pub per_try_timeout_ms: Option<u64>,
    /// After how long without an answer a second try is made beside the first; absent where none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge_after_ms: Option<u64>,
}

/// One route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its name.
    pub route: Arc<str>,
    /// Whether it matched.
    pub matched: bool,
    /// The first condition that failed.
    pub failed: Option<String>,
}

/// A place in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// `Kind namespace/name`.
    pub resource: String,
    /// The file.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
}

impl Place {
    /// Returns the place that `origin` names.
    pub fn of(origin: &Origin) -> Self {
        let Origin { resource, location } = origin;
        Self { resource: resource.to_string(), file: Arc::clone(&location.file), line: location.line }
    }
}

/// Returns what `snapshot` does with `head`, and what becomes of that where it arrives.
pub fn explain_arrival(snapshot: &Snapshot, head: &Head<'_>, setting: &Setting<'_>) -> Explanation {
    let mut story = tell(snapshot, head, Written(setting.resources));
    if let Decision::Forward { forward, .. } = snapshot.route(head, &mut Lowest)
        && let Some(target) = heaviest(forward)
    {
        story.on_arrival(snapshot, (forward, target), head, setting);
    }
    story
}

/// Returns what `snapshot` does with `head`. Of what was written it knows the block, not the line of each field.
pub fn explain(snapshot: &Snapshot, head: &Head<'_>) -> Explanation {
    tell(snapshot, head, Written(&[]))
}

fn tell(snapshot: &Snapshot, head: &Head<'_>, written: Written<'_>) -> Explanation {
    let decision = snapshot.route(head, &mut Lowest);
    let mut story = Explanation::of(match &decision {
        Decision::Passthrough => Action::Passthrough,
        Decision::Blocked | Decision::NoRoute { .. } => Action::None,
        Decision::Forward { .. } => Action::Forward,
        Decision::Answer { route, .. } => match route.action {
            RouteAction::Redirect(_) => Action::Redirect,
            _ => Action::Direct,
        },
    });
    if let Some((host, _)) = snapshot.virtual_host(head) {
        story.on_host(host, head);
    }
    match decision {
        Decision::Forward { route, forward, .. } => {
            story.on_route(&route.name, route.source.as_ref());
            story.on_the_way = policy::on_the_way(route.fault(), Some(forward));
            story.on_forward(snapshot, forward, route.source.as_ref(), written);
            story.on_hedge(forward.retry.hedges_after(head.method));
        }
        Decision::Answer { route, .. } => {
            story.on_route(&route.name, route.source.as_ref());
            story.on_the_way = policy::on_the_way(route.fault(), None);
        }
        Decision::NoRoute { .. } => story.flag = Some(Flag::NR),
        Decision::Passthrough | Decision::Blocked => {}
    }
    story
}

impl Explanation {
    fn of(action: Action) -> Self {
        Self {
            virtual_host: None,
            route: None,
            destinations: Vec::new(),
            cluster: None,
            action,
            timeout_ms: None,
            retries: None,
            // Nobody says how an unknown host is to be called, so it is called in plaintext.
            mtls: (action == Action::Passthrough).then_some("DISABLE"),
            flag: None,
            because: None,
            on_the_way: Vec::new(),
            policy: Vec::new(),
            arrivals: Vec::new(),
            tried: Vec::new(),
            sources: BTreeMap::new(),
        }
    }

    fn on_host(&mut self, host: &VirtualHost, head: &Head<'_>) {
        self.virtual_host = Some(Arc::clone(&host.name));
        self.because = Some(because(host, head));
        self.cite("virtualHost", host.source.as_ref());
        for route in &host.routes {
            let failed = route.matches.mismatch(head).map(|mismatch| mismatch.0);
            let matched = failed.is_none();
            self.tried.push(Tried { route: Arc::clone(&route.name), matched, failed });
            if matched {
                break;
            }
        }
    }

    fn on_route(&mut self, name: &Arc<str>, source: Option<&Origin>) {
        self.route = Some(Arc::clone(name));
        self.cite("route", source);
    }

    fn on_forward(
        &mut self,
        snapshot: &Snapshot,
        forward: &Forward,
        source: Option<&Origin>,
        written: Written<'_>,
    ) {
        self.destinations =
            forward.destinations.iter().map(|(target, weight)| destination(target, weight)).collect();
        self.timeout_ms = forward.timeout.map(millis);
        self.retries = retries(&forward.retry);
        if forward.timeout.is_some() {
            self.cite_field("timeout", source, &["timeout", "timeouts.request"], written);
        }
        // Whom a retry avoids depends on the cluster too.
        let avoid_previous_hosts = forward.retry.avoid_previous_hosts;
        if forward.retry != (RetryPolicy { avoid_previous_hosts, ..RetryPolicy::default() }) {
            self.cite_field("retries", source, &["retries", "retry"], written);
        }
        if let Some(target) = heaviest(forward) {
            self.cluster = Some(Arc::clone(&target.name));
            self.on_cluster(target.cluster.map(|number| &**snapshot.cluster(number)), written);
        }
    }

    /// Whether there may be a second try beside the first is a matter of the method, too.
    fn on_hedge(&mut self, after: Option<Duration>) {
        if let Some(retries) = &mut self.retries {
            retries.hedge_after_ms = after.map(millis);
        }
    }

    fn on_cluster(&mut self, cluster: Option<&Cluster>, written: Written<'_>) {
        let Some(cluster) = cluster else {
            self.flag = Some(Flag::NC);
            return;
        };
        self.mtls = Some(match cluster.tls {
            ClientTlsMode::Disable => "DISABLE",
            ClientTlsMode::Simple => "SIMPLE",
            ClientTlsMode::Mutual => "MUTUAL",
            ClientTlsMode::IstioMutual => "ISTIO_MUTUAL",
        });
        self.cite("cluster", cluster.rule.as_ref());
        self.cite("mtls", cluster.sources.tls.as_deref());
        self.policy = policy::of(cluster, written);
    }

    /// Cites the first of `paths` in the block at `origin`; none of them there means that somebody else's value, the
    /// mesh's or that of the VirtualService that delegates, is in force.
    fn cite_field(
        &mut self,
        field: &'static str,
        origin: Option<&Origin>,
        paths: &[&str],
        written: Written<'_>,
    ) {
        if let Some(place) = origin.and_then(|origin| written.field(origin, paths)) {
            self.sources.insert(field, place);
        }
    }

    fn cite(&mut self, field: &'static str, origin: Option<&Origin>) {
        if let Some(origin) = origin {
            self.sources.insert(field, Place::of(origin));
        }
    }
}

/// Returns the destination with the most weight, of equals the first.
fn heaviest(forward: &Forward) -> Option<&Target> {
    let heavier = |best: (_, u64), next: (_, u64)| if next.1 > best.1 { next } else { best };
    forward.destinations.iter().reduce(heavier).map(|(target, _)| target)
}

fn because(host: &VirtualHost, head: &Head<'_>) -> String {
    let (known, _) = host.name.rsplit_once(':').unwrap_or((&host.name, ""));
    let asked = Authority::parse(head.authority).map_or(head.authority.into(), |authority| authority.host);
    if *asked == *known {
        format!("{asked} is its name")
    } else if known.starts_with("blackhole") {
        "no other host of the server has this name".to_owned()
    } else if known.starts_with('*') {
        format!("{known} is the longest wildcard that covers {asked}, and no host is named so")
    } else if asked.parse::<std::net::IpAddr>().is_ok() {
        format!("{asked} is an address of it")
    } else {
        format!("{asked} is short for it, where the caller is")
    }
}

fn destination(target: &Target, weight: u64) -> Destination {
    let subset = (!target.subset.is_empty()).then(|| Arc::clone(&target.subset));
    Destination { host: Arc::clone(&target.host), subset, port: target.port, weight }
}

/// Returns `policy` for display; `None` if it makes no retries.
pub fn retries(policy: &RetryPolicy) -> Option<Retries> {
    (policy.retries_max > 0).then(|| Retries {
        attempts: policy.retries_max,
        retry_on: words(&policy.on),
        per_try_timeout_ms: policy.per_try_timeout.map(millis),
        hedge_after_ms: policy.hedge.map(|hedge| millis(hedge.after)),
    })
}

fn words(on: &RetryOn) -> Vec<String> {
    let conditions = on.conditions().map(|condition| condition.as_str().to_owned());
    conditions.chain(on.statuses().iter().map(|status| status.as_str().to_owned())).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
