//! Which services and endpoints the objects of a configuration make, in whatever order they come.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, Method};
use mesh_core::{
    balance::Security,
    config::{Changes, Options, Resource, load},
    dice::{Dice as _, Seeded},
    health::States,
    identity::PeerRule,
    registry::{Answers, Instance, Locality, Registry, Service},
    route::{Decision, Head},
    snapshot::{Compiler, MeshSettings, Snapshot, Viewer},
};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

// ---- who belongs to a service

#[test]
fn an_entry_selects_the_workloads_of_its_namespace_that_carry_all_its_labels() {
    let entry = entry("vm", "a.com", "resolution: STATIC, workloadSelector: {labels: {app: a, tier: web}}");
    let mesh = mesh(&[
        &entry,
        &workload("one", "10.0.0.1", "app: a, tier: web, version: v1"),
        &workload("two", "10.0.0.2", "app: a"),
        &in_namespace("other", &workload("three", "10.0.0.3", "app: a, tier: web")),
        &pod("four", "10.0.0.4", "app: a, tier: web", ""),
    ]);
    assert_eq!(addresses(&mesh, "a.com"), ["10.0.0.4:8080", "10.0.0.1:80"]);
    assert_eq!(instance(&mesh, "a.com", "10.0.0.1").labels["version"], "v1");
}

#[test]
fn an_entry_without_labels_in_its_selector_selects_everybody() {
    let entry = entry("vm", "a.com", "resolution: STATIC, workloadSelector: {}");
    let mesh = mesh(&[&entry, &workload("one", "10.0.0.1", ""), &workload("two", "10.0.0.2", "app: a")]);
    assert_eq!(addresses(&mesh, "a.com"), ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[test]
fn the_labels_of_the_object_are_labels_of_the_workload_and_win() {
    let workload = workload("one", "10.0.0.1", "app: a, version: v1")
        .replace("name: one", "name: one, labels: {version: v2, zone: z}");
    let mesh = mesh(&[&selecting_service("app: a, version: v2", "{port: 80}"), &workload]);
    assert_eq!(labels(&instance(&mesh, SERVICE, "10.0.0.1")), "app=a,version=v2,zone=z");
}

#[test]
fn a_service_selects_the_ready_pods_of_its_namespace() {
    let not_ready = "conditions: [{type: Ready, status: 'False'}]";
    let objects = [
        &selecting_service("app: a", "{port: 80}"),
        &pod("ready", "10.0.0.1", "app: a", "phase: Running, conditions: [{type: Ready, status: 'True'}]"),
        &pod("bare", "10.0.0.2", "app: a", ""),
        &pod("not-ready", "10.0.0.3", "app: a", not_ready),
        &pod("done", "10.0.0.4", "app: a", "phase: Succeeded"),
        &pod("ending", "10.0.0.5", "app: a", "").replace("metadata: {", "metadata: {deletionTimestamp: x, "),
        &pod("other", "10.0.0.6", "app: b", ""),
        &in_namespace("other", &pod("elsewhere", "10.0.0.7", "app: a", "")),
        &pod("placeless", "", "app: a", ""),
    ];
    let objects = objects.map(String::as_str);
    assert_eq!(addresses(&mesh(&objects), SERVICE), ["10.0.0.2:80", "10.0.0.1:80"]);
    let all = objects[0].replace("selector:", "publishNotReadyAddresses: true, selector:");
    let all = mesh(&[&[&all[..]], &objects[1..]].concat());
    assert_eq!(addresses(&all, SERVICE).len(), 5);
}

#[test]
fn a_pod_says_who_it_is() {
    let ports = "{port: 80}";
    let labels = "app: a, topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: b";
    let plain = pod("one", "10.0.0.1", labels, "");
    let named = plain.replace("containers:", "serviceAccountName: robot, containers:");
    let older = plain.replace("containers:", "serviceAccount: older, containers:");
    let dual = plain.replace("podIP: 10.0.0.1, ", "");
    for (pod, account) in [(&plain, "default"), (&named, "robot"), (&older, "older"), (&dual, "default")] {
        let mesh = mesh(&[&selecting_service("app: a", ports), pod]);
        let instance = instance(&mesh, SERVICE, "10.0.0.1");
        assert_eq!(instance.service_account.as_deref(), Some(account));
        assert_eq!((&*instance.locality.region, &*instance.locality.zone), ("eu", "b"));
        assert_eq!((&*instance.namespace, instance.weight), ("shop", 1));
    }
}

#[test]
fn a_service_without_a_selector_selects_nobody() {
    let mesh = mesh(&[&service("{port: 80}"), &pod("one", "10.0.0.1", "app: a", "")]);
    assert_eq!(addresses(&mesh, SERVICE), [""; 0]);
}

#[test]
fn listed_endpoints_stand_for_the_pods_and_the_pods_tell_who_they_are() {
    let subsets = "subsets: [{addresses: [{ip: 10.0.0.1}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 8080}]}]";
    let endpoints = format!("{{apiVersion: v1, kind: Endpoints, metadata: {{name: reviews}}, {subsets}}}");
    let slice = slice(
        "s",
        "endpoints: [{addresses: [10.0.0.1], zone: b}, {addresses: [10.0.0.3], conditions: {ready: false}}], ports: [{port: 9090}]",
    );
    let one = pod("one", "10.0.0.1", "app: a, topology.kubernetes.io/region: eu", "");
    let two = pod("two", "10.0.0.2", "app: a", "");
    let vm = workload("vm", "10.0.0.9", "app: a");
    let service = selecting_service("app: a", "{port: 80}");
    let with_endpoints = mesh(&[&service, &endpoints, &one, &two, &vm]);
    assert_eq!(addresses(&with_endpoints, SERVICE), ["10.0.0.1:8080", "10.0.0.9:80"]);
    let with_slices = mesh(&[&service, &endpoints, &slice, &one, &two]);
    assert_eq!(addresses(&with_slices, SERVICE), ["10.0.0.1:9090"], "slices are the better list");
    let instance = instance(&with_slices, SERVICE, "10.0.0.1");
    assert_eq!((&*instance.locality.region, &*instance.locality.zone), ("eu", "b"));
    assert_eq!(labels(&instance), "app=a,topology.kubernetes.io/region=eu");
    let all = mesh(&[&service.replace("selector:", "publishNotReadyAddresses: true, selector:"), &slice]);
    assert_eq!(addresses(&all, SERVICE), ["10.0.0.1:9090", "10.0.0.3:9090"]);
}

#[test]
fn a_pod_that_a_list_names_tells_who_it_is_though_nobody_selects_it() {
    let list = slice("s", "endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]");
    let endpoints = "{apiVersion: v1, kind: Endpoints, metadata: {name: reviews}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]}".to_owned();
    let one = pod("one", "10.0.0.1", "security.istio.io/tlsMode: istio", "");
    let done = pod("ended", "10.0.0.1", "app: b", "phase: Succeeded");
    let foreign = in_namespace("away", &one);
    for list in [list, endpoints] {
        for service in [service("{port: 80}"), selecting_service("app: a", "{port: 80}")] {
            let before = loaded(&[&service, &list, &done, &foreign]);
            let mut registry = Registry::build(&before, DOMAIN);
            let meshed = |registry: &Registry| {
                instance(registry, SERVICE, "10.0.0.1").labels.contains_key("security.istio.io/tlsMode")
            };
            assert!(!meshed(&registry));
            let come = Changes { old: Vec::new(), new: loaded(&[&one]) };
            assert_eq!(registry.apply(&come, DOMAIN), [SERVICE.into()].into());
            assert!(meshed(&registry), "the Pod may come after the list");
            assert_eq!(instance(&registry, SERVICE, "10.0.0.1").service_account.as_deref(), Some("default"));
            registry.apply(&Changes { old: come.new, new: Vec::new() }, DOMAIN);
            assert!(!meshed(&registry), "and go before it");
        }
    }
}

#[test]
fn slices_of_one_service_are_one_list_in_which_an_endpoint_may_move() {
    let of = |name: &str, ips: &str| {
        slice(name, &format!("endpoints: [{{addresses: [{ips}]}}], ports: [{{port: 80}}]"))
    };
    let mesh = mesh(&[
        &service("{port: 80}"),
        &of("s1", "10.0.0.1, 10.0.0.2"),
        &of("s2", "10.0.0.2, 10.0.0.3"),
        &of("s3", "10.0.0.4")
            .replace("kubernetes.io/service-name: reviews", "kubernetes.io/service-name: other"),
        &in_namespace("other", &of("s4", "10.0.0.5")),
        &of("s5", "a.com").replace("IPv4", "FQDN"),
    ]);
    assert_eq!(addresses(&mesh, SERVICE), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
}

#[test]
fn a_list_or_a_service_belongs_to_its_own_namespace_whatever_dots_its_name_holds() {
    let dotted = |object: &str| in_namespace("evil", &object.replace("reviews", SERVICE));
    let listed = slice("s", "endpoints: [{addresses: [10.6.6.6]}], ports: [{port: 80}]");
    let endpoints = "{apiVersion: v1, kind: Endpoints, metadata: {name: reviews}, subsets: [{addresses: [{ip: 10.6.6.6}], ports: [{port: 80}]}]}";
    for foreign in [&listed, endpoints, &selecting_service("app: a", "{port: 80}")] {
        let mesh = mesh(&[
            &selecting_service("app: a", "{port: 80}"),
            &pod("one", "10.0.0.1", "app: a", ""),
            &in_namespace("evil", &pod("two", "10.6.6.6", "app: a", "")),
            &dotted(foreign),
        ]);
        assert_eq!(addresses(&mesh, SERVICE), ["10.0.0.1:80"], "{foreign}");
    }
}

#[test]
fn an_older_slice_tells_its_locality_by_topology() {
    let topology = "topology: {topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: c}, addresses: [10.0.0.1]";
    for topology in [topology, &topology.replace("topology: {", "deprecatedTopology: {")] {
        let slice = slice("s", &format!("endpoints: [{{{topology}}}], ports: [{{port: 80}}]"));
        let mesh = mesh(&[&service("{port: 80}"), &slice]);
        let instance = instance(&mesh, SERVICE, "10.0.0.1");
        assert_eq!((&*instance.locality.region, &*instance.locality.zone), ("eu", "c"));
    }
}

#[test]
fn a_service_that_is_another_name_has_the_endpoints_behind_that_name() {
    let external = |target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: reviews}}, spec: {{type: ExternalName, externalName: {target}, ports: [{{port: 443, name: https, targetPort: 1}}]}}}}"
        )
    };
    let outside = mesh(&[&external("api.example.com")]);
    assert_eq!(addresses(&outside, SERVICE), ["api.example.com:443"]);
    let inside = [
        &external("ratings.shop.svc.cluster.local."),
        &service("{port: 80, targetPort: 8080}").replace("name: reviews", "name: ratings"),
        &slice("s", "endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 8080}]")
            .replace("name: reviews", "name: ratings"),
    ];
    let inside = mesh(&inside.map(String::as_str));
    assert_eq!(addresses(&inside, SERVICE), ["10.0.0.1:8080"]);
    assert_eq!(inside.names().count(), 0);
}

