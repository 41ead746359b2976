//! `meshctl analyze`, `explain` and `schema` as a user runs them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::{
    path::PathBuf,
    process::{Command, Output},
};

#[test]
fn analyze_says_which_subset_is_missing_where_and_what_there_is() {
    let config = Config::of(&CANARY.replace("subset: v2}, weight", "subset: v3}, weight"));
    let output = config.analyze(&["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let findings = json(&output);
    let finding = findings.as_array().unwrap().iter().find(|it| it["code"] == "IST0101").unwrap();
    assert_eq!(finding["level"], "error");
    assert_eq!(finding["resource"], "VirtualService default/payment");
    assert_eq!(finding["path"], "spec.http[0].route[1].destination.subset");
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(19), Some(45)));
    assert!(finding["help"].as_str().unwrap().contains("v1, v2"), "{finding}");
}

#[test]
fn analyze_fails_from_the_threshold_on() {
    let config = Config::of("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n");
    assert_eq!(config.analyze(&[]).status.code(), Some(0));
    assert_eq!(config.analyze(&["--failure-threshold", "warning"]).status.code(), Some(1));
}

#[test]
fn analyze_takes_an_unknown_field_as_a_warning_only_if_lenient() {
    let config = Config::of(&CANARY.replace("weight: 90", "wieght: 90"));
    let text = String::from_utf8(config.analyze(&[]).stdout).unwrap();
    assert!(text.contains("error[IST0106]: unknown field `wieght`, did you mean `weight`?"), "{text}");
    assert_eq!(config.analyze(&["--lenient"]).status.code(), Some(0));
}

#[test]
fn analyze_says_that_a_rule_for_another_name_of_a_host_does_nothing() {
    let alias = "\n---\n{apiVersion: v1, kind: Service, metadata: {name: pay, namespace: default}, spec: {type: ExternalName,
        externalName: payment.default.svc.cluster.local}}
        \n---\n{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: pay}, spec: {host: pay}}\n";
    let findings = json(&Config::of(&format!("{CANARY}{alias}")).analyze(&["-o", "json"]));
    let finding = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["resource"] == "DestinationRule default/pay")
        .unwrap();
    assert_eq!((&finding["code"], &finding["path"]), (&"MESH0003".into(), &"spec.host".into()));
    assert_eq!(finding["help"], "write `host: payment.default.svc.cluster.local`");
}

#[test]
fn a_file_that_is_no_yaml_is_a_finding_and_a_file_that_is_not_there_an_error() {
    assert_eq!(Config::of("a: [b\nc: }").analyze(&[]).status.code(), Some(1));
    let output = meshctl(&["analyze", "no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/file.yaml"));
}

#[test]
fn explain_tells_where_a_request_goes_and_why() {
    let story = json(&Config::of(CANARY).explain("http://payment/charge?x=1"));
    assert_eq!(story["virtualHost"], "payment.default.svc.cluster.local:80");
    assert_eq!(story["route"], "VirtualService default/payment#0");
    assert_eq!(story["action"], "forward");
    assert_eq!(story["cluster"], "outbound|80|v1|payment.default.svc.cluster.local");
    assert_eq!(
        story["destinations"][1],
        serde_json::json!({"host": "payment", "subset": "v2", "port": 80, "weight": 10})
    );
    assert_eq!(story["timeoutMs"], Value::Null);
    assert_eq!(story["retries"]["attempts"], 2);
    assert_eq!(story["mtls"], "ISTIO_MUTUAL");
    assert_eq!(story["tried"][0]["matched"], true);
    assert_eq!(story["sources"]["cluster"]["resource"], "DestinationRule default/payment");
}

#[test]
fn explain_of_an_unknown_host_passes_through() {
    let story = json(&Config::of(CANARY).explain("http://example.com/"));
    assert_eq!((&story["virtualHost"], &story["action"]), (&Value::Null, &"passthrough".into()));
}

