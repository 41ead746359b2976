//! One object: its envelope, its `spec`, and what becomes of it if something is wrong.

use super::{
    Loader,
    kinds::{Class, api_versions, classify},
    malformed::{self, Malformed},
    metadata::Metadata,
};
use crate::{
    authorize::{DRY_RUN, flag},
    config::{
        decode::{Decoder, shortened},
        diagnostic::{Code, Diagnostic},
        istio::{
            AttachedRoute, AuthorizationPolicy, DestinationRule, EndpointList, Gateway, LegacyPolicy,
            MeshConfig, PeerAuthentication, Pod, RequestAuthentication, Service, ServiceEntry, Sidecar,
            Telemetry, VirtualService, WorkloadEntry,
        },
        resource::{Kind, Mark, Meta, Resource, ResourceKey, Spec},
        tree::{Fault, Key, Node, Value},
    },
};
use std::sync::Arc;

impl Loader<'_> {
    /// Reads an object. With `faults` it is what could be read of a broken document, and only says whose it was.
    pub(super) fn on_object(&mut self, node: Node, faults: &[Fault]) {
        match self.classify(&node, faults) {
            Some(kind) => self.on_known(kind, node, faults),
            None => self.report_faults(faults, None),
        }
    }

    /// Returns the kind of an object that is to be read.
    fn classify(&mut self, node: &Node, faults: &[Fault]) -> Option<Kind> {
        let text = |field| node.get(field).and_then(Node::as_text);
        let (Some(kind), api_version) = (text("kind"), text("apiVersion").unwrap_or_default()) else {
            if faults.is_empty() {
                self.loaded.complete = false;
                self.report(no_object(node).at(self.locate(node.at)));
            }
            return None;
        };
        match classify(kind, api_version) {
            // Every application has ConfigMaps; one of them is the mesh's.
            Class::Known(Kind::ConfigMap) if !is_mesh_config(node) => {
                self.on_foreign(node, kind, api_version);
                None
            }
            Class::Known(kind) => Some(kind),
            Class::Odd(kind) => {
                let at = node.get("apiVersion").map_or(node.at, |version| version.at);
                let finding = odd_version(kind, api_version).at(self.locate(at));
                self.report(finding);
                Some(kind)
            }
            Class::WrongVersion(kind) => Some(kind),
            Class::Foreign => {
                self.on_foreign(node, kind, api_version);
                None
            }
            Class::Mistyped(known) => {
                // It may have been read before under the right name.
                self.loaded.complete = false;
                let at = node.get("kind").map_or(node.at, |kind| kind.at);
                let message = format!("unknown kind `{}`, did you mean `{known}`?", shortened(kind));
                let finding = Diagnostic::error(Code::SCHEMA, message).help(format!("write `kind: {known}`"));
                self.report(finding.path("kind").at(self.locate(at)));
                None
            }
        }
    }

    fn on_known(&mut self, kind: Kind, node: Node, faults: &[Fault]) {
        let file = Arc::clone(&self.file);
        let absent = Node::null(node.at);
        let mut decoder = Decoder::new(&file, self.options.lenient).with_program_bytes(self.program_bytes);
        let Metadata { mut key, meta } = Metadata::read(&mut decoder, &node, kind, &self.options.namespace);
        check_envelope(&mut decoder, &node, kind);
        let mut spec = key.as_ref().and_then(|key| read_spec(&mut decoder, &node, &absent, kind, key));
        match &mut spec {
            Some(Spec::DestinationRule(rule)) => rule.annotate(&mut decoder, &node, &meta),
            Some(Spec::VirtualService(rule)) => rule.annotate(&mut decoder, &node, &meta),
            _ => {}
        }
        if kind == Kind::AuthorizationPolicy {
            note_trial(&mut decoder, &node, &meta);
        }
        self.program_bytes = decoder.program_bytes();
        let (mut findings, good) = decoder.finish();
        if !faults.is_empty() {
            key = key.filter(|_| is_past_metadata(&node));
            // Half an object complains about the half that is missing; the faults say it all.
            findings.clear();
        }
        self.report_faults(faults, key.as_ref());
        for mut finding in findings {
            finding.resource.clone_from(&key);
            self.report(finding);
        }
        let good = good && faults.is_empty();
        match (key, spec.filter(|_| good)) {
            (Some(key), Some(spec)) => self.on_good(key, kind, meta, spec, node),
            (Some(key), None) => self.on_broken(key, kind, meta, &node, faults),
            // Its namespace may stand where nothing could be read any more.
            (None, _) if !faults.is_empty() => {}
            (None, _) => self.on_nameless(kind, meta, &node, faults),
        }
    }

    fn on_good(&mut self, key: ResourceKey, kind: Kind, meta: Meta, spec: Spec, mut node: Node) {
        name_namespace(&mut node, &key.namespace);
        let location = self.locate(node.at);
        self.loaded.resources.push(Resource { key, kind, meta, location, spec, document: Arc::new(node) });
    }

    fn on_broken(&mut self, key: ResourceKey, kind: Kind, meta: Meta, node: &Node, faults: &[Fault]) {
        self.loaded.broken.push(key.clone());
        if let Some(spec) = Malformed::of(kind, node, faults) {
            let document = Arc::new(spec.document(&key, kind, node.at));
            let (location, spec) = (self.locate(node.at), spec.spec());
            self.loaded.resources.push(Resource { key, kind, meta, location, spec, document });
        }
    }

    /// A security object whose name cannot be read fails closed too, under a name that no object can have.
    fn on_nameless(&mut self, kind: Kind, meta: Meta, node: &Node, faults: &[Fault]) {
        self.loaded.complete = false;
        if !kind.is_security() {
            return;
        }
        let namespace = node.get("metadata").and_then(|node| node.get("namespace")).and_then(Node::as_text);
        let namespace = namespace.unwrap_or(&self.options.namespace);
        let key = ResourceKey::nameless(kind, namespace, node.at);
        self.on_broken(key, kind, meta, node, faults);
    }
}

