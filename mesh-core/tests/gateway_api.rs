//! HTTPRoutes and GRPCRoutes attached to Services, as the mesh profile of the Gateway API's conformance suite asks for
//! them, and as Istio takes what that leaves open. The names of the suite's cases stand beside the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mesh_core::{
    config::{self, Code, Diagnostic, Level, Resource},
    dice::Seeded,
    explain::{Explanation, explain},
    health::States,
    retry::{Condition, RetryPolicy},
    route::{CitedValues, Decision, Forward, Head, PathRewrite, Redirect, Route, RouteAction, Target},
    snapshot::{MeshSettings, Snapshot, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

// ---- matches

// conformance: MeshHTTPRouteMatching
#[test]
fn paths_and_headers_choose_the_backend() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - matches:
    - path: {type: PathPrefix, value: /}
    - headers: [{name: Version, value: one}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches:
    - path: {type: PathPrefix, value: /v2/}
    - headers: [{name: version, value: two}]
    backendRefs: [{name: echo-v2, port: 80}]",
    )]);
    for (path, version, backend) in [
        ("/", "", "echo-v1"),
        ("/example", "", "echo-v1"),
        ("/", "one", "echo-v1"),
        ("/v2", "", "echo-v2"),
        ("/v2/example", "", "echo-v2"),
        ("/", "two", "echo-v2"),
        ("/v2/", "", "echo-v2"),
        ("/v2?q=/v1", "", "echo-v2"),
        ("/v2example", "", "echo-v1"),
        ("/foo/v2/example", "", "echo-v1"),
    ] {
        let request = Request::get("http://echo", path).header("version", version);
        assert_eq!(mesh.found(&request), backend, "{path} {version}");
    }
}

#[test]
fn a_condition_on_the_host_header_is_one_on_the_authority() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - matches: [{headers: [{name: Host, value: echo.shop}]}]
    backendRefs: [{name: echo-v1, port: 80}]
  - backendRefs: [{name: echo-v2, port: 80}]",
    )]);
    assert_eq!(mesh.found(&Request::get("http://echo.shop", "/")), "echo-v1");
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "echo-v2");
}

// conformance: MeshHTTPRouteQueryParamMatching
#[test]
fn query_parameters_choose_the_backend_and_what_none_matches_is_not_found() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{queryParams: [{name: animal, value: dolphin}]}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches: [{queryParams: [{name: animal, value: whale}, {name: color, type: RegularExpression, value: 'b.*'}]}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches: [{path: {value: /p}, queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{headers: [{name: version, value: one}], queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v2, port: 80}]",
    )]);
    for (path, version, found) in [
        ("/?animal=whale", "", "echo-v1"),
        ("/?animal=dolphin", "", "echo-v2"),
        ("/?animal=whale&other=x", "", "echo-v1"),
        ("/?animal=dolphin&animal=whale", "", "echo-v2"),
        ("/?animal=whale&color=blue", "", "echo-v2"),
        ("/p?animal=whale&color=blue", "", "echo-v1"),
        ("/?animal=whale", "one", "echo-v2"),
        ("/?color=blue", "", "404"),
        ("/?animal=dog", "", "404"),
        ("/?animal=whaledolphin", "", "404"),
        ("/", "", "404"),
    ] {
        let request = Request::get("http://echo", path).header("version", version);
        assert_eq!(mesh.found(&request), found, "{path} {version}");
    }
}

// spec: gateway-api v1 HTTPRouteRule.matches, "Proxy or Load Balancer routing configuration"
#[test]
fn the_most_specific_match_wins_in_whatever_rule_and_object_it_stands() {
    let rule = |matched: &str, backend: &str| {
        format!("\n  - matches: [{matched}]\n    backendRefs: [{{name: {backend}, port: 80}}]")
    };
    let get = |path: &str| Request::get("http://echo", path);
    let table = [
        ("{path: {value: /a}}", "{path: {type: Exact, value: /a}}", get("/a")),
        ("{path: {value: /a}}", "{path: {value: /a/b}}", get("/a/b")),
        ("{path: {type: RegularExpression, value: '/a/.*'}}", "{path: {value: /a}}", get("/a/b")),
        (
            "{path: {value: /a}, headers: [{name: x, value: y}], queryParams: [{name: q, value: z}]}",
            "{path: {value: /a}, method: GET}",
            get("/a?q=z").header("x", "y"),
        ),
        (
            "{path: {value: /a}, queryParams: [{name: q, value: z}]}",
            "{path: {value: /a}, headers: [{name: x, value: y}]}",
            get("/a?q=z").header("x", "y"),
        ),
        (
            "{path: {value: /a}, headers: [{name: x, value: y}]}",
            "{path: {value: /a}, headers: [{name: x, value: y}, {name: w, value: v}]}",
            get("/a").header("x", "y").header("w", "v"),
        ),
        (
            "{path: {value: /a}, headers: [{name: x, value: y}]}",
            "{path: {value: /a}, headers: [{name: x, value: y}], queryParams: [{name: q, value: z}]}",
            get("/a?q=z").header("x", "y"),
        ),
    ];
    for (less, more, request) in table {
        let (less, more) = (rule(less, "echo-v1"), rule(more, "echo-v2"));
        let one = Mesh::of(&[http("echo", &format!("{less}{more}"))]);
        assert_eq!(one.found(&request), "echo-v2", "one object: {less} {more}");
        let two = Mesh::of(&[http("echo", &less), http("echo", &more).replace("to-echo", "younger")]);
        assert_eq!(two.found(&request), "echo-v2", "two objects: {less} {more}");
    }
}

#[test]
fn of_equal_matches_the_oldest_object_wins_then_the_first_by_name_then_the_first_rule() {
    let rules = |backend: &str| format!("\n  - backendRefs: [{{name: {backend}, port: 80}}]");
    let named = |name: &str, created: &str, backend: &str| {
        let metadata = format!("name: {name}, creationTimestamp: '{created}'");
        http("echo", &rules(backend)).replace("name: to-echo", &metadata)
    };
    let request = Request::get("http://echo", "/");
    let (old, new) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let mesh = Mesh::of(&[named("a", new, "echo-v1"), named("b", old, "echo-v2")]);
    assert_eq!(mesh.found(&request), "echo-v2");
    let mesh = Mesh::of(&[named("b", old, "echo-v1"), named("a", old, "echo-v2")]);
    assert_eq!(mesh.found(&request), "echo-v2");
    let mesh = Mesh::of(&[http("echo", &(rules("echo-v2") + &rules("echo-v1")))]);
    assert_eq!(mesh.found(&request), "echo-v2");
    let hidden = mesh.finding(Code::UNREACHABLE_RULE);
    assert_eq!(hidden.path, "spec.rules[1].matches");
}