#[test]
fn explain_tells_people_which_line_decided() {
    let config = Config::of(CANARY);
    let output = meshctl(&[
        "explain",
        "--config",
        config.path(),
        "--from",
        "default/checkout",
        "--url",
        "http://payment/",
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "virtual host  payment.default.svc.cluster.local:80",
        "payment is short for it, where the caller is",
        "destinations  payment subset v1 port 80  weight 90",
        "(DestinationRule default/payment,",
        "loadBalancer.simple                          LEAST_REQUEST  (default)",
        "allowed: no policy that allows only some selects this workload",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn explain_of_a_gateway_takes_a_request_from_outside() {
    let config = Config::of(&format!("{CANARY}{EDGE}"));
    let explain = |gateway: &str, url: &str| {
        meshctl(&["explain", "--config", config.path(), "--gateway", gateway, "--url", url, "-o", "json"])
    };
    let story = json(&explain("default/edge", "http://shop.example.com/pay/1"));
    assert_eq!(story["virtualHost"], "shop.example.com:80");
    assert_eq!(story["route"], "VirtualService default/edge#0");
    assert_eq!(story["cluster"], "outbound|80|v1|payment.default.svc.cluster.local");
    let story = json(&explain("default/edge", "http://elsewhere.example.com/"));
    assert_eq!((&story["action"], &story["flag"]), (&"none".into(), &"NR".into()));
    let output = explain("default/none", "http://shop.example.com/");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no Gateway default/none"));
}

#[test]
fn the_settings_of_the_mesh_come_from_a_file_of_their_own() {
    let config = Config::of(CANARY);
    let settings = Config::of("compat: istio-1.3\ntrustDomain: shop.example\n");
    let arguments = ["explain", "--config", config.path(), "--mesh-config", settings.path()];
    let rest = ["--from", "default/checkout", "--url", "http://payment/", "-o", "json"];
    let story = json(&meshctl(&[&arguments[..], &rest].concat()));
    assert_eq!(story["mtls"], "DISABLE", "Istio 1.3 knew no automatic mutual TLS");
    assert!(story["retries"]["retryOn"].as_array().unwrap().contains(&"503".into()), "{story}");
    let wrong = Config::of("enableAutoMtl: true\n");
    let output = config.analyze(&["--mesh-config", wrong.path()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("did you mean `enableAutoMtls`?") && text.contains("1 | enableAutoMtl: true"),
        "{text}"
    );
}

#[test]
fn what_extends_envoy_is_a_warning_unless_it_is_to_be_refused() {
    let filter =
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\nspec: {}\n";
    let config = Config::of(filter);
    let text = String::from_utf8(config.analyze(&[]).stdout).unwrap();
    assert!(text.starts_with("warning[MESH") && text.contains("NOT in force"), "{text}");
    assert_eq!(config.analyze(&[]).status.code(), Some(0));
    assert_eq!(config.analyze(&["--refuse-extensions"]).status.code(), Some(1));
}

#[test]
fn analyze_finds_what_objects_do_to_each_other_s_security() {
    let strict = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default}\nspec: {mtls: {mode: STRICT}}\n";
    let plain = CANARY
        .replace("{host: payment, subsets", "{host: payment, trafficPolicy: {tls: {mode: DISABLE}}, subsets");
    let findings = json(&Config::of(&format!("{plain}{strict}")).analyze(&["-o", "json"]));
    let conflict = findings.as_array().unwrap().iter().find(|it| it["code"] == "IST0113").unwrap();
    assert_eq!((&conflict["level"], &conflict["path"]), (&"error".into(), &"spec.trafficPolicy.tls".into()));
}

#[test]
fn schema_prints_the_json_schema_of_a_kind_whatever_its_case_and_of_any_document() {
    let schema = |arguments: &[&str]| json(&meshctl(&[&["schema"], arguments].concat()));
    for arguments in [&["virtualservice"][..], &["VirtualService", "-o", "json"]] {
        let schema = schema(arguments);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["properties"]["spec"]["properties"]["http"]["items"]["type"], "object");
    }
    assert_eq!(schema(&[])["allOf"][0]["if"]["properties"]["kind"]["const"], "VirtualService");
}

#[test]
fn schema_names_the_kind_that_was_probably_meant_and_lists_them_all() {
    let output = meshctl(&["schema", "VirtualServce"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `VirtualService`?"));
    let kinds = json(&meshctl(&["schema", "--list", "-o", "json"]));
    let service = kinds.as_array().unwrap().iter().find(|it| it["kind"] == "Service").unwrap();
    assert_eq!(service["apiVersions"], serde_json::json!(["v1"]));
    let text = String::from_utf8(meshctl(&["schema", "--list"]).stdout).unwrap();
    assert_eq!(text.lines().count(), kinds.as_array().unwrap().len());
}

const CANARY: &str = "\
apiVersion: v1
kind: Service
metadata: {name: payment}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment}
spec: {host: payment, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment}
spec:
  hosts: [payment]
  http:
  - route:
    - {destination: {host: payment, subset: v1}, weight: 90}
    - {destination: {host: payment, subset: v2}, weight: 10}
";

const EDGE: &str = "\
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: [shop.example.com]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /pay}}]
    route: [{destination: {host: payment, subset: v1}}]
";

/// A configuration file that goes away with the test.
struct Config {
    _directory: tempfile::TempDir,
    file: PathBuf,
}

impl Config {
    fn of(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mesh.yaml");
        std::fs::write(&file, text).unwrap();
        Self { _directory: directory, file }
    }

    fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    fn analyze(&self, arguments: &[&str]) -> Output {
        meshctl(&[&["analyze", self.path()], arguments].concat())
    }

    fn explain(&self, url: &str) -> Output {
        meshctl(&[
            "explain",
            "--config",
            self.path(),
            "--from",
            "default/checkout",
            "--url",
            url,
            "-o",
            "json",
        ])
    }
}

fn meshctl(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshctl")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