#[test]
fn a_name_for_a_service_of_the_mesh_leads_there_or_nowhere_however_many_names_lie_between() {
    let name = |name: &str, target: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: ExternalName, externalName: {target}, ports: [{{port: 80}}]}}}}"
        )
    };
    let known = [
        service("{port: 80}").replace("name: reviews", "name: c"),
        slice("s", "endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]")
            .replace("name: reviews", "name: c"),
    ];
    let beside = "resolution: STATIC, endpoints: [{address: 10.0.0.9}]";
    let (b, c) = ("b.shop.svc.cluster.local", "c.shop.svc.cluster.local");
    for (names, there, gone) in [
        (vec![name("reviews", c)], &["10.0.0.1:80"][..], &[][..]),
        (vec![name("reviews", "C.shop.svc.Cluster.local.")], &["10.0.0.1:80"], &[]),
        (vec![name("reviews", b), name("b", c)], &["10.0.0.1:80"], &[]),
        (
            vec![name("reviews", b), name("b", "d.shop.svc.cluster.local"), name("d", c)],
            &["10.0.0.1:80"],
            &[],
        ),
        (
            vec![name("reviews", b), name("b", "api.example.com")],
            &["api.example.com:80"],
            &["api.example.com:80"],
        ),
        (vec![name("reviews", SERVICE)], &[], &[]),
        (vec![name("reviews", b), name("b", SERVICE)], &[], &[]),
        (vec![name("reviews", "c.shop.svc")], &[], &[]),
        (vec![name("reviews", b)], &[], &[]),
        (vec![name("reviews", c), entry("beside", SERVICE, beside)], &["10.0.0.9:80"], &["10.0.0.9:80"]),
    ] {
        let of = |objects: &[String]| {
            let registry = Registry::build(&loaded(&objects.iter().collect::<Vec<_>>()), DOMAIN);
            assert!(registry.names().all(|name| &**name == "api.example.com"), "{objects:?}");
            addresses(&registry, SERVICE)
        };
        assert_eq!(of(&names), gone, "{names:#?}");
        assert_eq!(of(&[&names[..], &known].concat()), there, "{names:#?}");
    }
}

