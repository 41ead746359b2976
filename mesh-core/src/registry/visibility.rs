//! Who sees what, and which of the namespaces that describe one host a workload means by it.

use crate::config::{Resource, Spec};
use std::{borrow::Cow, collections::HashSet, sync::Arc};

/// For whom a registry is. The default sees everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Visibility {
    /// The namespace of the workload.
    namespace: Option<Arc<str>>,
    /// `exportTo` of services that have none.
    export_to: Vec<String>,
}

impl Visibility {
    /// Returns that of a workload in `namespace`; `export_to` is that of services that have none.
    pub(super) fn of(namespace: &str, export_to: &[String]) -> Self {
        Self { namespace: Some(namespace.into()), export_to: export_to.to_vec() }
    }

    /// Returns those of `objects`, all that name `host`, that make the service that is seen: objects of one namespace,
    /// those of whoever owns the name, else those nearest to the caller; of equals the ones that rule.
    ///
    /// What rules in a namespace decides who sees the service there, and those that write no `exportTo` go with it, as
    /// leases do; one that writes it is seen by no more than it says.
    // spec: istio pilot/pkg/model/sidecar.go DefaultSidecarScopeForNamespace, push_context.go servicesExportedToNamespace
    pub(super) fn choose<'a>(
        &self,
        host: &str,
        objects: &'a [Arc<Resource>],
        domain: &str,
    ) -> Vec<&'a Arc<Resource>> {
        let mut namespaces = HashSet::new();
        let describing = objects.iter().filter(|object| export_to(object).is_some());
        let ruling = describing.filter(|object| namespaces.insert(&object.key.namespace));
        let rank = |object: &Arc<Resource>| {
            Some((!is_owner(&object.key.namespace, host, domain), self.distance(object)?))
        };
        let ranked = ruling.filter_map(|object| Some((rank(object)?, &object.key.namespace)));
        let Some((_, namespace)) = ranked.min_by_key(|(rank, _)| *rank) else { return Vec::new() };
        let is_seen = |object: &Arc<Resource>| {
            export_to(object).is_none_or(|written| written.is_empty() || self.distance(object).is_some())
        };
        objects.iter().filter(|object| object.key.namespace == *namespace && is_seen(object)).collect()
    }

    /// Returns how far from the caller an object that describes a service is, if it is seen.
    fn distance(&self, object: &Resource) -> Option<Distance> {
        let written = export_to(object)?;
        let Some(own) = &self.namespace else { return Some(Distance::Everybodys) };
        let scopes = if written.is_empty() { &self.export_to } else { &*written };
        let namespace = &*object.key.namespace;
        let is_public = scopes.is_empty() || scopes.iter().any(|scope| scope == "*");
        match is_exported(scopes, namespace, own) {
            false => None,
            true if is_public => Some(Distance::Everybodys),
            true if namespace == &**own => Some(Distance::Own),
            true => Some(Distance::Given),
        }
    }
}

/// How far an object is from a caller that sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Distance {
    /// It is for the caller's namespace, where it is.
    Own,
    /// It is exported to the caller's namespace by name.
    Given,
    /// Everybody sees it.
    Everybodys,
}

/// Returns whether what `namespace` exports to `scopes` is seen in `own`. Without scopes everybody sees it.
pub(crate) fn is_exported(scopes: &[String], namespace: &str, own: &str) -> bool {
    scopes.is_empty()
        || scopes.iter().any(|scope| match scope.as_str() {
            "*" => true,
            "." => namespace == own,
            "~" => false,
            named => named == own,
        })
}

/// Returns the `exportTo` of an object, as it is written; `None` if it describes no service.
pub(super) fn export_to(object: &Resource) -> Option<Cow<'_, [String]>> {
    match &object.spec {
        Spec::Service(_) => Some(listed(object, "networking.istio.io/exportTo").into()),
        Spec::ServiceEntry(entry) => Some((&entry.export_to[..]).into()),
        _ => None,
    }
}

/// Returns the parts of an annotation that is a list.
pub(super) fn listed(object: &Resource, annotation: &str) -> Vec<String> {
    let parts = object.meta.annotations.get(annotation).map_or("", String::as_str).split(',');
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// A name in a namespace is that namespace's, as a Service's is: nobody else can take it by being older.
fn is_owner(namespace: &str, host: &str, domain: &str) -> bool {
    let name = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix(".svc."));
    name.and_then(|name| name.rsplit_once('.')).is_some_and(|(_, owner)| owner == namespace)
}