// conformance: MeshHTTPRouteNamedRule, MeshHTTPRouteSimpleSameNamespace
#[test]
fn a_rule_goes_by_its_name_or_else_by_its_place_in_the_object() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - name: named-rule
    matches: [{path: {value: /named}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: Exact, value: /unnamed}}]
    backendRefs: [{name: echo-v2, port: 80}]",
    )]);
    let story = mesh.explain(&Request::get("http://echo", "/named"));
    assert_eq!(story.route.as_deref(), Some("named-rule"));
    let story = mesh.explain(&Request::get("http://echo", "/unnamed"));
    assert_eq!(story.route.as_deref(), Some("HTTPRoute shop/to-echo#1"));
    assert_eq!(story.sources["route"].resource, "HTTPRoute shop/to-echo");
    let story = mesh.explain(&Request::get("http://echo", "/namedother"));
    let failed: Vec<_> = story.tried.iter().filter_map(|tried| tried.failed.as_deref()).collect();
    assert_eq!(
        failed,
        [
            r#"uri exact "/unnamed", got "/namedother""#,
            r#"path prefix "/named" (by segment), got "/namedother""#,
        ]
    );
}

#[test]
fn a_method_matches_only_itself() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - matches: [{method: PUT}]
    backendRefs: [{name: echo-v1, port: 80}]",
    )]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/").method(Method::PUT)), "echo-v1");
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "404");
}

// ---- backends

// conformance: MeshHTTPRouteWeight, MeshTrafficSplit
#[test]
fn weights_share_the_requests_and_a_weight_of_zero_gets_none() {
    let mesh = Mesh::of(&[http(
        "echo",
        "
  - backendRefs:
    - {name: echo-v1, port: 80, weight: 7}
    - {name: echo-v2, port: 80, weight: 3}
    - {name: echo, port: 80, weight: 0}",
    )]);
    let shares = mesh.shares(&Request::get("http://echo", "/"));
    assert!((6_700..7_300).contains(&shares["echo-v1"]), "{shares:?}");
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["echo-v1", "echo-v2"]);
}

#[test]
fn backends_without_a_weight_get_equal_shares() {
    let mesh = Mesh::of(&[http(
        "echo",
        "\n  - backendRefs: [{name: echo-v1, port: 80}, {name: echo-v2, port: 80}]",
    )]);
    let shares = mesh.shares(&Request::get("http://echo", "/"));
    assert!((4_700..5_300).contains(&shares["echo-v1"]), "{shares:?}");
}

#[test]
fn a_rule_whose_backends_have_no_weight_answers_500() {
    for backends in ["[{name: echo-v1, port: 80, weight: 0}]", "[]"] {
        let mesh = Mesh::of(&[http("echo", &format!("\n  - backendRefs: {backends}"))]);
        assert_eq!(mesh.found(&Request::get("http://echo", "/")), "500", "{backends}");
    }
    let mesh = Mesh::of(&["{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: bare, namespace: shop}, \
         spec: {parentRefs: [{group: '', kind: Service, name: echo}]}}"
        .to_owned()]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "500");
}

#[test]
fn an_invalid_backend_answers_500_for_its_share_and_is_reported_once_with_its_place() {
    for (backend, message) in [
        ("{name: gone, port: 80}", "no service gone.shop.svc.cluster.local is known (yet)"),
        ("{name: echo-v2, port: 81}", "echo-v2.shop.svc.cluster.local has no port 81"),
        (
            "{group: example.com, kind: Bucket, name: b}",
            "nothing can be sent to a example.com/Bucket; a backend is a Service",
        ),
        ("{kind: Gateway, name: b}", "nothing can be sent to a Gateway; a backend is a Service"),
    ] {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!(
                "\n  - matches: [{{path: {{value: /a}}}}, {{path: {{value: /b}}}}]\n    backendRefs: [{{name: echo-v1, port: 80}}, {backend}]"
            ),
        )]);
        let shares = mesh.shares(&Request::get("http://echo", "/a"));
        assert!((4_700..5_300).contains(&shares["500"]), "{backend}: {shares:?}");
        let [finding] = &mesh.findings[..] else { panic!("{:#?}", mesh.findings) };
        assert_eq!((finding.code, finding.level), (Code::REFERENCE_NOT_FOUND, Level::Warning));
        assert_eq!(finding.message, message);
        assert_eq!(finding.path, "spec.rules[0].backendRefs[1]");
        assert_eq!(finding.location.as_ref().unwrap().to_string(), "1.yaml:9:46");
    }
}

#[test]
fn a_service_entry_is_a_backend_by_its_hostname() {
    let entry = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ext, namespace: shop}, \
         spec: {hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: https, protocol: HTTPS}]}}";
    let mesh = Mesh::of(&[
        entry.to_owned(),
        http(
            "echo",
            "\n  - backendRefs: [{group: networking.istio.io, kind: Hostname, name: api.example.com, port: 443}]",
        ),
    ]);
    let story = mesh.explain(&Request::get("http://echo", "/"));
    assert_eq!(story.cluster.as_deref(), Some("outbound|443||api.example.com"));
    assert_eq!(story.flag, None);
}

// ---- filters