#[test]
fn an_unresolvable_workload_belongs_to_no_service_that_resolves_no_names() {
    let (vm, gateway) = (
        workload("vm", "vm.example.com", "app: a"),
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: far}, spec: {network: n, labels: {app: a}}}",
    );
    let entry = |resolution: &str| {
        entry("e", "a.com", &format!("resolution: {resolution}, workloadSelector: {{labels: {{app: a}}}}"))
    };
    let service = selecting_service("app: a", "{port: 80}");
    assert_eq!(addresses(&mesh(&[&service, &vm, gateway]), SERVICE), [""; 0]);
    assert_eq!(addresses(&mesh(&[&entry("STATIC"), &vm, gateway]), "a.com"), [""; 0]);
    assert_eq!(addresses(&mesh(&[&entry("DNS"), &vm, gateway]), "a.com"), ["vm.example.com:80"]);
}

#[test]
fn an_endpoint_says_where_it_is_by_field_or_label() {
    let labelled = workload("one", "10.0.0.1", "app: a, istio-locality: us.b.2");
    let written = labelled.replace("spec: {", "spec: {locality: eu/a/1, weight: 7, serviceAccount: robot, ");
    let service = selecting_service("app: a", "{port: 80}");
    let selected = instance(&mesh(&[&service, &written]), SERVICE, "10.0.0.1");
    assert_eq!((selected.locality, selected.weight), (Locality::parse("eu/a/1"), 7));
    assert_eq!(selected.service_account.as_deref(), Some("robot"));
    let selected = instance(&mesh(&[&service, &labelled]), SERVICE, "10.0.0.1");
    assert_eq!((selected.locality, selected.weight), (Locality::parse("us/b/2"), 1));
    let inline = "resolution: STATIC, endpoints: [{address: 10.0.0.1, locality: eu/a/1, weight: 0}]";
    let inline = instance(&mesh(&[&entry("e", "a.com", inline)]), "a.com", "10.0.0.1");
    assert_eq!((inline.locality, inline.weight), (Locality::parse("eu/a/1"), 1));
}

// ---- where an instance listens

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn where_an_instance_listens_is_this_table() {
    let pod = pod("one", "10.0.0.1", "app: a", "");
    let vm = |ports: &str| workload("one", "10.0.0.1", "app: a").replace("spec: {", &format!("spec: {{ports: {{{ports}}}, "));
    let of_service = |port: &str| selecting_service("app: a", port);
    let of_entry = |port: &str| entry("e", SERVICE, "resolution: STATIC, workloadSelector: {labels: {app: a}}").replace("{number: 80, name: http, protocol: HTTP}", port);
    let inline = |ports: &str, of: &str| entry("e", SERVICE, &format!("resolution: STATIC, endpoints: [{{address: 10.0.0.1, ports: {{{ports}}}}}]")).replace("{number: 80, name: http, protocol: HTTP}", of);
    let listed = |ports: &str| slice("s", &format!("endpoints: [{{addresses: [10.0.0.1]}}], ports: [{ports}]"));
    let http = "{number: 80, name: http, protocol: HTTP, targetPort: 81}";
    for (case, objects, address) in [
        ("a Pod, by number", vec![of_service("{port: 80, name: http, targetPort: 81}"), pod.clone()], "10.0.0.1:81"),
        ("a Pod, without a target", vec![of_service("{port: 80, name: http}"), pod.clone()], "10.0.0.1:80"),
        ("a Pod, by name", vec![of_service("{port: 80, targetPort: http}"), pod.clone()], "10.0.0.1:8080"),
        ("a Pod that has no such port", vec![of_service("{port: 80, targetPort: grpc}"), pod.clone()], ""),
        ("a Pod, by the name the entry has for it", vec![of_entry(http), pod.clone()], "10.0.0.1:8080"),
        ("a Pod, by the entry's target", vec![of_entry(&http.replace("name: http", "name: web")), pod], "10.0.0.1:81"),
        ("an entry, by the name of the port", vec![of_service("{port: 80, name: http, targetPort: 81}"), vm("http: 82")], "10.0.0.1:82"),
        ("an entry, by number", vec![of_service("{port: 80, name: http, targetPort: 81}"), vm("")], "10.0.0.1:81"),
        ("an entry, by the name of the target", vec![of_service("{port: 80, name: http, targetPort: web}"), vm("web: 83, http: 1")], "10.0.0.1:83"),
        ("an entry without that name", vec![of_service("{port: 80, name: http, targetPort: web}"), vm("http: 1")], ""),
        ("an entry, for an entry", vec![of_entry(http), vm("http: 82")], "10.0.0.1:82"),
        ("an entry that calls it otherwise", vec![of_entry(http), vm("web: 82")], "10.0.0.1:81"),
        ("an endpoint, by name", vec![inline("http: 82", http)], "10.0.0.1:82"),
        ("an endpoint, by target", vec![inline("", http)], "10.0.0.1:81"),
        ("an endpoint, by its only port", vec![service("{port: 80, name: web}"), inline("http: 82", http)], "10.0.0.1:82"),
        ("an endpoint, by the name of the target", vec![service("{port: 80, targetPort: http}, {port: 81, name: b}"), inline("http: 82", http)], "10.0.0.1:82"),
        ("a list, by name", vec![service("{port: 80, name: http}"), listed("{port: 84, name: http}")], "10.0.0.1:84"),
        ("a list of another port", vec![service("{port: 80, name: http}"), listed("{port: 84, name: grpc}")], ""),
        ("a list of UDP", vec![service("{port: 80, name: http}"), listed("{port: 84, name: http, protocol: UDP}")], ""),
    ] {
        let objects: Vec<_> = objects.iter().map(String::as_str).collect();
        let found = addresses(&mesh(&objects), SERVICE);
        assert_eq!(found.first().map_or("", String::as_str), address, "{case}");
    }
}

#[test]
fn an_instance_may_serve_one_port_and_not_another() {
    let service = selecting_service(
        "app: a",
        "{port: 80, name: a, targetPort: http}, {port: 81, name: b, targetPort: grpc}",
    );
    let mesh = mesh(&[&service, &pod("one", "10.0.0.1", "app: a", "")]);
    let service = mesh.get(SERVICE).unwrap();
    let [instance] = &service.instances[..] else { panic!() };
    let at = |port: usize| service.address(instance, &service.ports[port]).map(|at| at.to_string());
    assert_eq!((at(0), at(1)), (Some("10.0.0.1:8080".to_owned()), None));
}

// ---- what joins

