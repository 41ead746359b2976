//! What becomes of a request where it arrives: the mutual TLS mode of the workloads that are called, and what their
//! authorization policies say of it.

use super::{Explanation, Place};
use crate::{
    authorize::{self, Claims, Story},
    balance::Security,
    config::{
        Resource,
        istio::{ClientTlsMode, MtlsMode},
    },
    identity::SpiffeId,
    route::{Caller, Forward, Head, Target},
    snapshot::{Cluster, Inbound, MeshSettings, Reached, Snapshot, reached},
};
use http::{Request, Uri};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// What workloads that are alike make of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Arrival {
    /// Their labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// How many endpoints there are; 0 where none is known, and one that is selected stands for them.
    pub endpoints: usize,
    /// The port they listen at.
    pub port: u16,
    /// The mutual TLS mode of that port: `STRICT`, `PERMISSIVE` or `DISABLE`.
    pub mtls: &'static str,
    /// As whom the caller arrives; `None` without mutual TLS.
    pub peer: Option<String>,
    /// Whether the request is let in, if it brings no token of an end user.
    pub allowed: bool,
    /// Why, in a few words.
    pub reason: String,
    /// What each policy says of it.
    pub authorization: Story,
    /// The object that sets the mutual TLS mode; `None` is the default of the mesh.
    pub mtls_source: Option<Place>,
}

/// A configuration, and who calls in it.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The objects in force.
    pub resources: &'a [Arc<Resource>],
    /// What applies to the whole mesh.
    pub settings: &'a MeshSettings,
    /// The identity of the caller.
    pub caller: &'a SpiffeId,
}

/// A request as it arrives.
struct Arriving {
    request: Request<()>,
    host: String,
    /// Those of no token.
    claims: Claims,
}

impl Explanation {
    pub(super) fn on_arrival(
        &mut self,
        snapshot: &Snapshot,
        (forward, target): (&Forward, &Target),
        head: &Head<'_>,
        setting: &Setting<'_>,
    ) {
        let Some(cluster) = target.cluster.map(|number| snapshot.cluster(number)) else { return };
        let Some(arriving) = Arriving::of(forward, target, head) else { return };
        let groups = reached(setting.resources, setting.settings, cluster);
        self.arrivals = groups.iter().map(|group| arrival(group, &arriving, cluster, setting)).collect();
    }
}

fn arrival(group: &Reached, arriving: &Arriving, cluster: &Cluster, setting: &Setting<'_>) -> Arrival {
    let Inbound { authorizer, .. } = &group.inbound;
    let mode = group.inbound.mode(group.port);
    // Where no endpoint is known yet, they are taken for workloads of the mesh, which speak mutual TLS if they may.
    let mutual = match &group.security {
        Some(security) => matches!(security, Security::Mutual(_)),
        None => cluster.tls == ClientTlsMode::IstioMutual && mode != MtlsMode::Disable,
    };
    let peer = mutual.then_some(setting.caller);
    let story = authorizer.explain(&arriving.judged(peer, group.port));
    let refused = match (&group.security, mode) {
        (Some(Security::Refused(why)), _) => Some(format!("it is not sent: {why}")),
        (_, MtlsMode::Strict) if !mutual => {
            Some("it comes without mutual TLS, and STRICT lets nothing else in".to_owned())
        }
        _ => None,
    };
    Arrival {
        labels: Arc::clone(&group.labels),
        endpoints: group.count,
        port: group.port,
        mtls: match mode {
            MtlsMode::Strict => "STRICT",
            MtlsMode::Disable => "DISABLE",
            MtlsMode::Permissive | MtlsMode::Unset => "PERMISSIVE",
        },
        peer: peer.map(ToString::to_string),
        allowed: refused.is_none() && story.allowed,
        reason: refused.unwrap_or_else(|| reason(&story)),
        authorization: story,
        mtls_source: group.inbound.mode_source(group.port).map(Place::of),
    }
}

fn reason(story: &Story) -> String {
    match (&story.decided_by, story.allowed) {
        (Some(rule), true) => format!("{rule} allows it"),
        (Some(rule), false) => format!("{rule} denies it"),
        (None, true) => "no policy that allows only some selects this workload".to_owned(),
        (None, false) => "there are policies that allow some, and none allows it".to_owned(),
    }
}

impl Arriving {
    /// Returns `head` as the route sends it on; `None` if it rewrites it to what is no request.
    fn of(forward: &Forward, target: &Target, head: &Head<'_>) -> Option<Self> {
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        *request.headers_mut() = head.headers.clone();
        *request.uri_mut() = Uri::try_from(head.path_and_query).ok()?;
        let remote = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let caller = Caller { scheme: head.scheme, authority: head.authority, remote };
        let operations = forward.in_order(&forward.request_headers, &target.request_headers);
        operations.into_iter().for_each(|operations| operations.apply_to_request(&mut request, caller));
        let rewrite = forward.rewrite.as_ref();
        if let Some(path) = rewrite.and_then(|rewrite| rewrite.path.as_ref()) {
            *request.uri_mut() = Uri::try_from(path.apply(head.path_and_query)).ok()?;
        }
        let authority = rewrite.and_then(|rewrite| rewrite.authority.as_ref()).or(target.authority.as_ref());
        let authority = authority.map_or(Some(head.authority), |value| value.to_str().ok())?;
        let crate::route::Authority { host, port } = crate::route::Authority::parse(authority)?;
        let host = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        Some(Self { request, host, claims: Claims::default() })
    }

    fn judged<'a>(&'a self, peer: Option<&'a SpiffeId>, port: u16) -> authorize::Request<'a> {
        authorize::Request {
            peer,
            source: None,
            remote: None,
            destination: None,
            port,
            sni: None,
            method: self.request.method(),
            host: &self.host,
            path: self.request.uri().path(),
            headers: self.request.headers(),
            claims: Some(&self.claims),
        }
    }
}