// conformance: MeshHTTPRouteRequestHeaderModifier, MeshGRPCRouteRequestHeaderModifier
#[test]
fn header_modifiers_remove_then_set_then_add_on_the_way_there_and_back() {
    let filters = "
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: set}, {name: x-set, value: second}]
        add: [{name: X-Add, value: added}]
        remove: [X-Remove]
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: x-back, value: back}]}
    backendRefs:
    - name: echo-v1
      port: 80
      filters:
      - {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-add, value: backend}]}}
      - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x-gone]}}";
    let kinds = [(http as fn(&str, &str) -> String, "path: {value: /s}"), (grpc, "method: {service: s}")];
    for (kind, matched) in kinds {
        let mesh = Mesh::of(&[kind("echo", &format!("\n  - matches: [{{{matched}}}]{filters}"))]);
        let request = Request::get("http://echo", "/s/m");
        let mut sent = headers(&[("x-set", "old"), ("x-add", "old"), ("x-remove", "x"), ("x-other", "o")]);
        let mut back = headers(&[("x-gone", "x")]);
        mesh.forwarded(&request, |route, forward, target| {
            forward.request_headers.apply(&mut sent, CitedValues::default());
            target.request_headers.apply(&mut sent, CitedValues::default());
            route.response_headers.apply(&mut back, CitedValues::default());
            target.response_headers.apply(&mut back, CitedValues::default());
        });
        let added: Vec<_> = sent.get_all("x-add").iter().collect();
        assert_eq!(added, ["old", "added", "backend"]);
        assert_eq!((&sent["x-set"], &sent["x-other"]), (&value("set"), &value("o")));
        assert!(!sent.contains_key("x-remove"));
        assert_eq!(back, headers(&[("x-back", "back")]));
    }
}

#[test]
fn the_host_header_that_one_backend_sets_is_set_for_that_backend_alone() {
    let host = |name: &str| {
        format!(
            "filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: Host, value: {name}}}]}}}}]"
        )
    };
    let backends = format!(
        "backendRefs:
    - {{name: echo-v1, port: 80, weight: 90}}
    - {{name: echo-v2, port: 80, weight: 10, {}}}",
        host("v2.example")
    );
    for (rule, of_rule) in [
        (format!("\n  - {backends}"), None),
        (format!("\n  - {}\n    {backends}", host("all.example")), Some(value("all.example"))),
    ] {
        let mesh = Mesh::of(&[http("echo", &rule)]);
        mesh.forwarded(&Request::get("http://echo", "/"), |_, forward, _| {
            let own: Vec<_> =
                forward.destinations.iter().map(|(target, _)| target.authority.clone()).collect();
            assert_eq!(own, [None, Some(value("v2.example"))]);
            let rewrite = forward.rewrite.as_ref().and_then(|rewrite| rewrite.authority.clone());
            assert_eq!(rewrite, of_rule);
        });
    }
}

// conformance: MeshHTTPRouteRewritePath; spec: gateway-api v1 HTTPPathModifier.replacePrefixMatch, its table
#[test]
fn a_rewrite_replaces_the_matched_segments_or_the_whole_path() {
    let table = [
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "/foo/bar", "/xyz/bar"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz/}", "/foo/bar", "/xyz/bar"),
        ("/foo/", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "/foo/bar", "/xyz/bar"),
        ("/foo/", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz/}", "/foo/bar", "/xyz/bar"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "/foo", "/xyz"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "/foo/", "/xyz/"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: ''}", "/foo/bar", "/bar"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: ''}", "/foo/", "/"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: ''}", "/foo", "/"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /}", "/foo/", "/"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /}", "/foo", "/"),
        ("/foo", "{type: ReplacePrefixMatch, replacePrefixMatch: /}", "/foo?q=/foo", "/?q=/foo"),
        ("/", "{type: ReplacePrefixMatch, replacePrefixMatch: /xyz}", "/foo", "/xyz/foo"),
        ("/foo", "{type: ReplaceFullPath, replaceFullPath: /one}", "/foo/bar?q", "/one?q"),
    ];
    for (prefix, path, sent, expected) in table {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!(
                "
  - matches: [{{path: {{value: {prefix}}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{hostname: other.example.com, path: {path}}}}}]
    backendRefs: [{{name: echo-v1, port: 80}}]"
            ),
        )]);
        mesh.forwarded(&Request::get("http://echo", sent), |_, forward, _| {
            let rewrite = forward.rewrite.as_ref().unwrap();
            assert_eq!(rewrite.path.as_ref().unwrap().apply(sent), expected, "{prefix} {path} {sent}");
            assert_eq!(rewrite.authority, Some(value("other.example.com")));
        });
    }
}

// conformance: MeshHTTPRouteRedirectHostAndStatus, …RedirectPath, …RedirectPort, …SchemeRedirect, …303Redirect,
// …307Redirect, …308Redirect
#[test]
fn a_redirect_names_host_port_scheme_path_and_status() {
    let found = Redirect {
        fault: None,
        status: StatusCode::FOUND,
        uri: None,
        path: None,
        authority: None,
        port: Some(80),
        scheme: None,
    };
    let some = |text: &str| Some(text.to_owned());
    let prefix = |with: &str| Some(PathRewrite::Prefix { matched: 4, with: with.to_owned() });
    let table = [
        ("{}", found.clone()),
        ("{hostname: example.org}", Redirect { authority: some("example.org"), ..found.clone() }),
        ("{statusCode: 301}", Redirect { status: StatusCode::MOVED_PERMANENTLY, ..found.clone() }),
        ("{statusCode: 303}", Redirect { status: StatusCode::SEE_OTHER, ..found.clone() }),
        ("{statusCode: 307}", Redirect { status: StatusCode::TEMPORARY_REDIRECT, ..found.clone() }),
        ("{statusCode: 308}", Redirect { status: StatusCode::PERMANENT_REDIRECT, ..found.clone() }),
        ("{port: 8083}", Redirect { port: Some(8083), ..found.clone() }),
        ("{scheme: https}", Redirect { scheme: some("https"), port: Some(443), ..found.clone() }),
        ("{scheme: http}", Redirect { scheme: some("http"), ..found.clone() }),
        ("{scheme: https, port: 80}", Redirect { scheme: some("https"), ..found.clone() }),
        (
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}}",
            Redirect { path: prefix("/new"), ..found.clone() },
        ),
        (
            "{path: {type: ReplaceFullPath, replaceFullPath: /new}}",
            Redirect { uri: some("/new"), ..found.clone() },
        ),
        (
            "{path: {type: ReplaceFullPath, replaceFullPath: new}}",
            Redirect { uri: some("/new"), ..found.clone() },
        ),
    ];
    for (filter, expected) in table {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!(
                "
  - matches: [{{path: {{value: /old}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {filter}}}]"
            ),
        )]);
        assert_eq!(mesh.redirect(&Request::get("http://echo", "/old")), expected, "{filter}");
        let other_port = mesh.redirect(&Request::get("http://echo:8080", "/old"));
        let derived = expected.scheme.is_none() && expected.port == Some(80);
        let port = if derived { Some(8080) } else { expected.port };
        assert_eq!(other_port, Redirect { port, ..expected }, "{filter}");
    }
}