#[test]
fn objects_of_one_host_are_one_service_and_the_first_rules_whatever_came_first() {
    let host = "reviews.shop.svc.cluster.local";
    let with = |name: &str, address: &str, created: &str| {
        let spec =
            format!("resolution: STATIC, location: MESH_INTERNAL, endpoints: [{{address: {address}}}]");
        entry(name, host, &spec)
            .replace("number: 80", &format!("number: {}", name.len()))
            .replace("metadata: {", &format!("metadata: {{creationTimestamp: {created}, "))
    };
    let young = with("a", "10.0.0.1", "'2024-01-02T00:00:00Z'");
    let old = with("bb", "10.0.0.2", "'2024-01-01T00:00:00Z'");
    let ageless = with("ccc", "10.0.0.2", "null");
    let service = service("{port: 9080, name: http}").replace("clusterIP: None", "clusterIP: 10.9.9.9");
    for (objects, port, count) in [
        (vec![&young, &old], 2, 2),
        (vec![&ageless, &young], 1, 2),
        (vec![&ageless, &old], 2, 1),
        (vec![&ageless, &young, &service, &old], 9080, 2),
    ] {
        let forth = loaded(&objects);
        let mut back = forth.clone();
        back.reverse();
        let (forth, back) = (Registry::build(&forth, DOMAIN), Registry::build(&back, DOMAIN));
        assert_eq!(shown(&forth), shown(&back));
        let service = forth.get(host).unwrap();
        assert_eq!((service.ports[0].number, service.instances.len()), (port, count));
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn a_service_is_that_of_one_namespace_and_who_calls_decides_of_which() {
    let of = |namespace: &str, host: &str, address: &str, rest: &str| {
        let spec = format!("resolution: STATIC, location: MESH_INTERNAL, endpoints: [{{address: {address}}}]{rest}");
        in_namespace(namespace, &entry("e", host, &spec))
    };
    let (private, everybodys, teams) = (", exportTo: ['.']", "", ", exportTo: [a]");
    let service = in_namespace("bank", &service("{port: 80, name: http}"));
    let hidden = service.replace("name: reviews", "name: reviews, annotations: {networking.istio.io/exportTo: .}");
    let in_bank = "reviews.bank.svc.cluster.local";
    for (objects, namespace, host, dialled) in [
        // Whose name it is has it, whoever else says so.
        (vec![of("evil", in_bank, "10.6.6.6", private), of("bank", in_bank, "10.0.0.1", "")], "shop", in_bank, &["10.0.0.1:80"][..]),
        (vec![of("evil", in_bank, "10.6.6.6", everybodys), of("bank", in_bank, "10.0.0.1", "")], "shop", in_bank, &["10.0.0.1:80"]),
        (vec![of("evil", in_bank, "10.6.6.6", private), of("bank", in_bank, "10.0.0.1", "")], "evil", in_bank, &["10.0.0.1:80"]),
        (vec![of("evil", in_bank, "10.6.6.6", private), service], "shop", in_bank, &[]),
        (vec![of("evil", in_bank, "10.6.6.6", private)], "shop", in_bank, &[]),
        // Each team has its own.
        (vec![of("a", "x.com", "10.0.0.1", private), of("b", "x.com", "10.0.0.2", private)], "a", "x.com", &["10.0.0.1:80"]),
        (vec![of("a", "x.com", "10.0.0.1", private), of("b", "x.com", "10.0.0.2", private)], "b", "x.com", &["10.0.0.2:80"]),
        (vec![of("a", "x.com", "10.0.0.1", private), of("b", "x.com", "10.0.0.2", private)], "shop", "x.com", &[]),
        // Who describes the service decides who sees it, and an entry that says less is seen by fewer.
        (vec![of("bank", in_bank, "10.0.0.1", ""), hidden.clone()], "shop", in_bank, &[]),
        (vec![of("bank", in_bank, "10.0.0.1", ""), hidden], "bank", in_bank, &["10.0.0.1:80"]),
        (vec![of("bank", in_bank, "10.0.0.1", ""), of("bank", in_bank, "10.0.0.2", private).replace("name: e", "name: f")], "shop", in_bank, &["10.0.0.1:80"]),
        // One's own, then what is given to one, then everybody's.
        (vec![of("0", "x.com", "10.0.0.1", everybodys), of("a", "x.com", "10.0.0.2", private), of("1", "x.com", "10.0.0.3", teams)], "a", "x.com", &["10.0.0.2:80"]),
        (vec![of("0", "x.com", "10.0.0.1", everybodys), of("1", "x.com", "10.0.0.3", teams)], "a", "x.com", &["10.0.0.3:80"]),
        (vec![of("0", "x.com", "10.0.0.1", everybodys), of("1", "x.com", "10.0.0.3", teams)], "b", "x.com", &["10.0.0.1:80"]),
        (vec![of("0", "x.com", "10.0.0.1", everybodys), of("1", "x.com", "10.0.0.3", everybodys)], "1", "x.com", &["10.0.0.1:80"]),
    ] {
        let resources = loaded(&objects.iter().collect::<Vec<_>>());
        let mut compiler = Compiler::new(viewer(namespace));
        let snapshot = compiler.compile("1", &resources, &settings(), &States::default()).0;
        let cluster = snapshot.clusters().find(|cluster| &*cluster.host == host);
        let endpoints = cluster.iter().flat_map(|cluster| cluster.endpoints.as_slice());
        let addresses: Vec<_> = endpoints.map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(addresses, dialled, "{namespace}: {objects:#?}");
    }
}

#[test]
fn of_two_that_tell_of_one_address_the_one_that_proves_who_it_is_is_believed() {
    let lease = entry(
        "lease",
        SERVICE,
        &format!("resolution: STATIC, location: MESH_INTERNAL, endpoints: [{LEASED}]"),
    );
    let ports = "{port: 80, name: http, targetPort: 80}, {port: 81, name: admin, targetPort: 81}";
    let selecting = selecting_service("app: a, version: v1", ports);
    let pod = pod("one", "10.0.0.1", "app: a, version: v1, topology.kubernetes.io/region: eu", "");
    let slice = slice("s", "endpoints: [{addresses: [10.0.0.1, 10.0.0.2]}], ports: [{port: 80, name: http}]");
    for objects in [
        vec![&selecting, &pod, &lease],
        vec![&selecting, &pod, &slice, &lease],
        vec![&service(ports), &slice, &lease],
    ] {
        let mesh = Registry::build(&loaded(&objects), DOMAIN);
        let one = instance(&mesh, SERVICE, "10.0.0.1");
        assert_eq!(addresses(&mesh, SERVICE).iter().filter(|at| *at == "10.0.0.1:80").count(), 1);
        assert_eq!(
            (&*one.labels["security.istio.io/tlsMode"], one.service_account.as_deref()),
            ("istio", Some("reviews"))
        );
        assert_eq!(one.weight, 7);
        if objects.contains(&&pod) {
            assert_eq!(
                (&*one.labels["version"], &*one.locality.region),
                ("v1", "eu"),
                "a Pod tells the rest"
            );
        }
        // At a port that only one of them knows, it is as that one says.
        let service = mesh.get(SERVICE).unwrap();
        let at = |instance| service.address(instance, &service.ports[1]).map(|at| at.to_string());
        let admin: Vec<_> = service.instances.iter().filter_map(at).collect();
        assert_eq!(admin, ["10.0.0.1:81"]);
    }
}

#[test]
fn what_answers_at_one_address_as_two_versions_is_an_endpoint_of_each() {
    let endpoint = |version: &str| format!("{{address: 10.0.0.1, labels: {{version: {version}}}}}");
    let endpoints = ["v1", "v2", "v2"].map(endpoint).join(", ");
    let entry = entry(
        "both",
        SERVICE,
        &format!("resolution: STATIC, location: MESH_INTERNAL, endpoints: [{endpoints}]"),
    );
    let mesh = Registry::build(&loaded(&[&entry]), DOMAIN);
    let versions: Vec<_> = mesh.get(SERVICE).unwrap().instances.iter().map(labels).collect();
    assert_eq!(versions, ["version=v1", "version=v2"]);
}

const LEASED: &str =
    "{address: 10.0.0.1, serviceAccount: reviews, weight: 7, labels: {security.istio.io/tlsMode: istio}}";

#[test]
fn endpoints_that_say_nothing_of_who_sees_them_go_with_their_service() {
    let public = service("{port: 80, name: http}")
        .replace("name: reviews", "name: reviews, annotations: {networking.istio.io/exportTo: '*'}");
    let lease = "resolution: STATIC, location: MESH_INTERNAL, endpoints: [{address: 10.0.0.1}]";
    let objects = loaded(&[&public, &entry("lease", SERVICE, lease)]);
    let mut settings = settings();
    settings.service_export_to = vec![".".to_owned()];
    let snapshot = Compiler::new(viewer("away")).compile("1", &objects, &settings, &States::default()).0;
    assert_eq!(snapshot.clusters().next().unwrap().endpoints.as_slice().len(), 1);
}

#[test]
fn a_service_says_by_annotation_who_sees_it_and_who_may_run_it() {
    let annotations = "annotations: {networking.istio.io/exportTo: '., edge', alpha.istio.io/kubernetes-serviceaccounts: 'a,b', alpha.istio.io/canonical-serviceaccounts: 'spiffe://x/y'}";
    let service = service("{port: 80}").replace("name: reviews", &format!("name: reviews, {annotations}"));
    let mesh = mesh(&[&service]);
    let service = mesh.get(SERVICE).unwrap();
    assert_eq!(service.export_to, [".", "edge"]);
    assert_eq!(service.service_accounts, ["a", "b"]);
    assert_eq!(service.subject_alt_names, ["spiffe://x/y"]);
}

// ---- names

#[test]
fn a_name_is_an_endpoint_until_it_is_resolved_and_then_its_answers_are() {
    let entry = |resolution: &str| entry("e", "api.example.com", &format!("resolution: {resolution}"));
    for (resolution, resolved) in [
        ("DNS", &["10.0.0.1:80", "10.0.0.2:80"][..]),
        ("DNS_ROUND_ROBIN", &["10.0.0.2:80"]),
        ("NONE", &["api.example.com:80"]),
    ] {
        let mut mesh = mesh(&[&entry(resolution)]);
        assert_eq!(addresses(&mesh, "api.example.com"), ["api.example.com:80"], "{resolution}");
        let wanted = usize::from(resolution != "NONE");
        assert_eq!(mesh.names().count(), wanted, "{resolution}");
        let changed = mesh.resolve(answers(&["10.0.0.2", "10.0.0.1"]));
        assert_eq!(changed.len(), wanted, "{resolution}");
        assert_eq!(addresses(&mesh, "api.example.com"), resolved, "{resolution}");
        assert!(mesh.resolve(answers(&["10.0.0.2", "10.0.0.1"])).is_empty());
    }
}

#[test]
fn a_resolver_that_shuffles_changes_nothing_but_who_is_first() {
    let entry = |resolution: &str| entry("e", "api.example.com", &format!("resolution: {resolution}"));
    for (resolution, changes) in [("DNS", 0), ("DNS_ROUND_ROBIN", 1)] {
        let mut mesh = mesh(&[&entry(resolution)]);
        mesh.resolve(answers(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(mesh.resolve(answers(&["10.0.0.2", "10.0.0.1"])).len(), changes, "{resolution}");
    }
}

#[test]
fn answers_stand_for_endpoints_with_their_labels_and_once_each() {
    let spec = "resolution: DNS, endpoints: [{address: api.example.com, weight: 3, labels: {a: b}}, {address: 10.0.0.1}, {address: api.example.com}]";
    let mut mesh = mesh(&[&entry("e", "a.com", spec)]);
    assert_eq!(mesh.names().map(|name| &**name).collect::<Vec<_>>(), ["api.example.com"]);
    mesh.resolve(answers(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(addresses(&mesh, "a.com"), ["10.0.0.1:80", "10.0.0.2:80"]);
    let first = instance(&mesh, "a.com", "10.0.0.1");
    assert_eq!((first.weight, labels(&first).as_str()), (3, "a=b"));
}

#[test]
fn a_wildcard_is_no_name_to_resolve() {
    let mesh = mesh(&[&entry("e", "'*.example.com'", "resolution: NONE")]);
    assert_eq!((mesh.names().count(), addresses(&mesh, "*.example.com").len()), (0, 0));
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn a_wildcard_that_resolves_nothing_lets_calls_pass_to_the_host_they_name() {
    let wildcard = entry("e", "'*.x.com'", "resolution: NONE");
    let tls = wildcard.replace("ports: [{number: 80, name: http, protocol: HTTP}]", "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]");
    let rule = |mode: &str| format!("{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: r}}, spec: {{host: '*.x.com', trafficPolicy: {{tls: {{mode: {mode}}}}}}}}}");
    let routed = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v}, spec: {hosts: ['*.x.com'], http: [{route: [{destination: {host: '*.x.com'}}]}]}}".to_owned();
    let inside = wildcard.replace("NONE", "NONE, location: MESH_INTERNAL");
    let meshed = entry("e", "'*.shop.svc.cluster.local'", "resolution: NONE");
    let everything = entry("e", "'*.local'", "resolution: NONE");
    for (objects, url, passes) in [
        (vec![&wildcard], "http://a.x.com", true),
        (vec![&wildcard], "http://a.b.x.com:80", true),
        (vec![&wildcard], "http://a.x.com:81", false),
        (vec![&wildcard], "http://x.com", false),
        (vec![&wildcard, &rule("DISABLE")], "http://a.x.com", true),
        // What a rule, a port or a name demands is not done by whoever passes it on.
        (vec![&wildcard, &rule("ISTIO_MUTUAL")], "http://a.x.com", false),
        (vec![&wildcard, &rule("SIMPLE")], "http://a.x.com", false),
        (vec![&tls], "https://a.x.com", true),
        (vec![&tls], "http://a.x.com:443", false),
        (vec![&tls, &rule("SIMPLE")], "https://a.x.com", false),
        (vec![&wildcard, &routed], "http://a.x.com", false),
        (vec![&inside], "http://a.x.com", false),
        (vec![&meshed], "http://a.shop.svc.cluster.local", false),
        (vec![&everything], "http://a.shop.svc.cluster.local", false),
        (vec![&everything], "http://printer.local", true),
    ] {
        let mut settings = settings();
        settings.allow_any = false;
        let snapshot = compiler().compile("1", &loaded(&objects), &settings, &States::default()).0;
        let (scheme, authority) = url.split_once("://").unwrap();
        let decision = snapshot.route(&Head { scheme, ..head(authority) }, &mut Seeded::new(0));
        assert_eq!(matches!(decision, Decision::Passthrough), passes, "{url}: {objects:#?}");
    }
}

// ---- changes

/// What a change makes is what building it all makes; the seed is in the message.
#[test]
fn any_sequence_of_changes_makes_the_registry_that_is_built_of_the_result() {
    for seed in 0..60 {
        let mut dice = Seeded::new(seed);
        let mut objects: BTreeMap<_, Arc<Resource>> = BTreeMap::new();
        let mut registry = Registry::default();
        for step in 0..80 {
            let before = shown_by_host(&registry);
            let changed = if dice.below(8) == 0 {
                registry.resolve(some_answers(&mut dice))
            } else {
                let changes = some_changes(&mut dice, &mut objects);
                registry.apply(&changes, DOMAIN)
            };
            let after = shown_by_host(&registry);
            let mut whole = Registry::build(&objects.values().cloned().collect::<Vec<_>>(), DOMAIN);
            whole.resolve(registry.answers().clone());
            assert_eq!(shown(&registry), shown(&whole), "seed {seed}, step {step}");
            let names = |registry: &Registry| registry.names().cloned().collect::<Vec<_>>();
            assert_eq!(names(&registry), names(&whole), "seed {seed}, step {step}");
            let hosts = before.keys().chain(after.keys());
            let differ: std::collections::BTreeSet<_> =
                hosts.filter(|host| before.get(*host) != after.get(*host)).cloned().collect();
            assert_eq!(changed, differ, "seed {seed}, step {step}");
        }
        registry.apply(&Changes { old: objects.into_values().collect(), new: Vec::new() }, DOMAIN);
        assert_eq!((shown(&registry), registry.names().count()), (String::new(), 0), "seed {seed}");
    }
}

#[test]
fn a_change_leaves_every_other_service_the_same_allocation() {
    let one = |address: &str| loaded(&[&workload("one", address, "app: a")]).remove(0);
    let (before, after) = (one("10.0.0.1"), one("10.0.0.2"));
    let mut objects = loaded(&[
        &selecting_service("app: a", "{port: 80}"),
        &selecting_service("app: b", "{port: 80}").replace("name: reviews", "name: ratings"),
    ]);
    objects.push(Arc::clone(&before));
    let mut registry = Registry::build(&objects, DOMAIN);
    let ratings = Arc::clone(registry.get("ratings.shop.svc.cluster.local").unwrap());
    let changed = registry.apply(&Changes { old: vec![before], new: vec![after] }, DOMAIN);
    assert_eq!(changed, [SERVICE.into()].into());
    assert_eq!(addresses(&registry, SERVICE), ["10.0.0.2:80"]);
    assert!(Arc::ptr_eq(registry.get("ratings.shop.svc.cluster.local").unwrap(), &ratings));
}

/// One object of few that are likely to have to do with each other comes, goes or changes; sometimes several do.
fn some_changes(dice: &mut Seeded, objects: &mut BTreeMap<String, Arc<Resource>>) -> Changes {
    let mut changes = Changes::default();
    for _ in 0..=dice.below(3) {
        let resource = loaded(&[&some_object(dice)]).remove(0);
        let name = resource.key.to_string();
        if changes.iter().any(|changed| changed.key == resource.key) {
            continue;
        }
        let known = if dice.below(3) == 0 {
            objects.remove(&name)
        } else {
            changes.new.push(Arc::clone(&resource));
            objects.insert(name, resource)
        };
        changes.old.extend(known);
    }
    changes
}

fn some_object(dice: &mut Seeded) -> String {
    let name = one_of(dice, &["a", "b", "c"]);
    let labels = one_of(dice, &["", "app: a", "app: a, v: '1'", "app: b, v: '1'", "app: b, v: '2'"]);
    let host = one_of(dice, &["a.shop.svc.cluster.local", "b.shop.svc.cluster.local", "x.com", "'*.x.com'"]);
    let ip = one_of(dice, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let object = match dice.below(9) {
        0 | 1 => selecting_service(
            labels,
            one_of(dice, &["{port: 80, name: http}", "{port: 81, name: b, targetPort: http}"]),
        ),
        2 => {
            let target = one_of(
                dice,
                &[
                    "a.shop.svc.cluster.local",
                    "B.shop.svc.cluster.local.",
                    "c.away.svc.cluster.local",
                    "x.com",
                ],
            );
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: reviews}}, spec: {{type: ExternalName, externalName: {target}, ports: [{{port: 80}}]}}}}"
            )
        }
        3 => slice(
            "reviews",
            &format!("endpoints: [{{addresses: [{ip}]}}], ports: [{{port: 80, name: http}}]"),
        ),
        4 => format!(
            "{{apiVersion: v1, kind: Endpoints, metadata: {{name: reviews}}, subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 81, name: b}}]}}]}}"
        ),
        5 => pod("reviews", ip, labels, one_of(dice, &["", "phase: Pending"])),
        6 => workload("reviews", one_of(dice, &[ip, "x.com"]), labels),
        7 => entry(
            "reviews",
            host,
            &format!(
                "resolution: {}, workloadSelector: {{labels: {{{labels}}}}}",
                one_of(dice, &["STATIC", "STATIC", "NONE"])
            ),
        ),
        _ => entry(
            "reviews",
            host,
            &format!("resolution: DNS, endpoints: [{{address: {}}}]", one_of(dice, &[ip, "x.com", "y.com"])),
        ),
    };
    let created = one_of(dice, &["", "", "creationTimestamp: '2024-01-01T00:00:00Z', "]);
    let object = object.replace("name: reviews", &format!("{created}name: {name}"));
    let object = object.replace(
        "kubernetes.io/service-name: reviews",
        &format!("kubernetes.io/service-name: {}", one_of(dice, &["a", "b"])),
    );
    in_namespace(one_of(dice, &["shop", "shop", "shop", "away"]), &object)
}

fn some_answers(dice: &mut Seeded) -> Answers {
    let mut answers = Answers::default();
    for name in ["x.com", "y.com"] {
        let addresses = ["10.0.0.1", "10.0.0.8", "10.0.0.9"].map(|ip| ip.parse().unwrap());
        let (from, count) = (dice.below(3) as usize, dice.below(3) as usize);
        answers.insert(&name.into(), &addresses[from..(from + count).min(3)]);
    }
    answers
}

fn one_of<'a>(dice: &mut Seeded, words: &[&'a str]) -> &'a str {
    words[dice.below(words.len() as u64) as usize]
}