fn no_object(node: &Node) -> Diagnostic {
    let message = match &node.value {
        Value::Mapping(_) => "`kind` is required: the document says not what it is".to_owned(),
        Value::Sequence(_) => "expected an object, found a list".to_owned(),
        Value::Scalar { text, .. } => format!("expected an object, found `{}`", shortened(text)),
    };
    Diagnostic::error(Code::UNREADABLE, message).help("an object has apiVersion, kind, metadata and spec")
}

fn odd_version(kind: Kind, written: &str) -> Diagnostic {
    let right = api_versions(kind)[0];
    let message = format!("{kind} never was in {}; it is read as {right}", shortened(written));
    Diagnostic::warning(Code::ODD_API_VERSION, message)
        .help(format!("write `apiVersion: {right}`"))
        .path("apiVersion")
}

/// Checks what stands around `spec`.
pub(super) fn check_envelope<'n>(decoder: &mut Decoder<'n>, node: &'n Node, kind: Kind) {
    let version = node.get("apiVersion");
    let written = version.and_then(Node::as_text).unwrap_or_default();
    if matches!(classify(kind.as_str(), written), Class::WrongVersion(_)) {
        let message = match version {
            Some(_) => format!("{kind} is not read under apiVersion `{}`", shortened(written)),
            None => "`apiVersion` is required".to_owned(),
        };
        let help = format!("write one of {}", api_versions(kind).join(", "));
        let at = version.map_or(node.at, |version| version.at);
        let finding = Diagnostic::error(Code::SCHEMA, message).help(help);
        decoder.within("apiVersion", |decoder| decoder.find(at, finding));
    }
    if let Some(mut fields) = decoder.fields(node) {
        for &name in ["apiVersion", "kind", "metadata"].iter().chain(body_fields(kind)) {
            fields.take(name);
        }
        if let Some(malformed) = fields.take(malformed::MARKER) {
            let message = "this object did not read well where it was written, and fails closed";
            fields.decoder.refuse(malformed.at, message);
        }
        fields.finish();
    }
}

/// Returns whether a ConfigMap is the one that Istio keeps the settings of the mesh in.
// spec: istio manifests/charts/istio-control/istio-discovery/templates/configmap.yaml
fn is_mesh_config(node: &Node) -> bool {
    node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_text) == Some("istio")
}

/// Returns the ConfigMap that holds `mesh_config`, whose places are those of a file of its own.
pub(super) fn config_map(mesh_config: &str) -> Node {
    // Above the first line of the file: what stands in it is read as a block below the name of its field.
    let at = Mark { line: 0, column: 1 };
    let blank = mesh_config.bytes().take_while(|&c| c == b'\n').count();
    let start = Mark { line: u32::try_from(blank + 1).unwrap_or(1), column: 1 };
    let mapping = |fields: Vec<(&str, Node)>| {
        Node::mapping(fields.into_iter().map(|(name, node)| (name.to_owned(), node)), at)
    };
    mapping(vec![
        ("apiVersion", Node::string("v1", at)),
        ("kind", Node::string(Kind::ConfigMap.as_str(), at)),
        (
            "metadata",
            mapping(vec![
                ("name", Node::string("istio", at)),
                ("namespace", Node::string("istio-system", at)),
            ]),
        ),
        ("data", mapping(vec![("mesh", Node::string(mesh_config, start))])),
    ])
}

