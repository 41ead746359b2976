//! What `GET /v1/resources` answers at one moment: the objects, the version they add up to, and the bytes of it per
//! namespace.

use crate::{ControlError, locked};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use ring::digest::{Context, SHA256};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::Write,
    sync::{Arc, Mutex, OnceLock},
};

/// One object as it is sent, and who sees it.
#[derive(Debug)]
pub(crate) struct Item {
    json: String,
    reach: Reach,
}

/// Which namespaces an object concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All.
    Mesh,
    /// These.
    Namespaces(BTreeSet<String>),
}

/// Everything that is served, immutable.
pub(crate) struct Served {
    version: String,
    trust_domain: String,
    warming: bool,
    items: Vec<Arc<Item>>,
    views: Mutex<BTreeMap<String, Arc<View>>>,
}

/// The bytes of one namespace's answer.
#[derive(Debug)]
pub(crate) struct View {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
}

impl Item {
    /// Returns the object `json` that stands in `namespace`.
    ///
    /// An object is for whom its `exportTo` names; an AuthorizationPolicy and a RequestAuthentication only for their own
    /// namespace, unless they are of the root namespace: others have no use for them, and they tell what to attack.
    // spec: istio networking/v1alpha3/virtual_service.proto export_to; api annotation networking.istio.io/exportTo
    pub(crate) fn new(kind: &str, namespace: &str, json: &Value) -> Self {
        Self { json: json.to_string(), reach: reach(kind, namespace, json) }
    }

