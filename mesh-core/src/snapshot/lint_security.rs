//! What is odd about the security objects of a mesh, seen over all of them: it is in force as it stands, and probably
//! not as it is meant. For whoever analyses a configuration; no snapshot depends on it.

use super::{
    MeshSettings, Scope, Viewer,
    index::Index,
    mutual_tls::{self, Target},
    policy::Blocks,
    view::{View, carries, specificity},
};
use crate::{
    config::{
        At, Code, Diagnostic, Kind, Location, Resource, Spec,
        istio::{
            AuthorizationAction, AuthorizationPolicy, AuthorizationRule, ClientTls, ClientTlsMode, Condition,
            DestinationRule, EntryLocation, Lists, MtlsMode, Operation, PeerAuthentication, Source,
        },
        tree::Node,
    },
    registry::{Instance, Port, Registry, Service, full_host},
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Returns everything that is odd.
pub fn findings(
    resources: &[Arc<Resource>],
    registry: &Registry,
    settings: &MeshSettings,
) -> Vec<Diagnostic> {
    let mut findings = unmatched_selectors(resources, registry, settings);
    findings.append(&mut ineffective_policies(resources, settings));
    findings.append(&mut claims_without_authentication(resources, settings));
    findings.append(&mut mtls_conflicts(resources, settings));
    findings
}

/// Returns a warning for every security object whose selector no known workload carries (IST0127).
///
/// Where no workload of the namespace is known at all, as in files alone, nothing is said.
pub fn unmatched_selectors(
    resources: &[Arc<Resource>],
    registry: &Registry,
    settings: &MeshSettings,
) -> Vec<Diagnostic> {
    let workloads = Workloads::new(registry);
    let unmatched = |resource: &&Arc<Resource>| {
        let is_root = *resource.key.namespace == *settings.root_namespace;
        let namespace =
            (!is_root || resource.kind == Kind::PeerAuthentication).then_some(&*resource.key.namespace);
        selector(resource).is_some_and(|labels| workloads.lack(namespace, labels))
    };
    let say = |resource: &Arc<Resource>| {
        let labels = selector(resource).into_iter().flatten();
        let labels: Vec<_> = labels.map(|(name, value)| format!("{name}={value}")).collect();
        let message = format!("no known workload carries the labels {}", labels.join(", "));
        warn(resource, Code::NO_MATCHING_WORKLOAD, "spec.selector", message)
    };
    resources.iter().filter(unmatched).map(say).collect()
}

/// Returns a warning for every policy that takes no effect (IST0167).
pub fn ineffective_policies(resources: &[Arc<Resource>], settings: &MeshSettings) -> Vec<Diagnostic> {
    let demanding = scopes_with_allow_rules(resources);
    let find = |resource: &Arc<Resource>| {
        let (path, message) = match &resource.spec {
            Spec::PeerAuthentication(spec) => ineffective_mode(resource, spec, settings)?,
            Spec::AuthorizationPolicy(spec) => ineffective_rules(resource, spec, &demanding)?,
            _ => return None,
        };
        Some(warn(resource, Code::INEFFECTIVE_POLICY, path, message))
    };
    resources.iter().filter_map(find).collect()
}

/// Returns a warning for every AuthorizationPolicy that asks about tokens where no object says which are good (IST0149).
pub fn claims_without_authentication(
    resources: &[Arc<Resource>],
    settings: &MeshSettings,
) -> Vec<Diagnostic> {
    let root = settings.root_namespace.as_str();
    let authenticated: HashSet<&str> =
        resources.iter().filter_map(|resource| token_scope(resource, root)).collect();
    let is_covered = |namespace: &str| {
        authenticated.contains(namespace)
            || authenticated.contains(root)
            || namespace == root && !authenticated.is_empty()
    };
    let asks = |resource: &&Arc<Resource>| match &resource.spec {
        Spec::AuthorizationPolicy(spec) => {
            spec.targets.is_empty() && spec.rules.iter().any(AuthorizationRule::asks_for_token)
        }
        _ => false,
    };
    let uncovered = resources.iter().filter(asks).filter(|resource| !is_covered(&resource.key.namespace));
    let message =
        "it asks about tokens, and no RequestAuthentication says which are good: no request has one";
    uncovered
        .map(|resource| warn(resource, Code::CLAIMS_WITHOUT_AUTHENTICATION, "spec.rules", message.to_owned()))
        .collect()
}

/// Returns an error for every DestinationRule that calls in plaintext a server which takes mutual TLS only (IST0113).
// spec: istio pkg/config/analysis/msg MTLSPolicyConflict
pub fn mtls_conflicts(resources: &[Arc<Resource>], settings: &MeshSettings) -> Vec<Diagnostic> {
    let nobody = Viewer { namespace: String::new(), service: None, labels: BTreeMap::new() };
    let index = Index::of(resources, &nobody, settings, Scope::default());
    let view = View::new(&index, &nobody, settings);
    let find = |resource: &Arc<Resource>| match &resource.spec {
        Spec::DestinationRule(rule) => mtls_conflict(&view, resource, rule),
        _ => None,
    };
    resources.iter().filter_map(find).collect()
}

/// The known workloads, found by a label.
struct Workloads<'a> {
    namespaces: HashSet<&'a str>,
    by_label: HashMap<(&'a str, &'a str), Vec<&'a Instance>>,
}