// conformance: MeshHTTPRouteRequestMirror …, MeshGRPCRouteRequestMirror
#[test]
fn mirrors_get_copies_as_often_as_their_percentage_or_fraction_says() {
    for (share, percent) in [
        ("", Some(100.0)),
        (", percent: 30", Some(30.0)),
        (", fraction: {numerator: 1, denominator: 8}", Some(12.5)),
        (", fraction: {numerator: 50}", Some(50.0)),
        (", percent: 0", None),
    ] {
        for kind in [http, grpc] {
            let mesh = Mesh::of(&[kind(
                "echo",
                &format!(
                    "
  - filters:
    - {{type: RequestMirror, requestMirror: {{backendRef: {{name: echo-v2, port: 80}}{share}}}}}
    - {{type: RequestMirror, requestMirror: {{backendRef: {{name: gone, port: 80}}}}}}
    backendRefs: [{{name: echo-v1, port: 80}}]"
                ),
            )]);
            mesh.forwarded(&Request::get("http://echo", "/"), |_, forward, _| {
                let mirrors = forward.mirrors.iter();
                let mirrors: Vec<_> =
                    mirrors.map(|mirror| (&*mirror.target.name, mirror.chance.percent())).collect();
                let expected =
                    percent.map(|percent| ("outbound|80||echo-v2.shop.svc.cluster.local", percent));
                assert_eq!(mirrors, expected.into_iter().collect::<Vec<_>>(), "{share}");
            });
            assert_eq!(
                mesh.finding(Code::REFERENCE_NOT_FOUND).kept.as_deref(),
                Some("no copies are sent there")
            );
        }
    }
}

// spec: gateway-api v1 HTTPRouteFilter.type: a filter that cannot be resolved must not be skipped
#[test]
fn what_a_filter_that_is_not_supported_would_process_is_answered_with_500() {
    let extension = "{type: ExtensionRef, extensionRef: {group: example.com, kind: Limiter, name: l}}";
    let auth = "{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: auth, port: 80}}}";
    for (kind, filter) in [(http as fn(&str, &str) -> String, extension), (http, auth), (grpc, extension)] {
        let mesh = Mesh::of(&[kind(
            "echo",
            &format!("\n  - filters: [{filter}]\n    backendRefs: [{{name: echo-v1, port: 80}}]"),
        )]);
        assert_eq!(mesh.found(&Request::get("http://echo", "/")), "500");
        let finding = mesh.finding(Code::SCHEMA);
        assert_eq!((finding.level, finding.path.as_str()), (Level::Error, "spec.rules[0].filters"));
    }
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: other}}";
    for filter in [extension, rewrite] {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!(
                "\n  - backendRefs: [{{name: echo-v1, port: 80, filters: [{filter}]}}, {{name: echo-v2, port: 80}}]"
            ),
        )]);
        let shares = mesh.shares(&Request::get("http://echo", "/"));
        assert!((4_700..5_300).contains(&shares["500"]), "{shares:?}");
        assert_eq!(mesh.finding(Code::SCHEMA).path, "spec.rules[0].backendRefs[0]");
    }
}

// ---- timeouts and retries

#[test]
fn the_bound_of_a_backend_is_that_of_each_try_where_tries_are_configured() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (rule, timeout, per_try) in [
        ("", None, None),
        ("timeouts: {request: 10s}", seconds(10), None),
        ("timeouts: {request: 0s}", None, None),
        ("timeouts: {request: 10s, backendRequest: 2s}", seconds(2), None),
        ("timeouts: {backendRequest: 2s}", seconds(2), None),
        ("timeouts: {request: 10s, backendRequest: 0s}", seconds(10), None),
        ("timeouts: {request: 1m30s, backendRequest: 2s}, retry: {attempts: 1}", seconds(90), seconds(2)),
        ("timeouts: {request: 0s, backendRequest: 2s}, retry: {}", None, seconds(2)),
    ] {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!("\n  - {{backendRefs: [{{name: echo-v1, port: 80}}], {rule}}}"),
        )]);
        mesh.forwarded(&Request::get("http://echo", "/"), |_, forward, _| {
            assert_eq!((forward.timeout, forward.retry.per_try_timeout), (timeout, per_try), "{rule}");
        });
    }
}

#[test]
fn a_backend_that_is_hashed_is_tried_again_and_what_a_retry_leaves_out_is_istios_default() {
    let hashed = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hashed, namespace: shop}
spec: {host: echo-v1, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: user}}}}
";
    let mesh_config = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultHttpRetryPolicy: {attempts: 7, backoff: 1s, retryRemoteLocalities: true}'}
";
    let only = "{name: echo-v1, port: 80}";
    for (backends, retry, elsewhere, attempts) in [
        (only.to_owned(), "", false, 7),
        (only.to_owned(), ", retry: {codes: [500]}", false, 2),
        (format!("{only}, {{name: echo-v2, port: 80}}"), ", retry: {codes: [500]}", true, 2),
        ("{name: echo-v2, port: 80}".to_owned(), "", true, 7),
    ] {
        let rule = format!("\n  - {{backendRefs: [{backends}]{retry}}}");
        let mesh = Mesh::of(&[http("echo", &rule), hashed.to_owned(), mesh_config.to_owned()]);
        mesh.forwarded(&Request::get("http://echo", "/"), |_, forward, _| {
            let policy = &forward.retry;
            assert_eq!((policy.avoid_previous_hosts, policy.retries_max), (elsewhere, attempts), "{rule}");
            assert_eq!(policy.leave_localities, retry.is_empty(), "{rule}");
        });
    }
}