// ---- in a snapshot

#[test]
fn a_service_is_called_by_its_addresses_too() {
    let objects = loaded(&[
        &entry("e", "a.com", "resolution: STATIC, addresses: [10.1.1.1, 10.1.1.2/32, 'fd00::1']"),
        &service("{port: 9080}")
            .replace("clusterIP: None", "clusterIP: 10.2.2.2, clusterIPs: [10.2.2.2, 'fd00::2']"),
    ]);
    let snapshot = compiler().compile("1", &objects, &settings(), &States::default()).0;
    for (authority, host) in [
        ("10.1.1.1", Some("a.com:80")),
        ("10.1.1.2:80", Some("a.com:80")),
        ("[fd00::1]:80", Some("a.com:80")),
        ("10.2.2.2:9080", Some("reviews.shop.svc.cluster.local:9080")),
        ("[fd00::2]", Some("reviews.shop.svc.cluster.local:9080")),
        ("10.1.1.1:81", None),
        ("10.1.1.3", None),
    ] {
        let found = snapshot.virtual_host(&head(authority)).map(|(host, _)| host.name.to_string());
        assert_eq!(found.as_deref(), host, "{authority}");
    }
}

#[test]
fn who_may_answer_is_whom_the_service_and_the_instance_name_together() {
    let endpoint =
        "endpoints: [{address: 10.0.0.1, serviceAccount: own, labels: {security.istio.io/tlsMode: istio}}]";
    let of = |rest: &str| format!("resolution: STATIC, location: MESH_INTERNAL, {endpoint}{rest}");
    let bare = "resolution: STATIC, location: MESH_INTERNAL, endpoints: [{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}]";
    let annotated = service("{port: 80}").replace(
        "name: reviews",
        "name: reviews, annotations: {alpha.istio.io/kubernetes-serviceaccounts: allowed}",
    );
    let listed = ", subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/listed']";
    for (objects, peers) in [
        (vec![entry("e", SERVICE, &of(""))], &["own"][..]),
        (vec![entry("e", SERVICE, &of(listed))], &["listed", "own"]),
        (vec![annotated.clone(), entry("e", SERVICE, &of(""))], &["allowed", "own"]),
        (vec![annotated, entry("e", SERVICE, bare)], &["allowed"]),
        (vec![entry("e", SERVICE, bare)], &[]),
    ] {
        let objects = loaded(&objects.iter().collect::<Vec<_>>());
        let snapshot = compiler().compile("1", &objects, &settings(), &States::default()).0;
        let cluster = snapshot.clusters().next().unwrap();
        let Security::Mutual(mutual) = &cluster.endpoints.as_slice()[0].security else {
            panic!("not mutual")
        };
        let found: Vec<_> = match &mutual.peers {
            PeerRule::AnyOf(ids) => ids.iter().map(|id| id.as_str().rsplit('/').next().unwrap()).collect(),
            _ => Vec::new(),
        };
        assert_eq!(found, peers);
    }
}