/// Returns the fields beside `metadata` that hold what an object of `kind` says.
const fn body_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Endpoints => &["subsets"],
        Kind::EndpointSlice => &["addressType", "endpoints", "ports"],
        Kind::ConfigMap => &["data", "binaryData", "immutable"],
        _ => &["spec", "status"],
    }
}

/// Reads `spec`. An object without one says nothing, which only some kinds may.
pub(super) fn read_spec<'n>(
    decoder: &mut Decoder<'n>,
    node: &'n Node,
    absent: &'n Node,
    kind: Kind,
    key: &ResourceKey,
) -> Option<Spec> {
    if node.get(malformed::MARKER).is_some() {
        return None;
    }
    match kind {
        Kind::Endpoints => return EndpointList::read_endpoints(decoder, node).map(Spec::Endpoints),
        Kind::EndpointSlice => return EndpointList::read_slice(decoder, node).map(Spec::Endpoints),
        Kind::Pod => return Pod::read(decoder, node).map(Spec::Pod),
        Kind::ConfigMap => {
            return MeshConfig::read_config_map(decoder, node)
                .map(|config| Spec::MeshConfig(Box::new(config)));
        }
        _ => {}
    }
    let spec = decoder.child(node, "spec").unwrap_or(absent);
    decoder.within("spec", |decoder| match kind {
        Kind::VirtualService => VirtualService::read(decoder, spec).map(Spec::VirtualService),
        Kind::DestinationRule => DestinationRule::read(decoder, spec).map(Spec::DestinationRule),
        Kind::ServiceEntry => ServiceEntry::read(decoder, spec).map(Spec::ServiceEntry),
        Kind::Service => Service::read(decoder, spec).map(Spec::Service),
        Kind::PeerAuthentication => PeerAuthentication::read(decoder, spec).map(Spec::PeerAuthentication),
        Kind::MeshPolicy | Kind::Policy => {
            LegacyPolicy::read(decoder, spec, kind, &key.name).map(Spec::LegacyPolicy)
        }
        Kind::AuthorizationPolicy => {
            AuthorizationPolicy::read(decoder, spec, &key.namespace).map(Spec::AuthorizationPolicy)
        }
        Kind::RequestAuthentication => {
            RequestAuthentication::read(decoder, spec).map(Spec::RequestAuthentication)
        }
        Kind::WorkloadEntry => WorkloadEntry::read(decoder, spec).map(Spec::WorkloadEntry),
        Kind::Sidecar => Sidecar::read(decoder, spec, &key.namespace).map(Spec::Sidecar),
        Kind::Gateway => Gateway::read(decoder, spec).map(Spec::Gateway),
        Kind::Telemetry => Telemetry::read(decoder, spec).map(Spec::Telemetry),
        Kind::HttpRoute => AttachedRoute::read_http(decoder, spec).map(Spec::AttachedRoute),
        Kind::GrpcRoute => AttachedRoute::read_grpc(decoder, spec).map(Spec::AttachedRoute),
        Kind::Endpoints | Kind::EndpointSlice | Kind::Pod | Kind::ConfigMap => None,
    })
}

/// Says what becomes of a policy that is annotated to be tried only.
// spec: istio annotations, istio.io/dry-run
fn note_trial(decoder: &mut Decoder<'_>, node: &Node, meta: &Meta) {
    let Some(written) = meta.annotations.get(DRY_RUN) else { return };
    let message = match flag(written) {
        Some(true) => "the policy is on trial: what it would decide is reported, and not enforced".to_owned(),
        Some(false) => return,
        None => {
            format!("{DRY_RUN}: `{}` is neither true nor false: the policy is in force", shortened(written))
        }
    };
    let finding = Diagnostic::warning(Code::SECURITY_NOTE, message);
    decoder.within("metadata", |decoder| decoder.find(node.at, finding));
}

/// Returns whether the parser got beyond `metadata` before the document broke.
fn is_past_metadata(node: &Node) -> bool {
    matches!(&node.value, Value::Mapping(entries) if entries.last().is_some_and(|(key, _)| &*key.text != "metadata"))
}

/// Writes the namespace into `metadata`, so that the document means the same wherever it is served to.
fn name_namespace(node: &mut Node, namespace: &str) {
    let Value::Mapping(entries) = &mut node.value else { return };
    let Some((_, metadata)) = entries.iter_mut().find(|(key, _)| &*key.text == "metadata") else { return };
    let at = metadata.at;
    let Value::Mapping(fields) = &mut metadata.value else { return };
    fields.retain(|(key, value)| &*key.text != "namespace" || !value.is_null());
    if !fields.iter().any(|(key, _)| &*key.text == "namespace") {
        fields.push((Key { text: "namespace".into(), at }, Node::string(namespace, at)));
    }
}