impl<'a> Workloads<'a> {
    fn new(registry: &'a Registry) -> Self {
        let mut workloads = Self { namespaces: HashSet::new(), by_label: HashMap::new() };
        for instance in registry.services().flat_map(|service| &service.instances) {
            // What is outside of the mesh has no labels to be selected by.
            if instance.labels.is_empty() {
                continue;
            }
            workloads.namespaces.insert(&instance.namespace);
            for (name, value) in instance.labels.iter() {
                workloads.by_label.entry((name, value)).or_default().push(instance);
            }
        }
        workloads
    }

    /// Returns whether workloads of `namespace` (or any) are known and none of them carries `labels`.
    fn lack(&self, namespace: Option<&str>, labels: &BTreeMap<String, String>) -> bool {
        let is_meant = |instance: &&Instance| {
            namespace.is_none_or(|namespace| *instance.namespace == *namespace)
                && carries(&instance.labels, labels)
        };
        let any_known =
            namespace.map_or(!self.namespaces.is_empty(), |namespace| self.namespaces.contains(namespace));
        // By the rarest of the labels, so that a common one makes no work.
        let rarest =
            labels.iter().map(|(name, value)| self.carrying(name, value)).min_by_key(|them| them.len());
        any_known && !rarest.unwrap_or_default().iter().any(is_meant)
    }

    fn carrying<'s>(&'s self, name: &'s str, value: &'s str) -> &'s [&'a Instance] {
        self.by_label.get(&(name, value)).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Returns the labels that `resource` selects workloads by, if it does.
fn selector(resource: &Resource) -> Option<&BTreeMap<String, String>> {
    let selector = match &resource.spec {
        Spec::PeerAuthentication(spec) => &spec.selector,
        Spec::AuthorizationPolicy(spec) => &spec.selector,
        Spec::RequestAuthentication(spec) => &spec.selector,
        _ => return None,
    };
    selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

fn ineffective_mode(
    resource: &Resource,
    spec: &PeerAuthentication,
    settings: &MeshSettings,
) -> Option<(&'static str, String)> {
    if *resource.key.namespace == *settings.root_namespace && selector(resource).is_some() {
        let message = "a PeerAuthentication with a selector is ignored in the root namespace";
        return Some(("spec.selector", message.to_owned()));
    }
    let is_unset = |mode: &MtlsMode| *mode == MtlsMode::Unset;
    (is_unset(&spec.mode) && spec.ports.values().all(is_unset))
        .then(|| ("spec", "it sets no mode, and the wider one holds".to_owned()))
}

fn ineffective_rules(
    resource: &Resource,
    spec: &AuthorizationPolicy,
    demanding: &HashSet<AllowScope<'_>>,
) -> Option<(&'static str, String)> {
    // The reader has said already that a policy with targets applies to no workload.
    if !spec.targets.is_empty() {
        return None;
    }
    if spec.rules.is_empty() {
        let is_said =
            spec.action == AuthorizationAction::Allow && demanding.contains(&scope_of(resource, spec));
        return is_said.then(|| {
            let message =
                "an ALLOW without rules adds nothing: another ALLOW of the same workloads has rules";
            ("spec", message.to_owned())
        });
    }
    let does = match spec.action {
        AuthorizationAction::Allow => "allows",
        AuthorizationAction::Deny => "denies",
        AuthorizationAction::Audit => "records",
    };
    spec.rules
        .iter()
        .all(never_matches)
        .then(|| ("spec.rules", format!("no request can match its rules: it {does} nothing")))
}

/// A namespace and the labels selected in it.
type AllowScope<'a> = (&'a str, Option<&'a BTreeMap<String, String>>);

fn scope_of<'a>(resource: &'a Resource, spec: &'a AuthorizationPolicy) -> AllowScope<'a> {
    let labels = spec.selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty());
    (&*resource.key.namespace, labels)
}

fn scopes_with_allow_rules(resources: &[Arc<Resource>]) -> HashSet<AllowScope<'_>> {
    resources.iter().filter_map(|resource| demanding_scope(resource)).collect()
}