#[test]
fn a_retry_names_attempts_codes_and_backoff_beside_the_default_conditions() {
    let policy = |retry: &str| {
        let mesh = Mesh::of(&[http(
            "echo",
            &format!("\n  - {{backendRefs: [{{name: echo-v1, port: 80}}], {retry}}}"),
        )]);
        mesh.forwarded(&Request::get("http://echo", "/"), |_, forward, _| forward.retry.clone())
    };
    assert_eq!(policy(""), RetryPolicy::default());
    assert_eq!(policy("retry: {}"), RetryPolicy::default());
    assert_eq!(policy("retry: {attempts: 0}").retries_max, 0);
    let policy = policy("retry: {attempts: 4, codes: [500, 503], backoff: 100ms}");
    assert_eq!((policy.retries_max, policy.explicit), (4, true));
    assert_eq!(policy.on.statuses(), [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]);
    assert!(policy.on.has(Condition::ConnectFailure) && policy.on.has(Condition::Unavailable));
    assert!(!policy.on.has(Condition::ServerError));
    assert_eq!(
        (policy.backoff.base, policy.backoff.max),
        (Duration::from_millis(100), Duration::from_secs(1))
    );
}

// ---- who is attached to what

// conformance: MeshPorts
#[test]
fn a_parent_with_a_port_routes_that_port_alone() {
    let back = "
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-set, value: v1}]}}]
    backendRefs: [{name: echo-v1, port: 80}]";
    let mesh = Mesh::of(&[http("echo-v1, port: 80", back)]);
    assert_eq!(
        mesh.explain(&Request::get("http://echo-v1", "/")).route.as_deref(),
        Some("HTTPRoute shop/to-echo-v1#0")
    );
    let story = mesh.explain(&Request::get("http://echo-v1:8080", "/"));
    assert_eq!(story.route.as_deref(), Some("default"));
    assert_eq!(story.cluster.as_deref(), Some("outbound|8080||echo-v1.shop.svc.cluster.local"));
    let mesh = Mesh::of(&[http("echo-v1", back)]);
    for host in ["http://echo-v1", "http://echo-v1:8080", "http://echo-v1.shop:80"] {
        assert_eq!(mesh.found(&Request::get(host, "/")), "echo-v1", "{host}");
        assert_eq!(
            mesh.explain(&Request::get(host, "/")).route.as_deref(),
            Some("HTTPRoute shop/to-echo-v1#0")
        );
    }
}

// conformance: MeshFrontend, MeshFrontendHostname, MeshBasic
#[test]
fn a_route_concerns_every_name_of_its_service_and_no_other_service() {
    let rules = "\n  - backendRefs: [{name: echo-v1, port: 80}]";
    let written = http("echo", rules).replace("spec:", "spec:\n  hostnames: [elsewhere.example.com]");
    let mesh = Mesh::of(&[written]);
    assert_eq!(mesh.found(&Request::get("http://echo-v2", "/")), "echo-v2");
    for host in ["echo", "echo.shop", "echo.shop.svc", "ECHO.shop.svc.cluster.local."] {
        assert_eq!(mesh.found(&Request::get(&format!("http://{host}"), "/")), "echo-v1", "{host}");
    }
    assert_eq!(mesh.loaded(Code::NO_EFFECT).path, "spec.hostnames");
}

// conformance: MeshConsumerRoute
#[test]
fn a_route_of_another_namespace_concerns_the_callers_of_that_namespace_alone() {
    let consumer = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: buyers}
spec:
  parentRefs: [{group: '', kind: Service, name: echo, namespace: shop}]
  rules:
  - matches: [{path: {value: /a}}]
    backendRefs: [{name: echo-v2, namespace: shop, port: 80}]"
        .to_owned();
    let producer = http("echo", "\n  - backendRefs: [{name: echo-v1, port: 80}]");
    let request = |path: &str| Request::get("http://echo.shop", path);
    let mesh = Mesh::of(&[consumer.clone(), producer]);
    assert_eq!(mesh.found(&request("/a")), "echo-v1");
    assert_eq!(mesh.seen_from("others").found(&request("/a")), "echo-v1");
    let buyers = mesh.seen_from("buyers");
    assert_eq!(buyers.found(&request("/a")), "echo-v2");
    // The producer's routes are replaced whole.
    assert_eq!(buyers.found(&request("/b")), "404");
    let alone = Mesh::of(&[consumer]).seen_from("others");
    assert_eq!(alone.explain(&request("/a")).route.as_deref(), Some("default"));
}

#[test]
fn a_backend_of_another_namespace_needs_no_grant() {
    let other = service("far", "far").replace("shop", "away");
    let mesh =
        Mesh::of(&[other, http("echo", "\n  - backendRefs: [{name: far, namespace: away, port: 80}]")]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "far");
    assert_eq!(mesh.findings, []);
}

#[test]
fn a_backend_that_is_not_exported_to_the_caller_is_none() {
    let hidden = service("hidden", "hidden")
        .replace("namespace: shop}", "namespace: away, annotations: {networking.istio.io/exportTo: .}}");
    let mesh =
        Mesh::of(&[hidden, http("echo", "\n  - backendRefs: [{name: hidden, namespace: away, port: 80}]")]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "500");
}

#[test]
fn a_route_of_a_gateway_touches_no_call_inside_the_mesh() {
    let route = http("echo", "\n  - backendRefs: [{name: echo-v1, port: 80}]")
        .replace("group: '', kind: Service, name: echo", "name: edge");
    let mesh = Mesh::of(&[route]);
    assert_eq!(mesh.explain(&Request::get("http://echo", "/")).route.as_deref(), Some("default"));
    let finding = mesh.loaded(Code::NO_EFFECT);
    assert_eq!((finding.level, finding.path.as_str()), (Level::Warning, "spec.parentRefs"));
}

#[test]
fn a_route_that_is_attached_to_nothing_says_so_and_one_of_a_service_entry_is_refused() {
    let rules = "\n  - backendRefs: [{name: echo-v1, port: 80}]";
    let parents = "[{group: '', kind: Service, name: echo}]";
    let mesh = Mesh::of(&[http("echo", rules).replace(parents, "[]")]);
    assert_eq!(mesh.loaded(Code::NO_EFFECT).path, "spec.parentRefs");
    let entry = "[{group: networking.istio.io, kind: ServiceEntry, name: echo}]";
    let text = http("echo", rules).replace(parents, entry);
    let loaded = config::load("route.yaml", &text, &config::Options::default());
    assert_eq!(loaded.resources, []);
    assert!(loaded.diagnostics.iter().any(|finding| finding.path == "spec.parentRefs[0].kind"));
}

