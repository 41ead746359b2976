//! `metadata`: which object it is.

use crate::config::{
    decode::{self, Decoder, Fields, labels, shortened, text},
    istio::is_label,
    resource::{Kind, Meta, ResourceKey},
    tree::Node,
};

/// What `metadata` says, as far as it could be read.
#[derive(Debug)]
pub(super) struct Metadata {
    /// `None` if the object cannot be told from others.
    pub(super) key: Option<ResourceKey>,
    pub(super) meta: Meta,
}

impl Metadata {
    /// Reads the `metadata` of `object`, an object of `kind`.
    pub(super) fn read<'n>(
        decoder: &mut Decoder<'n>,
        object: &'n Node,
        kind: Kind,
        default_namespace: &str,
    ) -> Self {
        let Some(node) = decoder.child(object, "metadata").filter(|node| !node.is_null()) else {
            decoder.within("metadata", |decoder| decoder.refuse(object.at, "`metadata.name` is required"));
            return Self { key: None, meta: Meta::default() };
        };
        decoder.within("metadata", |decoder| {
            let Some(mut fields) = decoder.fields(node) else {
                return Self { key: None, meta: Meta::default() };
            };
            let name = fields.require("name", object_name);
            if kind == Kind::MeshPolicy && name.as_deref().is_some_and(|name| name != "default") {
                // spec: istio 1.3.0 pkg/config/validation ValidateAuthenticationPolicy
                fields.refuse("name", "the one MeshPolicy of the mesh must be named `default`");
            }
            if kind == Kind::Gateway && name.as_deref().is_some_and(|name| name.contains('.')) {
                // spec: istio pkg/config/validation ValidateGateway: a name with a dot could not be told from `name.namespace`
                fields.refuse("name", "the name of a Gateway has no dots");
            }
            let namespace = namespace(&mut fields, kind, default_namespace);
            let meta = Meta {
                labels: fields.get("labels", labels).unwrap_or_default(),
                annotations: fields.get("annotations", labels).unwrap_or_default(),
                created: fields.get("creationTimestamp", text),
            };
            for name in KUBERNETES_FIELDS {
                fields.take(name);
            }
            fields.finish();
            let key = name
                .zip(namespace)
                .map(|(name, namespace)| ResourceKey::new(kind.as_str(), &namespace, &name));
            Self { key, meta }
        })
    }
}

fn namespace(fields: &mut Fields<'_, '_>, kind: Kind, default: &str) -> Option<String> {
    let written = fields.has("namespace");
    let namespace = fields.get("namespace", |decoder, node| {
        let name = decode::name(decoder, node)?;
        if !is_label(&name) {
            let message =
                format!("`{}` is not a namespace; use a-z, 0-9 and `-`, at most 63", shortened(&name));
            decoder.refuse(node.at, message);
            return None;
        }
        Some(name)
    });
    match (kind, written) {
        // There is one for the whole mesh, in whatever namespace it is said to be.
        (Kind::MeshPolicy, _) => Some(ROOT_NAMESPACE.to_owned()),
        (_, false) => Some(default.to_owned()),
        (_, true) => namespace,
    }
}

/// Reads the name of an object.
// spec: kubernetes concepts/overview/working-with-objects/names, DNS subdomain names
fn object_name(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    let name = decode::name(decoder, node)?;
    if name.len() > 253 || !name.split('.').all(is_label) {
        let message = format!(
            "`{}` is not the name of an object; use a-z, 0-9, `-` and `.`, with a letter or digit at both ends",
            shortened(&name)
        );
        decoder.refuse(node.at, message);
        return None;
    }
    Some(name)
}

/// Where Istio keeps what concerns the whole mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// What Kubernetes adds to an object by itself.
const KUBERNETES_FIELDS: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "generateName",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];
