//! The schema says what the readers read: no field more, none less, and no other type.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod example;
mod judge;

use example::Example;
use judge::{accepts, why_not};
use mesh_core::config::{
    Diagnostic, Kind, Loaded, Options, load,
    schema::{Schema, Support},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn every_kind_has_a_schema_with_its_envelope() {
    for kind in Kind::ALL {
        let schema = Schema::of(kind).to_json_schema();
        assert_eq!(schema["properties"]["kind"], json!({"const": kind.as_str()}));
        let named =
            json!({"apiVersion": Schema::of(kind).api_versions[0], "kind": kind.as_str(), "metadata": {}});
        assert!(why_not(&schema, &named).unwrap().contains("name"), "{kind}");
    }
}

#[test]
fn a_field_is_found_by_its_path_and_says_what_becomes_of_it() {
    let schema = Schema::of(Kind::VirtualService);
    let support =
        |path: &str| schema.fields().find(|(known, _)| known == path).map(|(_, field)| field.support.clone());
    assert_eq!(support("spec.http[].match[].headers{}.regex"), Some(Support::Obeyed));
    assert_eq!(support("metadata.uid"), Some(Support::PassedOver));
    assert_eq!(support("spec.http[].match[].header"), None);
}

#[test]
fn values_have_the_types_and_bounds_of_their_readers() {
    let schema = Schema::of(Kind::VirtualService).to_json_schema();
    let route = &schema["properties"]["spec"]["properties"]["http"]["items"]["properties"];
    let weight = &route["route"]["items"]["properties"]["weight"];
    for (value, fits) in [
        (json!(0), true),
        (json!("90"), true),
        (json!(null), true),
        (json!(-1), false),
        (json!(1.5), false),
        (json!("x"), false),
        (json!(2_147_483_648_u64), false),
    ] {
        assert_eq!(accepts(weight, &value), fits, "{value}");
    }
    for (value, fits) in
        [("1m30s", true), ("0.5s", true), ("0", true), ("5", false), ("-1s", false), ("1d", false)]
    {
        assert_eq!(accepts(&route["timeout"], &json!(value)), fits, "{value}");
    }
    let rule = Schema::of(Kind::DestinationRule).to_json_schema();
    let tls = &rule["properties"]["spec"]["properties"]["trafficPolicy"]["properties"]["tls"]["properties"];
    assert_eq!(tls["mode"]["enum"], json!(["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL", null]));
}

#[test]
fn documents_that_load_are_valid_alone_and_as_any_document() {
    let any = Schema::any_document();
    for text in [
        include_str!("../fixtures/every-field.yaml"),
        include_str!("../fixtures/canary-block.yaml"),
        include_str!("../../../docs/mesh.yaml"),
    ] {
        let loaded = read(text);
        assert!(!loaded.resources.is_empty());
        for resource in &loaded.resources {
            let document = resource.document.to_json();
            assert_eq!(why_not(&any, &document), None, "{}", resource.key);
            let schema = Schema::of(resource.kind);
            // The canary's MeshPolicy stands under an API version that never had it, which an editor may underline.
            if schema.api_versions.iter().any(|version| document["apiVersion"] == *version) {
                assert_eq!(why_not(&schema.to_json_schema(), &document), None, "{}", resource.key);
            }
        }
        let all: Vec<_> = loaded.resources.iter().map(|resource| resource.document.to_json()).collect();
        assert_eq!(why_not(&any, &json!({"kind": "List", "items": all})), None);
        assert_eq!(why_not(&any, &json!(all)), None);
    }
}

#[test]
fn any_document_is_judged_by_its_kind_and_kinds_that_are_not_read_are_not_judged() {
    let any = Schema::any_document();
    let with = |version: &str, kind: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
    let rule = |version: &str| with(version, "DestinationRule", json!({"host": "a", "subset": []}));
    assert!(why_not(&any, &rule("networking.istio.io/v1")).unwrap().contains("subset"));
    assert!(accepts(&any, &rule("example.com/v1")));
    assert!(accepts(&any, &with("apps/v1", "Deployment", json!({"replicas": 1}))));
    assert!(accepts(&any, &with("serving.knative.dev/v1", "Service", json!({"template": {}}))));
    assert!(!accepts(&any, &json!({"items": [rule("networking.istio.io/v1")]})));
    assert!(!accepts(&any, &json!("text")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_example_of_the_schema_has_no_unknown_field_and_no_wrong_type(kind in kind(), seed: u64) {
        let schema = Schema::of(kind);
        let document = Example::new(seed).object(&schema);
        prop_assert_eq!(why_not(&schema.to_json_schema(), &document), None);
        let loaded = read(&document.to_string());
        let wrong = loaded.diagnostics.iter().find(|finding| is_about_types(finding));
        prop_assert_eq!(wrong, None, "{}", document);
        prop_assert!(loaded.resources.len() + loaded.broken.len() >= 1, "{:?}", loaded.diagnostics);
    }

    /// A reader that meets a field it does not know names those that it knows.
    #[test]
    fn the_fields_that_a_reader_knows_are_those_of_the_schema(kind in kind(), seed: u64) {
        let schema = Schema::of(kind);
        let mut document = Example::new(seed).object(&schema);
        let mut known = example::add_unknown_field(&mut document, &schema, seed);
        let place = format!("{kind} {} in {document}", known.pointer);
        let findings = read(&document.to_string()).diagnostics;
        let said = findings.iter().find(|finding| finding.message.contains(example::UNKNOWN));
        prop_assert!(findings.iter().any(is_left_out) || said.is_none() == known.open, "{}\n{:?}", place, findings);
        if let Some(help) = said.and_then(|said| said.help.as_deref()?.strip_prefix("the fields here are ")) {
            let mut read: Vec<_> = help.split(", ").filter(|name| *name != "malformed").collect();
            known.fields.sort_unstable();
            read.sort_unstable();
            prop_assert_eq!(read, known.fields, "{}", place);
        }
    }

    #[test]
    fn what_the_schema_refuses_the_reader_refuses_too(kind in kind(), seed: u64, other in 0..6_usize) {
        let schema = Schema::of(kind);
        let mut document = Example::new(seed).object(&schema);
        let others = [json!(true), json!(-7), json!("x"), json!([]), json!({"x": 1}), json!(null)];
        example::replace_a_value(&mut document, others[other].clone(), seed);
        if let Some(why) = why_not(&schema.to_json_schema(), &document) {
            let loaded = read(&document.to_string());
            let refused = loaded.diagnostics.iter().any(|finding| finding.is_error() || is_left_out(finding));
            prop_assert!(refused, "{}: {}", why, document);
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

/// What fields need of each other is not in the schema, nor what a text must be.
fn is_about_types(finding: &Diagnostic) -> bool {
    let says = |part| finding.message.contains(part);
    let wrong_type = finding.message.starts_with("expected ") && says(", found ") && !says(", found `a`");
    wrong_type || ["unknown field", "unknown value", "is out of range", "negative"].into_iter().any(says)
}

/// Nobody checks what is left out.
fn is_left_out(finding: &Diagnostic) -> bool {
    finding.message.contains("is left out")
}

fn read(text: &str) -> Loaded {
    load("mesh.yaml", text, &Options::default())
}