    fn concerns(&self, namespace: &str) -> bool {
        match &self.reach {
            Reach::Mesh => true,
            Reach::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}

fn reach(kind: &str, namespace: &str, json: &Value) -> Reach {
    let named: Vec<String> = match kind {
        "AuthorizationPolicy" | "RequestAuthentication" if namespace == ROOT_NAMESPACE => Vec::new(),
        "AuthorizationPolicy" | "RequestAuthentication" => vec![".".to_owned()],
        "Service" => match json.pointer("/metadata/annotations/networking.istio.io~1exportTo") {
            Some(Value::String(text)) => text.split(',').map(|name| name.trim().to_owned()).collect(),
            _ => Vec::new(),
        },
        // Both spellings that the decoder takes.
        _ => ["/spec/exportTo", "/spec/export_to"]
            .into_iter()
            .filter_map(|field| json.pointer(field)?.as_array())
            .flatten()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
    };
    if named.is_empty() || named.iter().any(|name| name == "*") {
        return Reach::Mesh;
    }
    let resolved = named.into_iter().filter(|name| name != "~");
    Reach::Namespaces(resolved.map(|name| if name == "." { namespace.to_owned() } else { name }).collect())
}

impl Served {
    /// Returns what `items` add up to. Equal items have equal versions, also after a restart.
    pub(crate) fn new(trust_domain: &str, warming: bool, items: Vec<Arc<Item>>) -> Self {
        let mut context = Context::new(&SHA256);
        for item in &items {
            context.update(item.json.as_bytes());
            context.update(b"\n");
        }
        // The end of the warming time is news too, and only a new version wakes who waits.
        context.update(&[u8::from(warming)]);
        let version = crate::hex(&context.finish().as_ref()[..VERSION_BYTES]);
        Self { version, trust_domain: trust_domain.to_owned(), warming, items, views: Mutex::default() }
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Returns how many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns what `namespace` sees; made once.
    pub(crate) fn view(&self, namespace: &str) -> Arc<View> {
        if let Some(view) = locked(&self.views).get(namespace) {
            return Arc::clone(view);
        }
        let view = Arc::new(View { plain: self.body(namespace).into(), gzip: OnceLock::new() });
        Arc::clone(locked(&self.views).entry(namespace.to_owned()).or_insert(view))
    }

    /// Writes [`mesh_runtime::control::wire::Resources`] around the items, which are text already.
    fn body(&self, namespace: &str) -> String {
        let items: Vec<_> = self
            .items
            .iter()
            .filter(|item| item.concerns(namespace))
            .map(|item| item.json.as_str())
            .collect();
        format!(
            "{{\"version\":{},\"trustDomain\":{},{}\"items\":[{}]}}\n",
            Value::from(self.version.as_str()),
            Value::from(self.trust_domain.as_str()),
            if self.warming { "\"warming\":true," } else { "" },
            items.join(",\n"),
        )
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("version", &self.version).field("items", &self.items.len()).finish()
    }
}

impl View {
    pub(crate) fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// Returns the same, packed; made once.
    pub(crate) fn gzip(&self) -> Result<Bytes, ControlError> {
        if let Some(packed) = self.gzip.get() {
            return Ok(packed.clone());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(&self.plain).and_then(|()| encoder.finish());
        let packed = packed
            .map_err(|source| ControlError::Io { what: "packing the resources".to_owned(), source })?
            .into();
        Ok(self.gzip.get_or_init(|| packed).clone())
    }
}

/// The namespace whose policies are for the whole mesh.
const ROOT_NAMESPACE: &str = "istio-system";
/// 64 bits tell apart more versions than will ever be; short enough to read out.
const VERSION_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::control::wire::Resources;
    use serde_json::json;
    use std::io::Read;

    #[test]
    fn an_object_reaches_the_namespaces_it_is_exported_to() {
        let exported = |to: Value| json!({"spec": {"exportTo": to}});
        let service = |to: &str| json!({"metadata": {"annotations": {"networking.istio.io/exportTo": to}}});
        let table = [
            ("VirtualService", exported(json!(null)), "shop bank"),
            ("VirtualService", exported(json!([])), "shop bank"),
            ("VirtualService", exported(json!(["*"])), "shop bank"),
            ("DestinationRule", exported(json!(["."])), "shop"),
            ("DestinationRule", json!({"spec": {"export_to": ["."]}}), "shop"),
            ("ServiceEntry", exported(json!(["bank"])), "bank"),
            ("ServiceEntry", exported(json!([".", "bank"])), "shop bank"),
            ("ServiceEntry", exported(json!(["~"])), ""),
            ("Service", service("."), "shop"),
            ("Service", service("bank, ."), "shop bank"),
            ("Service", json!({}), "shop bank"),
            ("AuthorizationPolicy", json!({}), "shop"),
            ("RequestAuthentication", json!({}), "shop"),
            ("PeerAuthentication", json!({}), "shop bank"),
        ];
        for (row, (kind, object, expected)) in table.into_iter().enumerate() {
            let item = Item::new(kind, "shop", &object);
            let seen: Vec<_> = ["shop", "bank"].into_iter().filter(|name| item.concerns(name)).collect();
            assert_eq!(seen.join(" "), expected, "row {row}");
        }
        assert!(Item::new("AuthorizationPolicy", "istio-system", &json!({})).concerns("bank"));
    }

    #[test]
    fn equal_content_has_an_equal_version_and_any_difference_another() {
        let served = |items: &[&str], warming| {
            let items = items.iter().map(|text| Arc::new(Item::new("Service", "shop", &json!({"n": text}))));
            Served::new("td", warming, items.collect()).version
        };
        let all = [
            served(&[], false),
            served(&[], true),
            served(&["a"], false),
            served(&["a", "b"], false),
            served(&["b", "a"], false),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(served(&["a", "b"], false), served(&["a", "b"], false));
    }

    #[test]
    fn the_body_reads_as_what_the_workload_expects_packed_or_not() {
        let items = ["shop", "bank"].map(|ns| {
            Arc::new(Item::new("ServiceEntry", ns, &json!({"n": ns, "spec": {"exportTo": ["."]}})))
        });
        let view = Served::new("t\"d", true, items.to_vec()).view("bank");
        let read: Resources = serde_json::from_slice(&view.plain()).unwrap();
        assert_eq!((read.trust_domain.as_str(), read.warming), ("t\"d", true));
        assert_eq!(read.items, [json!({"n": "bank", "spec": {"exportTo": ["."]}})]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*view.gzip().unwrap()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, view.plain());
    }
}