fn demanding_scope(resource: &Resource) -> Option<AllowScope<'_>> {
    let Spec::AuthorizationPolicy(spec) = &resource.spec else { return None };
    let demands =
        spec.action == AuthorizationAction::Allow && !spec.rules.is_empty() && spec.targets.is_empty();
    demands.then(|| scope_of(resource, spec))
}

/// Returns whether no request can match `rule`.
fn never_matches(rule: &AuthorizationRule) -> bool {
    !rule.from.is_empty() && rule.from.iter().all(source_never_matches)
        || !rule.to.is_empty() && rule.to.iter().all(operation_never_matches)
        || rule.when.iter().any(condition_never_holds)
}

fn source_never_matches(source: &Source) -> bool {
    let Source {
        principals,
        request_principals,
        namespaces,
        service_accounts,
        trust_domains,
        ip_blocks,
        remote_ip_blocks,
    } = source;
    [principals, request_principals, namespaces, trust_domains].into_iter().any(contradicts)
        || contradicts(service_accounts)
        || [ip_blocks, remote_ip_blocks].into_iter().any(excludes)
}

fn operation_never_matches(operation: &Operation) -> bool {
    let Operation { hosts, ports, methods, paths } = operation;
    [hosts, methods, paths].into_iter().any(|lists| contradicts(lists) || bars_everything(lists))
        || contradicts(ports)
        || is_no_port(ports)
}

fn condition_never_holds(condition: &Condition) -> bool {
    match condition {
        Condition::Host(lists) | Condition::Method(lists) => contradicts(lists) || bars_everything(lists),
        Condition::SourceNamespace(lists)
        | Condition::SourcePrincipal(lists)
        | Condition::RequestPrincipal(lists)
        | Condition::Sni(lists) => contradicts(lists),
        // Of several values one may be on each list.
        Condition::Header(..) | Condition::Claim(..) => false,
        Condition::SourceServiceAccount(lists) => contradicts(lists),
        Condition::SourceIp(lists) | Condition::RemoteIp(lists) | Condition::DestinationIp(lists) => {
            excludes(lists)
        }
        Condition::DestinationPort(lists) => contradicts(lists) || is_no_port(lists),
    }
}

/// Returns whether every value that is asked for is forbidden in the same breath.
fn contradicts<T: PartialEq>(lists: &Lists<T>) -> bool {
    !lists.values.is_empty() && lists.values.iter().all(|value| lists.not_values.contains(value))
}

/// Returns whether nothing that is always there may be there.
fn bars_everything(lists: &Lists<String>) -> bool {
    lists.not_values.iter().any(|value| value == "*")
}

fn excludes(lists: &Lists<IpNet>) -> bool {
    let is_excluded = |block: &IpNet| lists.not_values.iter().any(|excluded| excluded.contains(block));
    !lists.values.is_empty() && lists.values.iter().all(is_excluded)
}

fn is_no_port(ports: &Lists<u16>) -> bool {
    !ports.values.is_empty() && ports.values.iter().all(|port| *port == 0)
}