#[test]
fn another_name_for_a_service_has_its_routes_its_policy_and_its_accounts() {
    let alias = "{apiVersion: v1, kind: Service, metadata: {name: old}, spec: {type: ExternalName, externalName: reviews.bank.svc.cluster.local, ports: [{port: 80}]}}".to_owned();
    let annotated = "name: reviews, annotations: {alpha.istio.io/kubernetes-serviceaccounts: allowed}";
    let bank = |object: &str| in_namespace("bank", object);
    let service = bank(&service("{port: 80, name: http}"))
        .replace("name: reviews", annotated)
        .replace("clusterIP: None", "clusterIP: 10.9.9.9");
    let endpoint =
        "endpoints: [{address: 10.0.0.1, labels: {version: v1, security.istio.io/tlsMode: istio}}]";
    let lease = format!("resolution: STATIC, location: MESH_INTERNAL, {endpoint}");
    let lease = bank(&entry("lease", "reviews.bank.svc.cluster.local", &lease));
    let rule = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: r}, spec: {host: reviews, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}, subsets: [{name: v1, labels: {version: v1}}]}}";
    let routes = |host: &str, name: &str, to: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}}}, spec: {{hosts: [{host}], http: [{{name: {name}, route: [{{destination: {{host: {to}}}}}]}}]}}}}"
        )
    };
    let (rule, real) = (bank(rule), bank(&routes("reviews", "real", "reviews")));
    let own = routes("old", "own", "old, subset: v1");
    let (mut compiler, states) = (compiler(), States::default());
    let mut objects = vec![&alias, &service, &lease];
    let mut called = |objects: &[&String], authority: &str| {
        let mut resources = loaded(objects);
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        let snapshot = compiler.compile("1", &resources, &settings(), &states).0;
        let Decision::Forward { route, target, .. } = snapshot.route(&head(authority), &mut Seeded::new(0))
        else {
            panic!("{authority}")
        };
        let cluster = target.cluster.map(|id| Arc::clone(snapshot.cluster(id)));
        (route.name.to_string(), cluster)
    };
    let (route, cluster) = called(&objects, "old");
    let cluster = cluster.unwrap();
    assert_eq!((&*route, &*cluster.name), ("default", "outbound|80||reviews.bank.svc.cluster.local"));
    let Security::Mutual(mutual) = &cluster.endpoints.as_slice()[0].security else { panic!("not mutual") };
    let PeerRule::AnyOf(ids) = &mutual.peers else { panic!("anybody") };
    assert_eq!(ids[0].as_str(), "spiffe://cluster.local/ns/bank/sa/allowed");
    objects.push(&own);
    assert!(called(&objects, "old").1.is_none(), "there is no such subset");
    objects.push(&rule);
    assert_eq!(&*called(&objects, "old").1.unwrap().name, "outbound|80|v1|reviews.bank.svc.cluster.local");
    objects.push(&real);
    assert_eq!(called(&objects, "old").0, "own", "a rule that names it is its own");
    assert_eq!(called(&objects, "10.9.9.9").0, "real", "the address is the service's");
    objects.retain(|object| **object != own);
    let (route, cluster) = called(&objects, "old");
    assert_eq!((&*route, cluster.unwrap().limits.requests_max), ("real", 7));
    objects.retain(|object| **object != real);
    assert_eq!(called(&objects, "old").0, "default");
}

