//! Judges references over the whole set: the edit that makes a route point to no subset is refused.
//!
//! Refusing one edit brings an older version back, which may dangle in its turn; so it goes round until nothing
//! changes. Each round brings at least one object back to its last good version, and none ever leaves it again: that
//! is why it ends.

use super::{Objects, claims::still_in_force};
use crate::{
    config::{
        decode::shortened,
        diagnostic::{Code, Diagnostic},
        istio::{DestinationRule, VirtualService},
        resource::{At, Resource, Spec},
    },
    registry::full_host,
};
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

/// Brings every object whose edit made a reference dangle back to its version in `before`, and says so.
///
/// What dangles all the same, as there is no better version, stays as it is: the request will be answered as Envoy
/// answers it.
pub(super) fn refuse_dangling(
    objects: &mut Objects,
    before: &Objects,
    domain: &str,
    findings: &mut Vec<Diagnostic>,
) {
    let history = Subsets::of(before, domain);
    let mut taken_back = Vec::new();
    loop {
        let current = Subsets::of(objects, domain);
        let judge = |route| history.judge(current.dangling(route), before);
        let judged: Vec<_> = objects.values().flat_map(judge).collect();
        let of_routes = judged.iter().filter_map(|(reference, culprit)| match culprit {
            Culprit::Route(last) => Some((*last, current.not_defined(reference).kept(still_in_force(last)))),
            _ => None,
        });
        let of_rules = judged.iter().filter_map(|(reference, culprit)| match culprit {
            Culprit::Rule(last) => Some((*last, reference.withdrawn(last, objects.get(&last.key)))),
            _ => None,
        });
        let mut refused: Vec<_> = of_routes.collect();
        if refused.is_empty() {
            // Not before: taking the routes back may be all that is needed.
            refused = of_rules.collect();
        }
        if refused.is_empty() {
            let open = judged.iter().map(|(reference, _)| current.not_defined(reference));
            let open = open.map(|finding| finding.kept("requests to it are answered with 503 (NC)"));
            return findings.extend(open);
        }
        for (last, finding) in refused {
            findings.push(finding);
            taken_back.push(Arc::clone(last));
        }
        objects.extend(taken_back.drain(..).map(|last| (last.key.clone(), last)));
    }
}

/// Whose edit is to be refused.
enum Culprit<'a> {
    /// The route was pointed to where nothing is.
    Route(&'a Arc<Resource>),
    /// The rule let go of a subset that the route had used before.
    Rule(&'a Arc<Resource>),
    /// Nobody's: it never was in order.
    Nobody,
}

/// A route's destination that names a subset.
struct Reference {
    route: Arc<Resource>,
    path: String,
    host: Arc<str>,
    /// The host as it is written.
    written: String,
    subset: At<String>,
}

/// The subsets that the rules of a set define.
struct Subsets<'a> {
    domain: &'a str,
    exact: HashMap<Arc<str>, Vec<Rule<'a>>>,
    wildcards: Vec<(Arc<str>, Rule<'a>)>,
}

#[derive(Clone, Copy)]
struct Rule<'a> {
    resource: &'a Arc<Resource>,
    spec: &'a DestinationRule,
}

impl<'a> Subsets<'a> {
    fn of(objects: &'a Objects, domain: &'a str) -> Self {
        let mut subsets = Self { domain, exact: HashMap::new(), wildcards: Vec::new() };
        for resource in objects.values() {
            let Spec::DestinationRule(spec) = &resource.spec else { continue };
            let host = full_host(&spec.host, &resource.key.namespace, domain);
            let rule = Rule { resource, spec };
            if host.starts_with('*') {
                subsets.wildcards.push((host, rule));
            } else {
                subsets.exact.entry(host).or_default().push(rule);
            }
        }
        subsets
    }

