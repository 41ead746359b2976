//! One file's text becomes resources and findings.
//!
//! It judges each object by itself; what objects say about each other is judged in [`super::accept`].

mod describe;
mod foreign;
mod kinds;
mod malformed;
mod metadata;
mod object;

use super::{
    decode::PROGRAM_BYTES_MAX,
    diagnostic::{Code, Diagnostic, Level, Location},
    resource::{Mark, Resource, ResourceKey},
    tree::{self, Document, Fault, Node, Value},
};
use std::{collections::BTreeMap, sync::Arc};

/// How strictly to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Unknown fields are warnings instead of errors. Default: false, as Istio's webhook refuses them too.
    pub lenient: bool,
    /// The namespace of objects that name none. Default: `default`.
    pub namespace: String,
    /// What follows `.svc.` in a full host name. Default: `cluster.local`, as in Kubernetes.
    pub domain: String,
    /// How bad an EnvoyFilter, WasmPlugin or TrafficExtension is: none is in force, whatever it protects. Default:
    /// warning, as the files of a mesh that moves here hold them.
    pub extensions: Level,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lenient: false,
            namespace: "default".to_owned(),
            domain: "cluster.local".to_owned(),
            extensions: Level::Warning,
        }
    }
}

/// What one file holds.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The objects that read well, and the security objects that did not (as [`super::Spec::Malformed`]).
    pub resources: Vec<Resource>,
    /// The keys of objects that were there but did not read well: their last good version stays.
    pub broken: Vec<ResourceKey>,
    /// Every finding.
    pub diagnostics: Vec<Diagnostic>,
    /// Whether every document could be read as an object. Only then does a missing object mean a deleted one.
    pub complete: bool,
}

/// Reads the documents of `text`, which came from `file`.
///
/// Never fails as a whole: a document that does not read is a finding, the others are read all the same.
///
/// ```
/// # use mesh_core::config::{Options, load};
/// let text = "
/// apiVersion: networking.istio.io/v1
/// kind: VirtualService
/// metadata: {name: reviews}
/// spec:
///   hosts: [reviews]
///   http:
///   - route:
///     - destination: {host: reviews}
///       wieght: 90
/// ";
/// let loaded = load("mesh.yaml", text, &Options::default());
/// let finding = &loaded.diagnostics[0];
/// assert_eq!(finding.location.as_ref().unwrap().to_string(), "mesh.yaml:10:7");
/// assert_eq!(finding.path, "spec.http[0].route[0].wieght");
/// assert_eq!(finding.message, "unknown field `wieght`, did you mean `weight`?");
/// ```
pub fn load(file: &str, text: &str, options: &Options) -> Loaded {
    let mut loader = Loader::new(file.into(), options);
    for document in tree::parse(text) {
        loader.on_document(document);
    }
    loader.finish()
}

/// Reads a MeshConfig that has a file of its own, `text`, and makes it the object that it is in a cluster: the ConfigMap
/// `istio` of namespace `istio-system`.
///
/// ```
/// # use mesh_core::config::{Options, load::mesh_config_file};
/// let loaded = mesh_config_file("mesh-config.yaml", "enableAutoMtls: true\nconectTimeout: 1s\n", &Options::default());
/// let finding = &loaded.diagnostics[0];
/// assert_eq!(finding.location.as_ref().unwrap().to_string(), "mesh-config.yaml:2:1");
/// assert_eq!(finding.help.as_deref(), Some("write `connectTimeout`"));
/// ```
pub fn mesh_config_file(file: &str, text: &str, options: &Options) -> Loaded {
    load_object(file.into(), object::config_map(text), options)
}

/// Reads one object of `file` that was read well before, as it was served or saved.
pub(super) fn load_object(file: Arc<str>, object: Node, options: &Options) -> Loaded {
    let mut loader = Loader::new(file, options);
    loader.on_value(object, &[]);
    loader.finish()
}