#[test]
fn answers_come_into_force_alone_and_stay_so_when_everything_is_compiled_anew() {
    let objects = loaded(&[&entry("e", "api.example.com", "resolution: DNS"), &service("{port: 80}")]);
    let (mut compiler, states) = (compiler(), States::default());
    let dialled = |snapshot: &Snapshot| {
        let cluster = snapshot.clusters().find(|cluster| &*cluster.host == "api.example.com").unwrap();
        cluster.endpoints.as_slice().iter().map(|it| it.address.to_string()).collect::<Vec<_>>()
    };
    let other = |snapshot: &Snapshot| {
        Arc::clone(snapshot.clusters().find(|cluster| &*cluster.host == SERVICE).unwrap())
    };
    assert!(compiler.resolve(answers(&["10.0.0.9"]), &states).is_none(), "nothing was compiled yet");
    let first = compiler.compile("1", &objects, &settings(), &states).0;
    assert_eq!(dialled(&first), ["10.0.0.9:80"]);
    let second = compiler.resolve(answers(&["10.0.0.2", "10.0.0.1"]), &states).unwrap();
    assert_eq!(dialled(&second), ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(&**second.version(), "1");
    assert!(Arc::ptr_eq(&other(&first), &other(&second)));
    assert!(compiler.resolve(answers(&["10.0.0.1", "10.0.0.2"]), &states).is_none(), "they say the same");
    assert_eq!(compiler.names().map(|name| &**name).collect::<Vec<_>>(), ["api.example.com"]);
    let mut settings = settings();
    settings.allow_any = false;
    assert_eq!(dialled(&compiler.compile("2", &objects, &settings, &states).0).len(), 2);
    let mut compiler = compiler.for_viewer(&viewer("away"));
    assert_eq!(dialled(&compiler.compile("3", &objects, &settings, &states).0).len(), 2);
}

fn compiler() -> Compiler {
    Compiler::new(viewer("shop"))
}

fn viewer(namespace: &str) -> Viewer {
    Viewer { namespace: namespace.to_owned(), service: None, labels: BTreeMap::new() }
}

fn settings() -> MeshSettings {
    MeshSettings::new("cluster.local".parse().unwrap())
}

fn head(authority: &str) -> Head<'_> {
    static HEADERS: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    Head { method: &Method::GET, scheme: "http", authority, path_and_query: "/", headers: &HEADERS }
}

