//! What would break if mutual TLS were demanded, and the AuthorizationPolicies of some files enforced: told by what the
//! workloads have recorded of their callers.
//!
//! A record is no proof: it knows the callers of the time it covers, and of requests neither headers nor tokens. What
//! it cannot tell is said, and counts as what may break.

use super::super::{
    args::CheckArgs,
    input::{self, Settings},
};
use http::Method;
use mesh_core::{
    authorize::{Authorizer, Foreseen, Recorded},
    config::{Accepted, Kind, Level, Options, Resource, istio::MtlsMode},
    health::States,
    identity::{SpiffeId, TrustDomain},
    snapshot::{Inbound, MeshSettings, Viewer, compile},
};
use mesh_runtime::control::wire::{AskedRecord, CallerRecord, CallsBy, Status, TrialDenial, WorkloadStatus};
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The configuration as it is to be.
pub(super) struct Wanted {
    resources: Vec<Arc<Resource>>,
    settings: Option<MeshSettings>,
    /// Whether it says itself where mutual TLS is demanded; else it is, everywhere.
    sets_modes: bool,
}

/// What would become of the traffic that was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outlook {
    /// The callers that STRICT would cut off.
    pub(super) cut_off: Vec<CutOff>,
    /// The requests that an AuthorizationPolicy would deny, or may.
    pub(super) denied: Vec<Denied>,
    /// What limits the record.
    pub(super) notes: Vec<String>,
}

/// A caller without a proven identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CutOff {
    /// `namespace/service`.
    pub(super) workload: String,
    pub(super) port: u16,
    /// Its address; `None` is everybody for whom there was no room in the record.
    pub(super) caller: Option<String>,
    pub(super) by: CallsBy,
    pub(super) requests: u64,
    pub(super) last_seen_seconds: u64,
}

/// Requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Denied {
    /// `namespace/service`.
    pub(super) workload: String,
    pub(super) port: u16,
    /// Its identity, or its address.
    pub(super) caller: String,
    #[serde(flatten)]
    pub(super) asked: AskedRecord,
    /// The rule, or the policies of which none allows it.
    pub(super) policy: String,
    /// Whether that is certain; else it depends on what is not recorded.
    pub(super) certain: bool,
    /// Whether the policy is on trial, and denies nothing yet.
    pub(super) on_trial: bool,
}

impl Wanted {
    pub(super) fn read(args: &CheckArgs) -> Result<Self, String> {
        let options = Options::default();
        let settings = match &args.mesh_config {
            Some(file) => Some(Settings::read(Some(file), &options)?),
            None => None,
        };
        let accepted = Accepted::default().update(&input::read(&args.config)?, &options);
        let findings = settings.iter().flat_map(|settings| &settings.findings).chain(&accepted.diagnostics);
        for finding in findings.filter(|finding| finding.level == Level::Error) {
            eprintln!("{finding}");
        }
        let sets_modes = accepted.resources.iter().any(|resource| {
            matches!(resource.kind, Kind::PeerAuthentication | Kind::MeshPolicy | Kind::Policy)
        });
        let settings = settings.map(|settings| settings.settings);
        Ok(Self { resources: accepted.resources, settings, sets_modes })
    }

    /// Returns the rules for what comes in to `workload`.
    fn inbound(&self, workload: &WorkloadStatus) -> Inbound {
        let own = workload.spiffe_id.parse::<SpiffeId>().ok().and_then(|id| id.trust_domain().parse().ok());
        let settings = || MeshSettings::new(own.unwrap_or_else(TrustDomain::cluster_local));
        let settings = self.settings.clone().unwrap_or_else(settings);
        let viewer = Viewer {
            namespace: workload.namespace.clone(),
            service: Some(workload.service.clone()),
            labels: workload.labels.clone(),
        };
        compile("", &self.resources, &viewer, &settings, &States::default()).0.inbound().clone()
    }

    fn mode(&self, inbound: &Inbound, port: u16) -> MtlsMode {
        if self.sets_modes { inbound.mode(port) } else { MtlsMode::Strict }
    }
}

impl Outlook {
    pub(super) fn of(status: &Status, wanted: &Wanted) -> Self {
        let mut outlook = Self::default();
        for workload in &status.workloads {
            outlook.add(workload, &wanted.inbound(workload), wanted);
        }
        if status.workloads.iter().all(|workload| workload.callers.is_none()) {
            outlook.notes.push("no workload has reported its callers: nothing is known".to_owned());
        }
        outlook.merge();
        outlook
    }

    /// Returns whether nothing would break, as far as was recorded.
    pub(super) fn is_clear(&self) -> bool {
        self.cut_off.is_empty() && self.denied.is_empty()
    }