#[test]
fn a_parent_that_is_not_there_is_reported_with_its_place() {
    for (parent, message) in [
        ("gone", "no service gone.shop.svc.cluster.local is known (yet)"),
        ("echo, port: 81", "echo.shop.svc.cluster.local has no port 81"),
    ] {
        let mesh = Mesh::of(&[http(parent, "\n  - backendRefs: [{name: echo-v1, port: 80}]")]);
        let finding = mesh.finding(Code::REFERENCE_NOT_FOUND);
        assert_eq!((finding.message.as_str(), finding.path.as_str()), (message, "spec.parentRefs[0]"));
        assert_eq!(finding.location.as_ref().unwrap().to_string(), "1.yaml:6:16");
    }
}

#[test]
fn of_http_and_grpc_routes_on_one_service_the_kind_of_the_oldest_is_in_force() {
    let aged = |route: String, created: &str| {
        route.replace("namespace: shop}", &format!("namespace: shop, creationTimestamp: '{created}'}}"))
    };
    let http = http("echo", "\n  - backendRefs: [{name: echo-v1, port: 80}]");
    let grpc = grpc("echo", "\n  - backendRefs: [{name: echo-v2, port: 80}]");
    let mesh = Mesh::of(&[aged(http, "2025-01-01T00:00:00Z"), aged(grpc, "2024-01-01T00:00:00Z")]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/")), "echo-v2");
    let finding = mesh.finding(Code::CONFLICTING_HOSTS);
    assert_eq!(finding.resource.as_ref().unwrap().to_string(), "HTTPRoute shop/to-echo");
}

// spec: istio pilot/pkg/model/push_context.go VirtualServicesForGateway
#[test]
fn against_a_virtual_service_routes_of_the_callers_namespace_win_and_else_the_older() {
    let rule = |extra: &str, meta: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: vs, namespace: shop{meta}}}, \
             spec: {{hosts: [echo]{extra}, http: [{{route: [{{destination: {{host: echo-v2}}}}]}}]}}}}"
        )
    };
    let (old, new) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let created = |created: &str| format!(", creationTimestamp: '{created}'");
    let route = |meta: &str| {
        http("echo", "\n  - backendRefs: [{name: echo-v1, port: 80}]")
            .replace("namespace: shop}", &format!("namespace: shop{meta}}}"))
    };
    let wildcard = rule("", "").replace("[echo]", "['*.shop.svc.cluster.local']");
    let table = [
        ("shop", rule("", &created(old)), route(&created(new)), "echo-v1"),
        ("shop", rule(", exportTo: ['.']", &created(new)), route(&created(old)), "echo-v2"),
        ("others", rule("", &created(old)), route(&created(new)), "echo-v2"),
        ("others", rule("", &created(new)), route(&created(old)), "echo-v1"),
        ("others", rule("", ""), route(""), "echo-v2"),
        ("others", wildcard, route(""), "echo-v1"),
    ];
    for (namespace, rule, route, backend) in table {
        let mesh = Mesh::of(&[rule.clone(), route.clone()]).seen_from(namespace);
        assert_eq!(
            mesh.found(&Request::get("http://echo.shop", "/")),
            backend,
            "{namespace}\n{rule}\n{route}"
        );
        let conflicts = mesh.findings.iter().filter(|finding| finding.code == Code::CONFLICTING_HOSTS);
        let losers: Vec<_> =
            conflicts.map(|finding| finding.resource.as_ref().unwrap().kind.as_ref()).collect();
        let loser = if backend == "echo-v1" { "VirtualService" } else { "HTTPRoute" };
        let expected: &[&str] = if rule.contains('*') { &[] } else { &[loser] };
        assert_eq!(losers, expected, "{namespace}");
    }
}

// ---- gRPC

// conformance: MeshGRPCRouteWeight
#[test]
fn a_rule_of_grpc_has_a_name_and_weights_too() {
    let mesh = Mesh::of(&[grpc(
        "echo",
        "
  - name: split
    backendRefs: [{name: echo-v1, port: 80, weight: 70}, {name: echo-v2, port: 80, weight: 30}]",
    )]);
    let call = Request::get("http://echo", "/s/m").method(Method::POST);
    let shares = mesh.shares(&call);
    assert!((6_700..7_300).contains(&shares["echo-v1"]), "{shares:?}");
    assert_eq!(mesh.explain(&call).route.as_deref(), Some("split"));
}

// conformance: GRPCRouteExactMethodMatching
#[test]
fn a_grpc_method_is_a_path_and_its_backends_share_the_calls() {
    let mesh = Mesh::of(&[grpc(
        "echo",
        "
  - matches:
    - {method: {service: shop.Cart, method: Add}}
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{method: {service: shop.Cart}}]
    backendRefs: [{name: echo-v2, port: 80}]
  - matches: [{method: {method: Ping}}, {method: {type: RegularExpression, service: 'shop\\.(Pay|Ship)', method: 'Get.*'}}]
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{method: {type: RegularExpression, service: 'all\\..*'}}, {headers: [{name: color, value: red}]}]
    backendRefs: [{name: echo, port: 80}]",
    )]);
    for (path, color, found) in [
        ("/shop.Cart/Add", "", "echo-v1"),
        ("/shop.Cart/AddAll", "", "echo-v2"),
        ("/shop.Cart/Remove", "", "echo-v2"),
        ("/shop.CartOther/Add", "", "404"),
        ("/any.Service/Ping", "", "echo-v1"),
        ("/shop.Pay/GetBill", "", "echo-v1"),
        ("/shop.Pay/Bill", "", "404"),
        ("/all.S/m", "", "echo"),
        ("/other/m", "red", "echo"),
        ("/shop.Cart/Add", "red", "echo-v1"),
    ] {
        let request = Request::get("http://echo", path).method(Method::POST).header("color", color);
        assert_eq!(mesh.found(&request), found, "{path} {color}");
    }
}

#[test]
fn a_grpc_rule_without_matches_takes_every_call_and_a_route_without_rules_none() {
    let mesh = Mesh::of(&[grpc("echo", "\n  - backendRefs: [{name: echo-v1, port: 80}]")]);
    assert_eq!(mesh.found(&Request::get("http://echo", "/s/m").method(Method::POST)), "echo-v1");
    let mesh = Mesh::of(&[grpc("echo", " []")]);
    assert_eq!(mesh.explain(&Request::get("http://echo", "/s/m")).route.as_deref(), Some("default"));
}