// ---- objects

const SERVICE: &str = "reviews.shop.svc.cluster.local";
const DOMAIN: &str = "cluster.local";

fn service(ports: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: reviews}}, spec: {{clusterIP: None, ports: [{ports}]}}}}"
    )
}

fn selecting_service(labels: &str, ports: &str) -> String {
    service(ports).replace("clusterIP: None", &format!("selector: {{{labels}}}"))
}

fn entry(name: &str, host: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}}}, spec: {{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], {spec}}}}}"
    )
}

fn workload(name: &str, address: &str, labels: &str) -> String {
    format!(
        "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}}}, spec: {{address: {address}, labels: {{{labels}}}}}}}"
    )
}

/// A Pod of two containers, with much that is of no concern here.
fn pod(name: &str, ip: &str, labels: &str, status: &str) -> String {
    let ip = if ip.is_empty() { String::new() } else { format!("podIP: {ip}, podIPs: [{{ip: {ip}}}], ") };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{nodeName: n, anything: [1], containers: [{{name: a, image: b, ports: [{{name: http, containerPort: 8080, hostPort: 1}}, {{name: dns, containerPort: 53, protocol: UDP}}]}}, {{name: c}}]}}, status: {{{ip}qosClass: Burstable, {status}}}}}"
    )
}

fn slice(name: &str, body: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: {{kubernetes.io/service-name: reviews}}}}, addressType: IPv4, {body}}}"
    )
}

fn in_namespace(namespace: &str, object: &str) -> String {
    object.replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "))
}

fn answers(addresses: &[&str]) -> Answers {
    let mut answers = Answers::default();
    let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    answers.insert(&"api.example.com".into(), &addresses);
    answers
}

fn mesh(objects: &[&str]) -> Registry {
    let owned: Vec<_> = objects.iter().map(ToString::to_string).collect();
    Registry::build(&loaded(&owned.iter().collect::<Vec<_>>()), DOMAIN)
}

fn loaded(objects: &[&String]) -> Vec<Arc<Resource>> {
    let mut options = Options::default();
    options.namespace = "shop".to_owned();
    let load = |object: &&String| {
        let mut loaded = load("mesh.yaml", object, &options);
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        assert!(errors.is_empty(), "{object}: {errors:#?}");
        Arc::new(loaded.resources.remove(0))
    };
    objects.iter().map(load).collect()
}

/// Where the first port of a service is served.
fn addresses(mesh: &Registry, host: &str) -> Vec<String> {
    let service = mesh.get(host).unwrap();
    let address = |instance| service.address(instance, &service.ports[0]);
    service.instances.iter().filter_map(address).map(|address| address.to_string()).collect()
}

fn instance(mesh: &Registry, host: &str, ip: &str) -> Instance {
    let service = mesh.get(host).unwrap();
    let is_there = |instance: &&Instance| {
        service.address(instance, &service.ports[0]).is_some_and(|at| at.to_string().starts_with(ip))
    };
    service.instances.iter().find(is_there).unwrap().clone()
}

fn labels(instance: &Instance) -> String {
    let labels: Vec<_> = instance.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.join(",")
}

fn shown(registry: &Registry) -> String {
    let mut text = String::new();
    for host in registry.hosts() {
        writeln!(text, "{host} {:?}", registry.get(host)).unwrap();
    }
    text
}

fn shown_by_host(registry: &Registry) -> BTreeMap<Arc<str>, Service> {
    let service = |host: &Arc<str>| Some((Arc::clone(host), Service::clone(registry.get(host)?)));
    registry.hosts().filter_map(service).collect()
}