/// What was read of a file so far.
struct Loader<'o> {
    file: Arc<str>,
    options: &'o Options,
    loaded: Loaded,
    /// How large the regular expressions of the rest of the file may be.
    program_bytes: usize,
    /// Whether the faults of the document are reported already, as those of the list around its objects.
    faults_reported: bool,
    /// Kinds without a meaning here, with the first place and the number of each.
    foreign: BTreeMap<(String, String), (Mark, usize)>,
}

impl<'o> Loader<'o> {
    fn new(file: Arc<str>, options: &'o Options) -> Self {
        let loaded = Loaded { complete: true, ..Loaded::default() };
        Self {
            file,
            options,
            loaded,
            program_bytes: PROGRAM_BYTES_MAX,
            faults_reported: false,
            foreign: BTreeMap::new(),
        }
    }

    fn on_document(&mut self, document: Document) {
        self.loaded.complete &= document.faults.is_empty();
        match document.root {
            Some(root) => self.on_value(root, &document.faults),
            None => self.report_faults(&document.faults, None),
        }
    }

    /// Reads an object, a list of objects, or an array of objects.
    fn on_value(&mut self, node: Node, faults: &[Fault]) {
        if !is_list(&node) {
            return self.on_object(node, faults);
        }
        self.report_faults(faults, None);
        let items = match node.value {
            Value::Sequence(items) => items,
            Value::Mapping(entries) => items_of(entries),
            Value::Scalar { .. } => return,
        };
        let outer = std::mem::replace(&mut self.faults_reported, true);
        for item in items {
            // A fault somewhere in a list may be in any of its items: none of them may come into force.
            self.on_value(item, faults);
        }
        self.faults_reported = outer;
    }

    fn report_faults(&mut self, faults: &[Fault], key: Option<&ResourceKey>) {
        if self.faults_reported {
            return;
        }
        for fault in faults {
            let mut finding = Diagnostic::error(fault.code, &fault.message).at(self.locate(fault.at));
            finding.help.clone_from(&fault.help);
            finding.resource = key.cloned();
            self.report(finding);
        }
    }

    fn report(&mut self, finding: Diagnostic) {
        if self.loaded.diagnostics.len() < FINDINGS_MAX {
            self.loaded.diagnostics.push(finding);
        } else if self.loaded.diagnostics.len() == FINDINGS_MAX {
            let message =
                format!("more than {FINDINGS_MAX} findings in this file; the others are not listed");
            let finding = Diagnostic::warning(Code::TOO_LARGE, message);
            self.loaded.diagnostics.push(finding.at(self.locate(Mark { line: 1, column: 1 })));
        }
    }

    fn locate(&self, mark: Mark) -> Location {
        Location::new(&self.file, mark)
    }

    fn finish(mut self) -> Loaded {
        for ((kind, api_version), (at, count)) in std::mem::take(&mut self.foreign) {
            let location = self.locate(at);
            self.report(foreign::left_out(&kind, &api_version, count, self.options.extensions).at(location));
        }
        self.loaded
    }
}

/// Returns whether `node` holds objects instead of being one: an array, a `kind: List` (or `VirtualServiceList`), or
/// the `items` that a control endpoint serves.
fn is_list(node: &Node) -> bool {
    let kind = node.get("kind").and_then(Node::as_text);
    let items = matches!(node.get("items"), Some(Node { value: Value::Sequence(_), .. }));
    matches!(node.value, Value::Sequence(_)) || items && kind.is_none_or(|kind| kind.ends_with("List"))
}

fn items_of(entries: Vec<(tree::Key, Node)>) -> Vec<Node> {
    let items = entries.into_iter().find(|(key, _)| &*key.text == "items");
    match items.map(|(_, node)| node.value) {
        Some(Value::Sequence(items)) => items,
        _ => Vec::new(),
    }
}

/// Nobody reads more, and what is kept of a hostile file stays small.
const FINDINGS_MAX: usize = 1000;