    fn add(&mut self, workload: &WorkloadStatus, inbound: &Inbound, wanted: &Wanted) {
        let name = format!("{}/{}", workload.namespace, workload.service);
        let Some(callers) = &workload.callers else {
            let why = format!(
                "{name} {} has not reported its callers, or they are not for this token to see",
                workload.instance
            );
            return self.notes.push(why);
        };
        if callers.recorded_seconds < RECORD_SECONDS_MIN {
            let seconds = callers.recorded_seconds;
            self.notes.push(format!("{name} {} has recorded for {seconds} s only", workload.instance));
        }
        for caller in &callers.callers {
            let is_cut_off = caller.by != CallsBy::MutualTls
                && wanted.mode(inbound, caller.port) == MtlsMode::Strict
                && caller.connections > 0;
            if is_cut_off {
                self.cut_off.push(CutOff::of(caller, &name));
            } else {
                self.add_denied(caller, &name, &inbound.authorizer);
            }
        }
        self.denied.extend(callers.denied_on_trial.iter().map(|denial| Denied::on_trial(denial, &name)));
        if callers.denied_on_trial_more > 0 {
            let more = callers.denied_on_trial_more;
            self.notes.push(format!("{name}: {more} more denials on trial are not listed, for want of room"));
        }
    }

    fn add_denied(&mut self, caller: &CallerRecord, workload: &str, authorizer: &Authorizer) {
        let Some(who) = caller.identity.as_ref().or(caller.address.as_ref()) else {
            return self.note_unlisted(
                workload,
                caller.requests,
                "others, for whom there was no room,",
                authorizer,
            );
        };
        let peer = caller.identity.as_deref().and_then(|id| id.parse::<SpiffeId>().ok());
        let source = caller.address.as_deref().and_then(|address| address.parse::<IpAddr>().ok());
        for asked in &caller.asked {
            let Ok(method) = asked.method.parse::<Method>() else { continue };
            let (host, path) = (&*asked.host, &*asked.path);
            let peer = peer.as_ref();
            let recorded = Recorded { peer, source, port: caller.port, method: &method, host, path };
            let denials = denials(authorizer, &recorded).into_iter();
            self.denied.extend(denials.map(|(policy, certain, on_trial)| Denied {
                workload: workload.to_owned(),
                port: caller.port,
                caller: who.clone(),
                asked: asked.clone(),
                policy,
                certain,
                on_trial,
            }));
        }
        self.note_unlisted(workload, caller.asked_more, who, authorizer);
    }

    /// Says of how many requests nobody can tell what policies would make of them.
    fn note_unlisted(&mut self, workload: &str, requests: u64, who: &str, authorizer: &Authorizer) {
        if requests > 0 && !authorizer.is_empty() {
            self.notes.push(format!(
                "{workload}: {requests} requests of {who} are counted, not recorded one by one"
            ));
        }
    }

    /// Makes one of what several instances of a workload say of the same caller.
    fn merge(&mut self) {
        let mut cut_off = BTreeMap::new();
        for one in std::mem::take(&mut self.cut_off) {
            let key = (one.workload.clone(), one.port, one.by, one.caller.clone());
            let known = cut_off.entry(key).or_insert_with(|| CutOff { requests: 0, ..one.clone() });
            known.requests += one.requests;
            known.last_seen_seconds = known.last_seen_seconds.min(one.last_seen_seconds);
        }
        self.cut_off = cut_off.into_values().collect();
        let mut denied = BTreeMap::new();
        for one in std::mem::take(&mut self.denied) {
            let AskedRecord { method, host, path, count } = one.asked.clone();
            let asked = (path, host, method);
            let key = (one.workload.clone(), one.port, one.caller.clone(), asked, one.policy.clone());
            let known = denied
                .entry(key)
                .or_insert_with(|| Denied { asked: AskedRecord { count: 0, ..one.asked.clone() }, ..one });
            known.asked.count += count;
        }
        self.denied = denied.into_values().collect();
    }
}

/// Returns what denies a request, whether for certain, and whether on trial.
fn denials(authorizer: &Authorizer, request: &Recorded<'_>) -> Vec<(String, bool, bool)> {
    let both = [(authorizer.foresee(request), false), (authorizer.foresee_on_trial(request), true)];
    let told = both.into_iter().filter_map(|(foreseen, on_trial)| {
        let (policy, certain) = match foreseen {
            Foreseen::Allowed => return None,
            Foreseen::Denied(Some(by)) => (by.to_string(), true),
            Foreseen::Denied(None) => (allowing(authorizer, on_trial), true),
            Foreseen::Unsure(by) => (by.to_string(), false),
        };
        Some((policy, certain, on_trial))
    });
    told.collect()
}

/// Names the ALLOW policies, of which none matches.
fn allowing(authorizer: &Authorizer, on_trial: bool) -> String {
    let policies: Vec<_> = authorizer.allowing(on_trial).map(|origin| origin.resource.to_string()).collect();
    format!("none of {}", policies.join(", "))
}

impl CutOff {
    fn of(caller: &CallerRecord, workload: &str) -> Self {
        Self {
            workload: workload.to_owned(),
            port: caller.port,
            caller: caller.address.clone(),
            by: caller.by,
            requests: caller.requests,
            last_seen_seconds: caller.last_seen_seconds,
        }
    }
}

impl Denied {
    fn on_trial(denial: &TrialDenial, workload: &str) -> Self {
        Self {
            workload: workload.to_owned(),
            port: denial.port,
            caller: denial.caller.clone(),
            asked: denial.asked.clone(),
            policy: denial.policy.clone().unwrap_or_else(|| "none of the ALLOW policies on trial".to_owned()),
            certain: true,
            on_trial: true,
        }
    }
}

/// A day: what runs at night has run.
const RECORD_SECONDS_MIN: u64 = 24 * 3600;

#[cfg(test)]
mod tests;