// ---- reading

// spec: gateway-api v1, the validation rules of HTTPRoute and GRPCRoute
#[test]
fn what_the_api_server_would_refuse_is_refused_where_it_stands() {
    let to = "backendRefs: [{name: echo-v1, port: 80}]";
    let path = |path: &str| format!("[{{matches: [{{path: {path}}}], {to}}}]");
    let filters =
        |filters: &str| format!("[{{matches: [{{path: {{value: /a}}}}], filters: [{filters}], {to}}}]");
    let backend = |backend: &str| format!("[{{backendRefs: [{backend}]}}]");
    let redirect = "{type: RequestRedirect, requestRedirect: {}}";
    let by_prefix =
        "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}";
    let http_rules = [
        (path("{value: a}"), "spec.rules[0].matches[0].path.value"),
        (path("{value: /a//b}"), "spec.rules[0].matches[0].path.value"),
        (path("{type: Exact, value: /a/../b}"), "spec.rules[0].matches[0].path.value"),
        (path("{type: Exact, value: /a/..}"), "spec.rules[0].matches[0].path.value"),
        (path("{value: /a%2Fb}"), "spec.rules[0].matches[0].path.value"),
        (path("{value: '/a#b'}"), "spec.rules[0].matches[0].path.value"),
        (path("{type: RegularExpression, value: '/a('}"), "spec.rules[0].matches[0].path"),
        (path("{type: Prefix, value: /a}"), "spec.rules[0].matches[0].path.type"),
        (format!("[{{matches: [{{method: get}}], {to}}}]"), "spec.rules[0].matches[0].method"),
        (
            format!("[{{matches: [{{headers: [{{name: ':path', value: x}}]}}], {to}}}]"),
            "spec.rules[0].matches[0].headers[0].name",
        ),
        (
            format!("[{{matches: [{{headers: [{{name: x}}]}}], {to}}}]"),
            "spec.rules[0].matches[0].headers[0].value",
        ),
        (filters("{type: Other}"), "spec.rules[0].filters[0].type"),
        (filters("{type: URLRewrite}"), "spec.rules[0].filters[0].urlRewrite"),
        (filters("{type: CORS, cors: {}, urlRewrite: {hostname: a}}"), "spec.rules[0].filters[0].urlRewrite"),
        (filters(&format!("{by_prefix}, {by_prefix}")), "spec.rules[0].filters[1]"),
        (filters(redirect), "spec.rules[0].filters"),
        (format!("[{{filters: [{redirect}, {by_prefix}]}}]"), "spec.rules[0].filters"),
        (format!("[{{matches: [{{}}, {{}}], filters: [{by_prefix}], {to}}}]"), "spec.rules[0].filters"),
        (
            format!("[{{matches: [{{path: {{type: Exact, value: /a}}}}], filters: [{by_prefix}], {to}}}]"),
            "spec.rules[0].filters",
        ),
        (
            "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]}]".to_owned(),
            "spec.rules[0].filters[0].requestRedirect.statusCode",
        ),
        (
            filters(
                "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}",
            ),
            "spec.rules[0].filters[0].requestMirror.fraction",
        ),
        (backend("{name: echo-v1}"), "spec.rules[0].backendRefs[0].port"),
        (backend("{name: echo-v1.shop, port: 80}"), "spec.rules[0].backendRefs[0].name"),
        (backend("{name: echo-v1, port: 80, weight: 1000001}"), "spec.rules[0].backendRefs[0].weight"),
        (format!("[{{{to}, timeouts: {{request: 1.5s}}}}]"), "spec.rules[0].timeouts.request"),
        (
            format!("[{{{to}, timeouts: {{request: 1s, backendRequest: 2s}}}}]"),
            "spec.rules[0].timeouts.backendRequest",
        ),
        (format!("[{{{to}, retry: {{codes: [399]}}}}]"), "spec.rules[0].retry.codes[0]"),
        (format!("[{{name: a, {to}}}, {{name: a, {to}}}]"), "spec.rules"),
        ("[]".to_owned(), "spec.rules"),
        (format!("[{{{to}, timeout: 1s}}]"), "spec.rules[0].timeout"),
    ];
    let method = |method: &str| format!("[{{matches: [{{method: {method}}}], {to}}}]");
    let grpc_rules = [
        (method("{}"), "spec.rules[0].matches[0].method"),
        (method("{service: a/b}"), "spec.rules[0].matches[0].method"),
        (method("{service: a, method: b.c}"), "spec.rules[0].matches[0].method"),
        (method("{type: RegularExpression, method: 'a)|(b'}"), "spec.rules[0].matches[0].method"),
        (filters("{type: URLRewrite, urlRewrite: {}}"), "spec.rules[0].filters[0].type"),
        (format!("[{{{to}, timeouts: {{}}}}]"), "spec.rules[0].timeouts"),
    ];
    let all = http_rules.iter().map(|case| (http as fn(&str, &str) -> String, case));
    for (kind, (rules, path)) in all.chain(grpc_rules.iter().map(|case| (grpc as _, case))) {
        let text = kind("echo", &format!(" {rules}"));
        let loaded = config::load("route.yaml", &text, &config::Options::default());
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
        assert!(errors.iter().any(|finding| finding.path == *path), "{rules} {path}\n{errors:#?}");
        assert!(loaded.resources.is_empty() && errors.iter().all(|finding| finding.location.is_some()));
    }
}

