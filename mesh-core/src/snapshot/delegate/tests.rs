use super::*;
use crate::config::{Level, Options, Resource, Spec, load};
use std::{sync::Arc, time::Duration};

#[test]
fn the_routes_of_a_delegate_stand_in_the_place_of_the_route_that_delegates() {
    let objects = objects(&[
        root(
            "- name: own\n    match: [{uri: {exact: /a}}]\n    route: [{destination: {host: a}}]\n  - delegate: {name: child, namespace: team}\n  - redirect: {uri: /last}",
        ),
        child(
            "team",
            "- name: one\n    match: [{uri: {prefix: /b}}]\n    route: [{destination: {host: b}}]\n  - directResponse: {status: 204}",
        ),
    ]);
    let (merged, findings) = merged(&objects);
    assert_eq!(findings, []);
    let names: Vec<_> = merged.http.iter().map(|route| route.name.as_deref()).collect();
    assert_eq!(names, [Some("own"), Some("one"), None, None]);
    assert_eq!(merged.http[1].route[0].destination.host.value, "b.team.svc.cluster.local");
    let delegated = merged.http[2].delegated.as_ref().unwrap();
    assert_eq!(
        (delegated.origin.resource.to_string().as_str(), delegated.index),
        ("VirtualService team/child", 1)
    );
    assert_eq!(merged.http[0].delegated, None);
}

#[test]
fn what_a_delegate_does_not_say_its_root_says() {
    let settings = |who: &str, seconds: u32| {
        format!(
            "name: {who}\n    timeout: {seconds}s\n    retries: {{attempts: {seconds}}}\n    rewrite: {{uri: /{who}}}\n    \
             fault: {{abort: {{httpStatus: 50{seconds}, percentage: {{value: 100}}}}}}\n    mirror: {{host: {who}}}\n    \
             mirrorPercentage: {{value: {seconds}}}\n    headers: {{request: {{set: {{x: {who}}}}}}}"
        )
    };
    let route = "route: [{destination: {host: a}}]";
    let root = root(&format!("- {}\n    delegate: {{name: child}}", settings("root", 1)));
    let says = |route: &HttpRoute| {
        (
            route.timeout.as_ref().unwrap().value,
            route.retries.as_ref().unwrap().attempts,
            route.rewrite.as_ref().unwrap().uri.clone().unwrap(),
            route.mirror.as_ref().unwrap().host.value.clone(),
            route.headers.request.set[0].1.clone(),
        )
    };
    for (child_says, expected, name) in [
        (
            route.to_owned(),
            (Duration::from_secs(1), Some(1), "/root".into(), "root".into(), "root".into()),
            "root",
        ),
        (
            format!("{}\n    {route}", settings("own", 2)),
            (
                Duration::from_secs(2),
                Some(2),
                "/own".into(),
                "own.default.svc.cluster.local".to_owned(),
                "own".to_owned(),
            ),
            "root-own",
        ),
    ] {
        let objects = objects(&[root.clone(), child("default", &format!("- {child_says}"))]);
        let (merged, findings) = merged(&objects);
        assert_eq!((findings, merged.http.len()), (vec![], 1));
        assert_eq!((says(&merged.http[0]), merged.http[0].name.as_deref()), (expected, Some(name)));
        assert!(merged.http[0].fault.is_some());
    }
}