/// Returns the namespace for whose workloads `resource` says which tokens are good.
fn token_scope<'a>(resource: &'a Resource, root: &'a str) -> Option<&'a str> {
    match &resource.spec {
        Spec::RequestAuthentication(spec) if spec.targets.is_empty() => Some(&resource.key.namespace),
        Spec::LegacyPolicy(policy) if policy.tokens.is_some() && resource.kind == Kind::MeshPolicy => {
            Some(root)
        }
        Spec::LegacyPolicy(policy) if policy.tokens.is_some() => Some(&resource.key.namespace),
        _ => None,
    }
}

fn mtls_conflict(view: &View<'_>, resource: &Resource, rule: &DestinationRule) -> Option<Diagnostic> {
    let pattern = full_host(&rule.host, &resource.key.namespace, &view.settings.domain);
    let (service, tls) = match pattern.starts_with('*') {
        false => strict_service(view, resource, rule, view.registry.get(&pattern)?)?,
        true => view
            .registry
            .services()
            .filter(|service| specificity(&pattern, &service.host).is_some())
            .find_map(|service| strict_service(view, resource, rule, service))?,
    };
    let message = format!(
        "it calls {} in plaintext, and policy makes mutual TLS the only way in (STRICT): such calls fail",
        service.host
    );
    let finding = Diagnostic::error(Code::MTLS_CONFLICT, message)
        .help("write `tls: {mode: ISTIO_MUTUAL}`, or no `tls`");
    Some(finding.about(&resource.key).at(resource.locate(tls.at)).path("spec.trafficPolicy.tls"))
}

/// Returns `service` and the block by which `rule` calls it in plaintext, if some workload of it takes mutual TLS only.
fn strict_service<'a>(
    view: &View<'_>,
    resource: &'a Resource,
    rule: &'a DestinationRule,
    service: &'a Service,
) -> Option<(&'a Service, &'a At<ClientTls>)> {
    if service.location != EntryLocation::MeshInternal {
        return None;
    }
    let policies = rule.subsets.iter().map(|subset| (subset.traffic_policy.as_ref(), Some(&subset.labels)));
    for (policy, labels) in [(None, None)].into_iter().chain(policies) {
        for port in &service.ports {
            let blocks = Blocks::default().under(rule.traffic_policy.as_ref(), resource, port.number).under(
                policy,
                resource,
                port.number,
            );
            let Some(tls) = blocks.tls().filter(|tls| tls.mode == ClientTlsMode::Disable) else { continue };
            if is_strict(view, service, port, labels) {
                return Some((service, tls));
            }
        }
    }
    None
}

/// Returns whether some workload of `service` with these labels takes mutual TLS only. Where none is known, the policy of
/// the namespace speaks for all.
fn is_strict(
    view: &View<'_>,
    service: &Service,
    port: &Port,
    subset: Option<&BTreeMap<String, String>>,
) -> bool {
    let mode = |namespace, labels, listening| {
        let service_port = Some(port.number);
        let target = Target { namespace, service: &service.host, labels, port: listening, service_port };
        mutual_tls::mode(view, &target)
    };
    if service.instances.is_empty() {
        return mode(&service.namespace, &BTreeMap::new(), port.target_number()) == MtlsMode::Strict;
    }
    let of_subset = |instance: &&Instance| subset.is_none_or(|labels| carries(&instance.labels, labels));
    service.instances.iter().filter(of_subset).any(|instance| {
        service.address(instance, port).is_some_and(|address| {
            mode(&instance.namespace, &instance.labels, address.port()) == MtlsMode::Strict
        })
    })
}

fn warn(resource: &Resource, code: Code, path: &str, message: String) -> Diagnostic {
    Diagnostic::warning(code, message).about(&resource.key).at(place(resource, path)).path(path)
}

/// Returns where the field `path` of `resource` stands.
fn place(resource: &Resource, path: &str) -> Location {
    let node = path.split('.').try_fold(&*resource.document, |node, name| Node::get(node, name));
    node.map_or_else(|| resource.location.clone(), |node| resource.locate(node.at))
}