#[test]
fn what_has_no_effect_here_is_a_warning() {
    let to = "backendRefs: [{name: echo-v1, port: 80}]";
    let cors = "{type: CORS, cors: {allowOrigins: ['*']}}";
    let header = "{name: a, value: b}, {name: A, value: c}";
    for (parent, rules, path) in [
        ("echo", format!("[{{filters: [{cors}], {to}}}]"), "spec.rules[0].filters[0].cors"),
        (
            "echo",
            format!("[{{sessionPersistence: {{type: Cookie}}, {to}}}]"),
            "spec.rules[0].sessionPersistence",
        ),
        ("echo, sectionName: http", format!("[{{{to}}}]"), "spec.parentRefs[0].sectionName"),
        (
            "echo",
            format!("[{{matches: [{{headers: [{header}]}}], {to}}}]"),
            "spec.rules[0].matches[0].headers[1]",
        ),
        ("echo", format!("[{{retry: {{codes: [499]}}, {to}}}]"), "spec.rules[0].retry.codes[0]"),
        ("echo", format!("[{}]", vec![format!("{{{to}}}"); 17].join(", ")), "spec.rules"),
    ] {
        let mesh = Mesh::of(&[http(parent, &format!(" {rules}"))]);
        let finding = mesh.loaded.iter().find(|finding| finding.path == path);
        assert_eq!(finding.map(|finding| finding.level), Some(Level::Warning), "{path}\n{:#?}", mesh.loaded);
        assert_eq!(mesh.found(&Request::get("http://echo", "/").header("a", "b")), "echo-v1");
    }
}

// ---- the mesh of these tests

/// An HTTPRoute of namespace `shop`, attached to the Service `parent`.
fn http(parent: &str, rules: &str) -> String {
    route("HTTPRoute", parent, rules)
}

fn grpc(parent: &str, rules: &str) -> String {
    route("GRPCRoute", parent, rules)
}

fn route(kind: &str, parent: &str, rules: &str) -> String {
    let name = parent.split(',').next().unwrap();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: to-{name}, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {parent}}}]
  rules:{rules}
"
    )
}

fn service(name: &str, app: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {app}}}
  ports: [{{name: http, port: 80}}, {{name: http-alt, port: 8080}}]
"
    )
}

struct Request {
    method: Method,
    authority: String,
    path: String,
    headers: HeaderMap,
}

impl Request {
    fn get(url: &str, path: &str) -> Self {
        let authority = url.strip_prefix("http://").unwrap().to_owned();
        Self { method: Method::GET, authority, path: path.to_owned(), headers: HeaderMap::new() }
    }

    fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Adds a header, unless its value is empty.
    fn header(mut self, name: &'static str, text: &str) -> Self {
        if !text.is_empty() {
            self.headers.append(HeaderName::from_static(name), value(text));
        }
        self
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            path_and_query: &self.path,
            headers: &self.headers,
        }
    }
}

struct Mesh {
    resources: Vec<Arc<Resource>>,
    snapshot: Snapshot,
    /// What reading found.
    loaded: Vec<Diagnostic>,
    /// What compiling found.
    findings: Vec<Diagnostic>,
}

impl Mesh {
    /// The mesh of the services echo, echo-v1 and echo-v2 and of `documents`, as namespace `shop` sees it.
    fn of(documents: &[String]) -> Self {
        let echo = ["echo", "echo-v1", "echo-v2"].map(|name| service(name, name)).join("---");
        let mut loaded = config::load("0.yaml", &echo, &config::Options::default());
        for (index, document) in documents.iter().enumerate() {
            let file = format!("{}.yaml", index + 1);
            let more = config::load(&file, document, &config::Options::default());
            let errors: Vec<_> = more.diagnostics.iter().filter(|finding| finding.is_error()).collect();
            assert!(errors.is_empty(), "{document}\n{errors:#?}");
            loaded.resources.extend(more.resources);
            loaded.diagnostics.extend(more.diagnostics);
        }
        let mut resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        resources.sort_by(|a, b| a.key.cmp(&b.key));
        Self::seen(resources, loaded.diagnostics, "shop")
    }

    fn seen(resources: Vec<Arc<Resource>>, loaded: Vec<Diagnostic>, namespace: &str) -> Self {
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        let viewer = Viewer { namespace: namespace.to_owned(), service: None, labels: BTreeMap::new() };
        let (snapshot, findings) = compile("1", &resources, &viewer, &settings, &States::default());
        Self { resources, snapshot, loaded, findings }
    }

    fn seen_from(&self, namespace: &str) -> Self {
        Self::seen(self.resources.clone(), self.loaded.clone(), namespace)
    }

    fn explain(&self, request: &Request) -> Explanation {
        explain(&self.snapshot, &request.head())
    }

    fn forwarded<R>(&self, request: &Request, read: impl FnOnce(&Route, &Forward, &Target) -> R) -> R {
        match self.snapshot.route(&request.head(), &mut Seeded::new(0)) {
            Decision::Forward { route, forward, target, .. } => read(route, forward, target),
            other => panic!("{}: {other:?}", request.path),
        }
    }

    fn redirect(&self, request: &Request) -> Redirect {
        match self.snapshot.route(&request.head(), &mut Seeded::new(0)) {
            Decision::Answer { route: Route { action: RouteAction::Redirect(redirect), .. }, .. } => {
                redirect.clone()
            }
            other => panic!("{}: {other:?}", request.path),
        }
    }

    /// The service a request is sent to, or the status it is answered with.
    fn found(&self, request: &Request) -> String {
        self.draw(request, &mut Seeded::new(0))
    }

    fn draw(&self, request: &Request, dice: &mut Seeded) -> String {
        match self.snapshot.route(&request.head(), dice) {
            Decision::Forward { target, .. } => match target.cluster {
                Some(_) => target.name.rsplit('|').next().unwrap().split('.').next().unwrap().to_owned(),
                None => target.unknown_status.as_u16().to_string(),
            },
            Decision::Answer { route: Route { action: RouteAction::Direct { status, .. }, .. }, .. } => {
                status.as_u16().to_string()
            }
            Decision::NoRoute { .. } => "404".to_owned(),
            other => panic!("{}: {other:?}", request.path),
        }
    }

    /// How many of 10,000 requests end where, seed 1.
    fn shares(&self, request: &Request) -> BTreeMap<String, usize> {
        let mut dice = Seeded::new(1);
        let mut shares = BTreeMap::new();
        for _ in 0..10_000 {
            *shares.entry(self.draw(request, &mut dice)).or_default() += 1;
        }
        shares
    }

    fn finding(&self, code: Code) -> &Diagnostic {
        let found = self.findings.iter().find(|finding| finding.code == code);
        found.unwrap_or_else(|| panic!("{:#?}", self.findings))
    }

    fn loaded(&self, code: Code) -> &Diagnostic {
        let found = self.loaded.iter().find(|finding| finding.code == code);
        found.unwrap_or_else(|| panic!("{:#?}", self.loaded))
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}