/// One row per pair of matches: that of the root, that of the delegate, and the merged one; none is a conflict.
#[test]
fn a_route_of_a_delegate_must_match_within_the_route_that_delegates() {
    for (outer, inner, expected) in [
        ("", "{uri: {prefix: /a}}", Some("{uri: {prefix: /a}}")),
        ("{uri: {prefix: /a}}", "", Some("{uri: {prefix: /a}}")),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}", Some("{uri: {prefix: /a/b}}")),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", Some("{uri: {exact: /a/b}}")),
        ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}", None),
        ("{uri: {exact: /a}}", "{uri: {exact: /a}}", Some("{uri: {exact: /a}}")),
        ("{uri: {exact: /a}}", "{uri: {prefix: /a}}", None),
        ("{uri: {prefix: /a}}", "{uri: {regex: /a/.*b}}", None),
        ("{uri: {regex: /a/.*b}}", "{uri: {exact: /a/b}}", None),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a}, ignoreUriCase: true}", None),
        ("{uri: {prefix: /a}}", "{method: {exact: GET}}", Some("{uri: {prefix: /a}, method: {exact: GET}}")),
        (
            "{headers: {a: {exact: x}, b: {exact: y}}}",
            "{headers: {a: {exact: x}}}",
            Some("{headers: {b: {exact: y}, a: {exact: x}}}"),
        ),
        ("{headers: {a: {exact: x}}}", "{headers: {a: {exact: z}}}", None),
        ("{withoutHeaders: {a: {exact: x}}}", "{withoutHeaders: {a: {exact: z}}}", None),
        (
            "{queryParams: {a: {prefix: x}}}",
            "{queryParams: {a: {exact: xy}}}",
            Some("{queryParams: {a: {exact: xy}}}"),
        ),
        ("{port: 80}", "{port: 81}", None),
        ("{port: 80}", "{uri: {exact: /}}", Some("{port: 80, uri: {exact: /}}")),
        ("{sourceNamespace: a}", "{port: 80}", None),
        ("{sourceLabels: {a: x}}", "{sourceLabels: {b: y}}", Some("{sourceLabels: {a: x, b: y}}")),
        ("{sourceLabels: {a: x}}", "{sourceLabels: {a: y}}", None),
        ("{gateways: [mesh]}", "{gateways: [edge]}", None),
        ("{gateways: [mesh, edge]}", "{gateways: [edge]}", Some("{gateways: [edge]}")),
        ("{uri: {prefix: /a}}, {uri: {prefix: /b}}", "{uri: {prefix: /b/c}}", Some("{uri: {prefix: /b/c}}")),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a}}, {uri: {prefix: /b}}", None),
        (
            "{method: {exact: GET}}, {port: 80}",
            "{uri: {exact: /}}",
            Some("{method: {exact: GET}, uri: {exact: /}}, {port: 80, uri: {exact: /}}"),
        ),
    ] {
        let objects = objects(&[
            root(&format!("- match: [{outer}]\n    delegate: {{name: child}}")),
            child("default", &format!("- match: [{inner}]\n    route: [{{destination: {{host: a}}}}]")),
            root(&format!("- match: [{}]\n    redirect: {{uri: /}}", expected.unwrap_or_default()))
                .replace("name: root", "name: expected"),
        ]);
        let (merged, findings) = merged(&objects);
        assert_eq!(
            (merged.http.len(), findings.len()),
            expected.map_or((0, 1), |_| (1, 0)),
            "{outer} {inner}"
        );
        let placeless = |matches: &[HttpMatch]| {
            matches.iter().map(|it| HttpMatch { at: Default::default(), ..it.clone() }).collect::<Vec<_>>()
        };
        if let Some(route) = merged.http.first() {
            let expected = typed(&objects[2]).spec.http[0].matches.clone();
            assert_eq!(placeless(&route.matches), placeless(&expected), "{outer} {inner}");
        }
    }
}

#[test]
fn a_route_whose_delegate_cannot_be_used_is_left_out_and_the_finding_says_why() {
    let hidden = child("team", "- redirect: {uri: /}").replace("spec:", "spec:\n  exportTo: [other]");
    let private = child("team", "- redirect: {uri: /}").replace("spec:", "spec:\n  exportTo: ['.']");
    let with_hosts = child("team", "- redirect: {uri: /}").replace("spec:", "spec:\n  hosts: [b]");
    let shared = child("team", "- redirect: {uri: /}").replace("spec:", "spec:\n  exportTo: [default]");
    for (delegate, why) in [
        (None, Some("there is no VirtualService team/child")),
        (Some(hidden), Some("not exported to namespace default")),
        (Some(private), Some("not exported to namespace default")),
        (Some(with_hosts), Some("has hosts of its own")),
        (Some(shared), None),
    ] {
        let root = root("- delegate: {name: child, namespace: team}\n  - name: rest\n    redirect: {uri: /}");
        let objects = objects(&[Some(root), delegate].into_iter().flatten().collect::<Vec<_>>());
        let (merged, findings) = merged(&objects);
        assert_eq!(merged.http.len(), if why.is_some() { 1 } else { 2 });
        assert_eq!(findings.len(), usize::from(why.is_some()), "{findings:?}");
        for finding in findings {
            assert!(finding.message.contains(why.unwrap_or_default()), "{finding}");
            assert_eq!((finding.level, &*finding.path), (Level::Warning, "spec.http[0].delegate"));
            assert_eq!(finding.location.unwrap().line, 7);
        }
    }
}

fn root(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: root}}\nspec:\n  hosts: [a]\n  http:\n  {http}\n"
    )
}

fn child(namespace: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: child, namespace: {namespace}}}\nspec:\n  http:\n  {http}\n"
    )
}

fn objects(documents: &[String]) -> Vec<Arc<Resource>> {
    let mut objects = Vec::new();
    for document in documents {
        let loaded = load("mesh.yaml", document, &Options::default());
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        assert!(errors.is_empty(), "{document}\n{errors:#?}");
        objects.extend(loaded.resources.into_iter().map(Arc::new));
    }
    objects
}

fn merged(objects: &[Arc<Resource>]) -> (VirtualService, Vec<Diagnostic>) {
    let settings = MeshSettings::new("cluster.local".parse().unwrap());
    merge(typed(&objects[0]), &settings, |namespace, name| {
        let is_it = |it: &&Arc<Resource>| *it.key.namespace == *namespace && *it.key.name == *name;
        objects.iter().find(is_it).map(typed)
    })
}

fn typed(resource: &Arc<Resource>) -> Typed<'_, VirtualService> {
    match &resource.spec {
        Spec::VirtualService(spec) => Typed { resource, spec },
        other => panic!("{other:?}"),
    }
}