    /// Returns the rules for `host`.
    fn rules(&self, host: &str) -> impl Iterator<Item = Rule<'a>> {
        let covers = |pattern: &str| pattern.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix));
        let wildcards =
            self.wildcards.iter().filter(move |(pattern, _)| covers(pattern)).map(|(_, rule)| *rule);
        self.exact.get(host).into_iter().flatten().copied().chain(wildcards)
    }

    /// Returns the first rule that defines the subset.
    fn definition(&self, reference: &Reference) -> Option<Rule<'a>> {
        self.rules(&reference.host).find(|rule| rule.defines(&reference.subset))
    }

    fn dangling(&self, route: &Arc<Resource>) -> Vec<Reference> {
        let mut references = references(route, self.domain);
        references.retain(|reference| self.definition(reference).is_none());
        references
    }

    /// Returns who made each of `dangling`, of one route, dangle, if this is how things were `before`.
    fn judge<'b>(&'b self, dangling: Vec<Reference>, before: &'b Objects) -> Vec<(Reference, Culprit<'b>)> {
        let last = dangling.first().and_then(|reference| before.get(&reference.route.key));
        let old = last.map(|last| references(last, self.domain)).unwrap_or_default();
        let old: HashSet<_> = old.iter().map(Reference::target).collect();
        let culprit = |reference: &Reference| match (last, self.definition(reference)) {
            (Some(last), _) if !old.contains(&reference.target()) => Culprit::Route(last),
            (Some(_), Some(rule)) => Culprit::Rule(rule.resource),
            _ => Culprit::Nobody,
        };
        let judge = |reference| (culprit(&reference), reference);
        dangling.into_iter().map(judge).map(|(culprit, reference)| (reference, culprit)).collect()
    }

    fn not_defined(&self, reference: &Reference) -> Diagnostic {
        let message = format!(
            "subset {:?} is not defined in any DestinationRule for host {:?}",
            shortened(&reference.subset),
            reference.written
        );
        let mut help = String::new();
        for Rule { resource, spec } in self.rules(&reference.host).take(RULES_MAX) {
            let names: Vec<_> = spec.subsets.iter().map(|subset| subset.name.value.as_str()).collect();
            let names = if names.is_empty() { "no subset".to_owned() } else { shortened(&names.join(", ")) };
            let separator = if help.is_empty() { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(help, "{separator}{} ({}) defines {names}", resource.key, resource.location);
        }
        if help.is_empty() {
            help = format!("write a DestinationRule for host {:?} that defines it", reference.written);
        }
        reference.finding(message).help(help)
    }
}

impl Rule<'_> {
    fn defines(&self, subset: &str) -> bool {
        self.spec.subsets.iter().any(|defined| defined.name.value == subset)
    }
}

impl Reference {
    fn target(&self) -> (&str, &str) {
        (&self.host, &self.subset)
    }

    fn finding(&self, message: String) -> Diagnostic {
        Diagnostic::error(Code::REFERENCE_NOT_FOUND, message)
            .about(&self.route.key)
            .at(self.route.locate(self.subset.at))
            .path(&self.path)
    }

    /// Returns the finding that `now`, the new version of the rule `last` (`None` if it is gone), is refused.
    fn withdrawn(&self, last: &Resource, now: Option<&Arc<Resource>>) -> Diagnostic {
        let what = if now.is_some() { "no longer defines" } else { "is gone, and with it" };
        let message = format!(
            "{} {what} subset {:?}, to which {} still sends ({})",
            last.key,
            shortened(&self.subset),
            self.route.key,
            self.route.locate(self.subset.at),
        );
        let place = match now.map(|now| (now, &now.spec)) {
            Some((now, Spec::DestinationRule(spec))) => now.locate(spec.host.at),
            _ => self.route.locate(self.subset.at),
        };
        Diagnostic::error(Code::REFERENCE_NOT_FOUND, message)
            .about(&last.key)
            .at(place)
            .path("spec.subsets")
            .help("change the VirtualService first, or both at once")
            .kept(still_in_force(last))
    }
}

/// Returns every subset that `route` names, with its place.
fn references(route: &Arc<Resource>, domain: &str) -> Vec<Reference> {
    let Spec::VirtualService(VirtualService { gateways, http, .. }) = &route.spec else { return Vec::new() };
    if !gateways.is_empty() && !gateways.iter().any(|gateway| gateway == "mesh") {
        // The routes of a gateway send nothing of ours.
        return Vec::new();
    }
    let mut references = Vec::new();
    for (i, http) in http.iter().enumerate() {
        for (j, to) in http.route.iter().enumerate() {
            let Some(subset) = &to.destination.subset else { continue };
            references.push(Reference {
                route: Arc::clone(route),
                path: format!("spec.http[{i}].route[{j}].destination.subset"),
                host: full_host(&to.destination.host, &route.key.namespace, domain),
                written: to.destination.host.value.clone(),
                subset: subset.clone(),
            });
        }
    }
    references
}

/// More rules for one host than that are one mistake of another kind.
const RULES_MAX: usize = 5;
