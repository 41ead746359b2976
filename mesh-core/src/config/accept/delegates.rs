//! Objects without hosts that nothing delegates to: each of them is a forgotten `hosts`, or a forgotten root.

use super::Objects;
use crate::config::{
    diagnostic::{Code, Diagnostic},
    istio::VirtualService,
    resource::{Resource, Spec},
};
use std::{collections::HashSet, sync::Arc};

/// Reports every VirtualService without hosts to which none of `objects` delegates.
///
/// Whether such an object is a delegate, only the whole set says; alone it is no more than one that routes nothing.
pub(super) fn note_unused(objects: &Objects, findings: &mut Vec<Diagnostic>) {
    let used: HashSet<_> = objects.values().flat_map(used_by).collect();
    for resource in objects.values() {
        let Some(VirtualService { hosts, .. }) = spec_of(resource) else { continue };
        let key = &resource.key;
        if hosts.is_empty() && !used.contains(&(&*key.namespace, &*key.name)) {
            let message =
                "`hosts` is required, unless a route of another VirtualService delegates to this one";
            let finding = Diagnostic::error(Code::SCHEMA, message)
                .about(key)
                .at(resource.location.clone())
                .path("spec.hosts")
                .help("write the hosts it routes, or a `delegate` that names it")
                .kept("it is in force, and routes nothing");
            findings.push(finding);
        }
    }
}

/// Returns namespace and name of every object to which `root` delegates.
fn used_by(root: &Arc<Resource>) -> impl Iterator<Item = (&str, &str)> {
    let routes = spec_of(root).map_or(&[][..], |spec| &spec.http);
    let delegates = routes.iter().filter_map(|route| route.delegate.as_ref());
    delegates.map(|delegate| {
        let namespace = delegate.namespace.as_deref().unwrap_or(&root.key.namespace);
        (namespace, delegate.name.as_str())
    })
}

fn spec_of(resource: &Arc<Resource>) -> Option<&VirtualService> {
    match &resource.spec {
        Spec::VirtualService(spec) => Some(spec),
        _ => None,
    }
}
