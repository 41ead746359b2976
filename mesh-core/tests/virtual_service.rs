//! A VirtualService, field by field: what it may say, what is said about it, and what it makes of a request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mesh_core::{
    config::{
        self, Code, Diagnostic, Level, Options, Resource, Spec,
        istio::{HttpRoute, StringMatch, VirtualService},
        load,
    },
    dice::Seeded,
    health::States,
    retry::{Backoff, Condition, Hedge},
    route::{
        Abort, AbortAnswer, Chance, CitedValues, Decision, Delay, Forward, Head, Redirect, Route, RouteAction,
    },
    snapshot::{MeshSettings, Snapshot, Viewer, compile},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

// ---- what is refused

/// One row per rule: the route, the field below `spec.http[0]`, and a part of the message.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_istio_would_refuse_of_a_route_is_an_error_at_its_field() {
    for (route, path, part) in [
        // actions
        ("delegate: {name: b}, route: [{destination: {host: a}}]", "", "route and delegate exclude each other"),
        ("delegate: {name: b}, redirect: {uri: /}", "", "redirect and delegate exclude each other"),
        ("delegate: {namespace: b}", ".delegate.name", "is required"),
        ("redirect: {uri: /}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", ".fault", "redirect and fault exclude"),
        ("directResponse: {status: 200}, fault: {abort: {httpStatus: 500, percentage: {value: 1}}}", ".fault", "directResponse and fault exclude"),
        ("directResponse: {status: 200}, rewrite: {uri: /a}", ".rewrite", "directResponse and rewrite exclude"),
        // fault
        ("fault: {}", ".fault", "one of delay and abort"),
        ("fault: {delay: {percentage: {value: 100.5}, fixedDelay: 1s}}", ".fault.delay.percentage.value", "out of range"),
        ("fault: {delay: {percentage: {value: -1}, fixedDelay: 1s}}", ".fault.delay.percentage.value", "out of range"),
        ("fault: {delay: {percentage: {value: nan}, fixedDelay: 1s}}", ".fault.delay.percentage.value", "expected a number"),
        ("fault: {delay: {percentage: 50, fixedDelay: 1s}}", ".fault.delay.percentage", "expected a mapping"),
        ("fault: {delay: {percent: 101, fixedDelay: 1s}}", ".fault.delay.percent", "out of range"),
        ("fault: {delay: {percentage: {value: 1}, fixedDelay: 0s}}", ".fault.delay.fixedDelay", "at least 1ms"),
        ("fault: {delay: {percentage: {value: 1}, fixedDelay: 5}}", ".fault.delay.fixedDelay", "write `5s`"),
        ("fault: {abort: {percentage: {value: 1}, httpStatus: 199}}", ".fault.abort.httpStatus", "out of range"),
        ("fault: {abort: {percentage: {value: 1}, httpStatus: 600}}", ".fault.abort.httpStatus", "out of range"),
        ("fault: {abort: {percentage: {value: 1}, grpcStatus: NOT_FOUNT}}", ".fault.abort.grpcStatus", "did you mean `NOT_FOUND`?"),
        ("fault: {abort: {percentage: {value: 1}, grpcStatus: 14}}", ".fault.abort.grpcStatus", "unknown value"),
        ("fault: {abort: {percentage: {value: 1}, http2Error: x}}", ".fault.abort.http2Error", "not supported"),
        ("fault: {abort: {percentage: {value: 1}, httpStatus: 500, grpcStatus: OK}}", ".fault.abort", "only one of"),
        // mirrors
        ("mirror: {subset: v1}", ".mirror.host", "is required"),
        ("mirror: {host: '*'}", ".mirror.host", "is no destination"),
        ("mirror: {host: a}, mirrors: [{destination: {host: a}}]", ".mirrors", "exclude each other"),
        ("mirror: {host: a}, mirrorPercentage: {value: 101}", ".mirrorPercentage.value", "out of range"),
        ("mirror: {host: a}, mirrorPercent: 101", ".mirrorPercent", "out of range"),
        ("mirrors: [{percentage: {value: 1}}]", ".mirrors[0].destination", "is required"),
        ("mirrors: [{destination: {host: a}, percentage: {value: -1}}]", ".mirrors[0].percentage.value", "out of range"),
        // rewrite
        ("rewrite: {}", ".rewrite", "one of uri, uriRegexRewrite, authority"),
        ("rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}", ".rewrite.uriRegexRewrite", "exclude each other"),
        ("rewrite: {uriRegexRewrite: {match: a}}", ".rewrite.uriRegexRewrite.rewrite", "is required"),
        ("rewrite: {uriRegexRewrite: {match: '', rewrite: b}}", ".rewrite.uriRegexRewrite.match", "must not be empty"),
        ("rewrite: {uriRegexRewrite: {match: '(a', rewrite: b}}", ".rewrite.uriRegexRewrite.match", "unclosed group"),
        (r"rewrite: {uriRegexRewrite: {match: '(a)', rewrite: '\2'}}", ".rewrite.uriRegexRewrite.rewrite", "does not have: it has 1"),
        (r"rewrite: {uriRegexRewrite: {match: '(a)', rewrite: '\x'}}", ".rewrite.uriRegexRewrite.rewrite", "a backslash"),
        ("rewrite: {authority: 'a b'}", ".rewrite.authority", "is no authority"),
        // headers
        ("headers: {request: {set: {host: a}, add: {':authority': b}}}", ".headers", "set more than once"),
        ("headers: {request: {remove: [host]}}", ".headers.request.remove[0]", "neither be removed"),
        ("headers: {response: {set: {':status': '200'}}}", ".headers.response.set[:status]", "nor set on a response"),
        ("headers: {request: {set: {a: '%UPSTREAM_HOST%'}}}", ".headers.request.set.a", "UPSTREAM_HOST"),
        ("headers: {response: {add: {a: '50%'}}}", ".headers.response.add.a", "write %% for a percent sign"),
        ("appendHeaders: {a: '%REQ(x)'}", ".appendHeaders.a", "%REQ(x)"),
        // match
        ("match: [{uri: {regex: '*'}}]", ".match[0].uri.regex", "is not valid"),
        ("match: [{uri: {regex: ''}}]", ".match[0].uri.regex", "must not be empty"),
        ("match: [{uri: {regex: 'a{1001}'}}]", ".match[0].uri.regex", "at most 1000"),
        ("match: [{method: {prefix: ''}}]", ".match[0].method", "prefix must not be empty"),
        ("match: [{queryParams: {a: {prefix: ''}}}]", ".match[0].queryParams.a", "prefix must not be empty"),
        ("match: [{queryParams: {'': {exact: a}}}]", ".match[0].queryParams.", "must not be empty"),
        ("match: [{headers: {a: null}}]", ".match[0].headers.a", "must not be null"),
        ("match: [{headers: {':path': {exact: /}}}]", ".match[0].headers[:path]", "not supported under `headers`"),
        ("match: [{withoutHeaders: {'@request.auth.claims[a]': {exact: b}}}]", ".match[0].withoutHeaders[@request.auth.claims[a]]", "gateways only"),
        ("match: [{port: 70000}]", ".match[0].port", "out of range"),
        ("match: [{sourceLabels: {app: '*'}}]", ".match[0].sourceLabels", "not a label"),
        ("match: [{sourceNamespace: A_b}]", ".match[0].sourceNamespace", "is no DNS label"),
        ("match: [{gateways: [a/b/c]}]", ".match[0].gateways[0]", "not the name of a gateway"),
        // destinations and retries
        ("route: [{destination: {host: '*'}}]", ".route[0].destination.host", "is no destination"),
        ("route: [{destination: {host: a, subset: V1}}]", ".route[0].destination.subset", "is no DNS label"),
        ("retries: {attempts: 0, retryRemoteLocalities: true}", ".retries.retryRemoteLocalities", "attempts is 0"),
        // CORS
        ("corsPolicy: {allowOrigins: [{}]}", ".corsPolicy.allowOrigins[0]", "an origin is required"),
        ("corsPolicy: {allowMethods: [GETS]}", ".corsPolicy.allowMethods[0]", "not a method that can be allowed"),
        ("corsPolicy: {exposeHeaders: [a b]}", ".corsPolicy.exposeHeaders[0]", "not the name of a header"),
        ("corsPolicy: {maxAge: 1500ms}", ".corsPolicy.maxAge", "whole seconds"),
        ("corsPolicy: {unmatchedPreflights: DROP}", ".corsPolicy.unmatchedPreflights", "unknown value"),
    ] {
        let acts = ["route:", "redirect:", "directResponse:", "delegate:"].iter().any(|action| route.contains(action));
        let action = if acts { "" } else { ", route: [{destination: {host: a}}]" };
        refuses(&format!("hosts: [a]\n  http: [{{{route}{action}}}]"), &format!("spec.http[0]{path}"), part);
    }
    for (answer, path, part) in [
        ("redirect: {}", ".redirect", "one of uri, prefixRewrite"),
        ("redirect: {redirectCode: 307}", ".redirect", "one of uri, prefixRewrite"),
        ("redirect: {scheme: ftp}", ".redirect.scheme", "unknown value"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}", ".redirect.derivePort", "exclude each other"),
        ("redirect: {derivePort: FROM_PORT}", ".redirect.derivePort", "unknown value"),
        ("redirect: {uri: /a, prefixRewrite: /b}", ".redirect.prefixRewrite", "exclude each other"),
        ("redirect: {uri: /a, redirectCode: 304}", ".redirect.redirectCode", "304 is not a redirect"),
        ("directResponse: {status: 600}", ".directResponse.status", "out of range"),
        ("directResponse: {status: 200, body: {bytes: '?'}}", ".directResponse.body.bytes", "expected base64"),
        ("directResponse: {status: 200, body: {bytes: AAEC, string: a}}", ".directResponse.body.bytes", "exclude each other"),
    ] {
        refuses(&format!("hosts: [a]\n  http: [{{{answer}}}]"), &format!("spec.http[0]{path}"), part);
    }
}

#[test]
fn what_istio_would_refuse_of_the_whole_object_is_an_error_at_its_field() {
    const ROUTE: &str = "http: [{route: [{destination: {host: a}}]}]";
    for (spec, path, part) in [
        (format!("gateways: [edge]\n  {ROUTE}"), "spec.gateways", "has no `gateways`"),
        (format!("tcp: [{{}}]\n  {ROUTE}"), "spec.tcp", "has no `tcp`"),
        ("http: [{delegate: {name: b}}]".to_owned(), "spec.http[0].delegate", "must not delegate further"),
        ("hosts: [a]\n  http: []".to_owned(), "spec", "one of http, tcp and tls"),
        (format!("hosts: [a]\n  gateways: [a/]\n  {ROUTE}"), "spec.gateways[0]", "not the name of a gateway"),
        (format!("hosts: [a]\n  exportTo: [a, a]\n  {ROUTE}"), "spec.exportTo", "listed twice"),
        (format!("hosts: [a]\n  exportTo: [a, '*']\n  {ROUTE}"), "spec.exportTo", "is everybody"),
        (format!("hosts: [a]\n  exportTo: [A]\n  {ROUTE}"), "spec.exportTo[0]", "is no namespace"),
    ] {
        refuses(&spec, path, part);
    }
}

// ---- what is noted

/// One row per note: the route, its code and level, and the field below `spec.http[0]`.
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_works_and_is_probably_not_meant_is_noted_at_its_field() {
    use Level::{Info, Warning};
    for (route, code, level, path) in [
        // fields
        ("corsPolicy: {allowOrigins: [{exact: a}]}", Code::NO_EFFECT, Warning, ".corsPolicy"),
        ("websocketUpgrade: true", Code::NO_EFFECT, Warning, ".websocketUpgrade"),
        ("match: [{uri: {exact: /a}, statPrefix: x}]", Code::NO_EFFECT, Warning, ".match[0].statPrefix"),
        ("match: [{}]", Code::SCHEMA_WARNING, Warning, ".match[0]"),
        ("match: [{gateways: [edge.ns.svc.cluster.local, mesh]}]", Code::SCHEMA_WARNING, Warning, ".match[0].gateways[0]"),
        ("mirrorPercentage: {value: 5}", Code::NO_EFFECT, Warning, ".mirrorPercentage"),
        ("mirror: {host: a}, mirrorPercent: 5", Code::DEPRECATED, Warning, ".mirrorPercent"),
        ("headers: {request: {set: {a: ''}}}", Code::NO_EFFECT, Warning, ".headers.request.set.a"),
        ("fault: {delay: {percentage: {value: 1}, exponentialDelay: 1s}}", Code::NO_EFFECT, Warning, ".fault.delay.exponentialDelay"),
        ("fault: {delay: {percentage: {value: 1}}}", Code::SCHEMA_WARNING, Warning, ".fault.delay"),
        ("fault: {delay: {fixedDelay: 1s}}", Code::SCHEMA_WARNING, Warning, ".fault.delay"),
        ("fault: {abort: {percentage: {value: 1}}}", Code::SCHEMA_WARNING, Warning, ".fault.abort"),
        ("fault: {abort: {percent: 1, httpStatus: 500}}", Code::DEPRECATED, Warning, ".fault.abort.percent"),
        ("appendHeaders: {a: b}", Code::DEPRECATED, Warning, ".appendHeaders"),
        ("removeResponseHeaders: [a]", Code::DEPRECATED, Warning, ".removeResponseHeaders"),
        ("rewrite: {authority: b}, route: [{destination: {host: a}, headers: {request: {set: {host: c}}}}]", Code::NO_EFFECT, Warning, ".route"),
        ("redirect: {uri: /}, timeout: 1s", Code::NO_EFFECT, Warning, ".timeout"),
        ("directResponse: {status: 200}, retries: {attempts: 1}", Code::NO_EFFECT, Warning, ".retries"),
        ("redirect: {uri: /}, headers: {request: {set: {a: b}}}", Code::NO_EFFECT, Warning, ".headers"),
        // timeouts
        ("timeout: 2s, retries: {attempts: 3, perTryTimeout: 500ms, retryOn: 5xx}", Code::TIMEOUT_BELOW_TRIES, Warning, ".timeout"),
        ("timeout: 3s, retries: {perTryTimeout: 1s, retryOn: reset}", Code::TIMEOUT_BELOW_TRIES, Warning, ".timeout"),
        ("retries: {attempts: 2, perTryTimeout: 1s}", Code::TRY_TIMEOUT_NOT_RETRIED, Warning, ".retries.perTryTimeout"),
        ("retries: {attempts: 2, perTryTimeout: 1s, retryOn: 'connect-failure,503'}", Code::TRY_TIMEOUT_NOT_RETRIED, Warning, ".retries.perTryTimeout"),
        // weights
        ("route: [{destination: {host: a}, weight: 50}]", Code::ODD_WEIGHTS, Info, ".route"),
        ("route: [{destination: {host: a}, weight: 80}, {destination: {host: b}, weight: 10}]", Code::ODD_WEIGHTS, Warning, ".route"),
        ("route: [{destination: {host: a}, weight: 100}, {destination: {host: b}}]", Code::ODD_WEIGHTS, Info, ".route"),
        // expressions
        (r"match: [{uri: {regex: '/api/v1\.0'}}]", Code::REGEX_COST, Info, ".match[0].uri.regex"),
        ("match: [{uri: {regex: '/api/.*'}}]", Code::REGEX_COST, Info, ".match[0].uri.regex"),
        ("match: [{uri: {regex: '/(a+)+/x'}}]", Code::REGEX_COST, Warning, ".match[0].uri.regex"),
        ("match: [{headers: {a: {regex: '[a-z]{200}'}}}]", Code::REGEX_COST, Warning, ".match[0].headers.a.regex"),
        ("rewrite: {uriRegexRewrite: {match: '(a*)*', rewrite: b}}", Code::REGEX_COST, Warning, ".rewrite.uriRegexRewrite.match"),
    ] {
        let findings = findings_of(&http(route));
        let [finding] = &findings[..] else { panic!("{route}: {findings:#?}") };
        let path = format!("spec.http[0]{path}");
        assert_eq!((finding.code, finding.level, &finding.path), (code, level, &path), "{route}");
    }
}

#[test]
fn what_is_in_order_is_not_noted() {
    for route in [
        "timeout: 3s, retries: {attempts: 2, perTryTimeout: 900ms, retryOn: 5xx}",
        "timeout: 1s, retries: {attempts: 3}",
        "retries: {attempts: 0}",
        "retries: {attempts: 2, perTryTimeout: 1s, retryOn: gateway-error}",
        "route: [{destination: {host: a}, weight: 100}]",
        "route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 99}]",
        "match: [{uri: {regex: '/api/[^/]+/x'}}, {headers: {a: {regex: '^(.*?;)?(user=dev)(;.*)?'}}}]",
        "match: [{headers: {cookie: {regex: '*'}, x: {}}, withoutHeaders: {y: {regex: '*'}}, queryParams: {z: {}}}]",
        "fault: {abort: {percentage: {value: 0.5}, grpcStatus: UNAVAILABLE}}",
        "mirrors: [{destination: {host: a}, percentage: {value: 5}}, {destination: {host: b}}]",
        "headers: {request: {set: {x: '%REQ(:path)% 100%%'}}}",
    ] {
        assert_eq!(findings_of(&http(route)), [], "{route}");
    }
}

#[test]
fn the_note_on_weights_says_who_gets_what() {
    let findings = findings_of(&http(
        "route: [{destination: {host: a, subset: v1}, weight: 80}, {destination: {host: b}, weight: 10}]",
    ));
    let message = "the weights add up to 90, not to 100: a subset v1 gets 88.8 %, b gets 11.1 %";
    assert_eq!(findings[0].message, message);
}

/// One row per list of matches, a route each: the finding's code and path, if there is one.
#[test]
fn a_route_or_match_that_earlier_ones_cover_is_named() {
    let (route, single) = (Code::UNREACHABLE_RULE, Code::INEFFECTIVE_MATCH);
    for (matches, expected) in [
        (&["", "{uri: {exact: /a}}"][..], Some((route, "spec.http[1]"))),
        (&["{uri: {prefix: /}}", "{method: {exact: GET}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {regex: '.*'}}", "{uri: {exact: /a}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {prefix: /a}}", "{uri: {exact: /ab}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"], None),
        (&["{uri: {exact: /a}}", "{uri: {exact: /a}, method: {exact: GET}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {exact: /a}, method: {exact: GET}}", "{uri: {exact: /a}}"], None),
        (
            &["{method: {exact: GET}}", "{method: {exact: GET}, uri: {prefix: /a}}"],
            Some((route, "spec.http[1]")),
        ),
        (&["{headers: {a: {}, b: {}}}", "{headers: {b: {}, a: {}}}"], Some((route, "spec.http[1]"))),
        (&["{headers: {a: {exact: x}}}", "{headers: {a: {exact: y}}}"], None),
        (&["{uri: {regex: '/[a-z]'}}", "{uri: {regex: '/[a-z]'}}"], Some((route, "spec.http[1]"))),
        (
            &["{uri: {prefix: /A}, ignoreUriCase: true}", "{uri: {prefix: /a/b}}"],
            Some((route, "spec.http[1]")),
        ),
        (&["{uri: {prefix: /a}}", "{uri: {prefix: /a/b}, ignoreUriCase: true}"], None),
        (&["{uri: {prefix: /ä}}", "{uri: {prefix: /a}}"], None),
        (&["{gateways: [mesh]}", "{gateways: [edge]}"], None),
        (&["{sourceLabels: {a: b}}", "{sourceNamespace: c}", "{port: 80}", ""], None),
        (&["{name: x, uri: {exact: /a}}", "{name: y, uri: {exact: /a}}"], Some((route, "spec.http[1]"))),
        (&["{uri: {exact: /a}}, {uri: {exact: /a}}"], Some((single, "spec.http[0].match[1]"))),
        (
            &["{uri: {prefix: /a}}", "{uri: {exact: /b}}, {uri: {exact: /a}}"],
            Some((single, "spec.http[1].match[1]")),
        ),
    ] {
        let routes: Vec<_> = matches
            .iter()
            .map(|it| format!("{{match: [{it}], route: [{{destination: {{host: a}}}}]}}"))
            .collect();
        let findings = findings_of(&format!("hosts: [a]\n  http: [{}]", routes.join(", ")));
        let found: Vec<_> = findings.iter().map(|finding| (finding.code, finding.path.as_str())).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{matches:?}");
    }
}

#[test]
fn of_many_routes_behind_one_that_takes_everything_only_the_next_is_named() {
    let route = "{route: [{destination: {host: a}}]}";
    let findings = findings_of(&format!("hosts: [a]\n  http: [{}]", [route; 9].join(", ")));
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!((findings[0].path.as_str(), findings[0].level), ("spec.http[1]", Level::Warning));
}

#[test]
fn an_object_that_is_bound_to_gateways_only_says_so_once() {
    let findings =
        findings_of("hosts: ['*']\n  gateways: [edge]\n  http: [{route: [{destination: {host: a}}]}]");
    assert_eq!((findings.len(), findings[0].code, &*findings[0].path), (1, Code::NO_EFFECT, "spec.gateways"));
}

// ---- what is read

#[test]
fn the_fields_of_istio_1_3_mean_what_took_their_place() {
    let route = read(&http(
        "appendHeaders: {a: '1'}, appendRequestHeaders: {b: '2'}, removeRequestHeaders: [C], \
         appendResponseHeaders: {d: '4'}, removeResponseHeaders: [e], mirror: {host: m}, mirrorPercent: 5, \
         fault: {delay: {percent: 20, fixedDelay: 1s}, abort: {percent: 30, httpStatus: 500}}, \
         route: [{destination: {host: a}, appendRequestHeaders: {f: '6'}}]",
    ));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(route.headers.request.add, [pair("b", "2"), pair("a", "1")]);
    assert_eq!(route.headers.request.remove, ["c"]);
    assert_eq!(route.headers.response.add, [pair("d", "4")]);
    assert_eq!(route.headers.response.remove, ["e"]);
    assert_eq!(route.route[0].headers.request.add, [pair("f", "6")]);
    assert_eq!(route.mirror_percentage, Some(Chance::of_percent(5.0)));
    let fault = route.fault.unwrap();
    assert_eq!(fault.delay.unwrap().chance, Chance::of_percent(20.0));
    assert_eq!(fault.abort.unwrap().chance, Chance::of_percent(30.0));
}

#[test]
fn what_only_the_edge_obeys_is_read_and_kept_for_it() {
    let loaded = load(
        "mesh.yaml",
        &object(
            "hosts: [a.example.com]\n  gateways: [edge]\n  http: [{match: [{headers: {'@request.auth.claims.group': {exact: dev}}, \
             withoutHeaders: {'@request.auth.claims[a][b]': {}}}], route: [{destination: {host: a}}], corsPolicy: \
             {allowOrigins: [{prefix: 'https://'}], allowMethods: [GET, '*'], allowHeaders: [X-A], exposeHeaders: ['*'], \
             maxAge: 24h, allowCredentials: true, unmatchedPreflights: IGNORE}}]",
        ),
        &Options::default(),
    );
    let http = &spec(&loaded.resources[0]).http[0];
    let claims: Vec<_> = http.matches[0].claims.iter().map(|it| (it.claim.join("/"), it.absent)).collect();
    assert_eq!(claims, [("group".to_owned(), false), ("a/b".to_owned(), true)]);
    assert_eq!(http.matches[0].claims[0].pattern, StringMatch::Exact("dev".into()));
    let cors = http.cors.as_ref().unwrap();
    assert_eq!(cors.allow_origins, [StringMatch::Prefix("https://".into())]);
    assert_eq!(
        (&cors.allow_methods[..], &cors.allow_headers[..]),
        (&["GET".into(), "*".into()][..], &["X-A".into()][..])
    );
    assert_eq!(
        (&cors.expose_headers[..], cors.max_age),
        (&["*".into()][..], Some(Duration::from_secs(86400)))
    );
    assert!(cors.allow_credentials == Some(true) && cors.ignore_unmatched_preflights);
    let old = read(&self::http("corsPolicy: {allowOrigin: ['http://a']}"));
    assert_eq!(old.cors.unwrap().allow_origins, [StringMatch::Exact("http://a".into())]);
}

// ---- what is made of it

#[test]
fn a_fault_without_a_percentage_happens_to_nobody_and_with_one_as_often_as_it_says() {
    for (fault, delay, abort) in [
        ("delay: {fixedDelay: 5s}", Some(0.0), None),
        ("delay: {fixedDelay: 5s, percentage: {}}", Some(0.0), None),
        ("delay: {fixedDelay: 5s, percentage: {value: 0.0001}}", Some(0.0001), None),
        ("delay: {fixedDelay: 5s, percent: 7}", Some(7.0), None),
        ("delay: {fixedDelay: 5s, percent: 7, percentage: {value: 8}}", Some(8.0), None),
        ("abort: {httpStatus: 503}", None, Some(0.0)),
        ("abort: {httpStatus: 503, percentage: {value: 100}}", None, Some(100.0)),
    ] {
        let mesh = Mesh::of(&http(&format!("fault: {{{fault}}}")));
        let found = mesh.route("/").fault().unwrap();
        let five = Duration::from_secs(5);
        let delay = delay.map(|percent| Delay { chance: Chance::of_percent(percent), duration: five });
        let answer = AbortAnswer::Status(StatusCode::SERVICE_UNAVAILABLE);
        let abort = abort.map(|percent| Abort { chance: Chance::of_percent(percent), answer });
        assert_eq!((found.delay, found.abort), (delay, abort), "{fault}");
    }
    let mesh = Mesh::of(&http("fault: {abort: {grpcStatus: PERMISSION_DENIED, percentage: {value: 1}}}"));
    assert_eq!(mesh.forward("/").fault.as_ref().unwrap().abort.unwrap().answer, AbortAnswer::Grpc(7));
}

#[test]
fn copies_go_where_mirrors_say_and_as_often() {
    for (mirror, expected) in [
        ("mirror: {host: b}", &[("b", 100.0)][..]),
        ("mirror: {host: b}, mirrorPercentage: {value: 12.5}", &[("b", 12.5)]),
        ("mirror: {host: b}, mirrorPercentage: {value: 0}", &[]),
        ("mirror: {host: b}, mirrorPercent: 5", &[("b", 5.0)]),
        ("mirror: {host: b}, mirrorPercent: 5, mirrorPercentage: {value: 6}", &[("b", 6.0)]),
        (
            "mirrors: [{destination: {host: b}, percentage: {value: 50}}, {destination: {host: a}}]",
            &[("b", 50.0), ("a", 100.0)],
        ),
        ("mirrors: [{destination: {host: b}, percentage: {}}]", &[]),
    ] {
        let mesh = Mesh::of(&http(mirror));
        let mirrors: Vec<_> =
            mesh.forward("/").mirrors.iter().map(|it| (&*it.target.host, it.chance.percent())).collect();
        assert_eq!(mirrors, expected, "{mirror}");
    }
}

#[test]
fn a_mirror_that_does_not_exist_gets_no_copies_and_is_named() {
    let mesh = Mesh::of(&http("mirror: {host: gone}"));
    assert!(mesh.forward("/").mirrors.is_empty());
    let finding = mesh.findings.iter().find(|finding| finding.code == Code::REFERENCE_NOT_FOUND).unwrap();
    assert_eq!(
        (finding.path.as_str(), finding.kept.as_deref()),
        ("spec.http[0].mirror", Some("no copies are sent there"))
    );
}

#[test]
fn a_path_is_rewritten_by_prefix_as_a_whole_or_by_a_regular_expression() {
    for (route, path, expected) in [
        ("match: [{uri: {prefix: /a/}}], rewrite: {uri: /b/}", "/a/c?q", "/b/c?q"),
        ("match: [{uri: {exact: /a}}], rewrite: {uri: /b}", "/a?q", "/b?q"),
        ("match: [{uri: {}}], rewrite: {uri: /b/}", "/a", "/b/a"),
        ("rewrite: {uri: /b/}", "/a", "/b/a"),
        (
            r"rewrite: {uriRegexRewrite: {match: '^/v(\d)/(.*)$', rewrite: '/\2/v\1'}}",
            "/v1/x/y?v=/v1/",
            "/x/y/v1?v=/v1/",
        ),
    ] {
        let mesh = Mesh::of(&http(route));
        let rewrite = mesh.forward(path).rewrite.as_ref().unwrap();
        assert_eq!(rewrite.path.as_ref().unwrap().apply(path), expected, "{route}");
    }
}

#[test]
fn the_routes_authority_wins_and_without_one_each_destination_has_its_own() {
    let destinations = "[{destination: {host: a}, weight: 100, headers: {request: {set: {Host: x}}}}, \
                        {destination: {host: b}, weight: 0}]";
    let of_route = Mesh::of(&http(&format!("rewrite: {{authority: r}}, route: {destinations}")));
    let rewrite = of_route.forward("/").rewrite.as_ref().unwrap();
    assert_eq!(rewrite.authority, Some(HeaderValue::from_static("r")));
    let by_header = Mesh::of(&http(&format!(
        "headers: {{request: {{add: {{':authority': h}}}}}}, route: {destinations}"
    )));
    assert_eq!(
        by_header.forward("/").rewrite.as_ref().unwrap().authority,
        Some(HeaderValue::from_static("h"))
    );
    let own = Mesh::of(&http(&format!("route: {destinations}")));
    assert_eq!(own.forward("/").rewrite, None);
    let targets: Vec<_> =
        own.forward("/").destinations.iter().map(|(target, _)| target.authority.clone()).collect();
    assert_eq!(targets, [Some(HeaderValue::from_static("x"))]);
}

#[test]
fn whose_headers_win_goes_by_the_destinations_written_and_not_by_their_weights() {
    let set = |who: &str| format!("headers: {{request: {{set: {{x: {who}}}}}}}");
    let to = |weight: u32| format!("{{destination: {{host: a}}, weight: {weight}, {}}}", set("destination"));
    for (destinations, winner) in [
        (to(100), "destination"),
        (format!("{}, {}", to(50), to(50)), "route"),
        (format!("{}, {}", to(100), to(0)), "route"),
    ] {
        let mesh = Mesh::of(&http(&format!("route: [{destinations}], {}", set("route"))));
        let forward = mesh.forward("/");
        let mut headers = HeaderMap::new();
        for operations in
            forward.in_order(&forward.request_headers, &forward.destinations.at(0).request_headers)
        {
            operations.apply(&mut headers, CitedValues::default());
        }
        assert_eq!(headers["x"], winner, "{destinations}");
    }
}

#[test]
fn a_redirect_may_replace_the_prefix_and_take_the_port_of_the_request() {
    for (redirect, path, port, prefix) in [
        ("uri: /x", "/old/a", None, None),
        ("derivePort: FROM_REQUEST_PORT", "/old/a", Some(80), None),
        ("derivePort: FROM_PROTOCOL_DEFAULT", "/old/a", None, None),
        ("port: 8443", "/old/a", Some(8443), None),
        ("prefixRewrite: /new/", "/old/a?q", None, Some("/new/a?q")),
    ] {
        let mesh = Mesh::of(&format!(
            "hosts: [a]\n  http: [{{match: [{{uri: {{prefix: /old/}}}}], redirect: {{{redirect}}}}}]"
        ));
        let RouteAction::Redirect(found) = &mesh.route(path).action else { panic!("{redirect}") };
        let rewritten = found.path.as_ref().map(|rewrite| rewrite.apply(path));
        assert_eq!((found.port, rewritten.as_deref()), (port, prefix), "{redirect}");
        assert!(matches!(found, Redirect { status: StatusCode::MOVED_PERMANENTLY, fault: None, .. }));
    }
}

#[test]
fn a_redirect_may_go_elsewhere_under_another_scheme_and_status() {
    let mesh = Mesh::of(
        "hosts: [a]\n  http: [{redirect: {uri: /x, authority: b.example.com, scheme: https, redirectCode: 308}}]",
    );
    let RouteAction::Redirect(found) = &mesh.route("/").action else { panic!() };
    assert_eq!(found.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(
        [&found.uri, &found.authority, &found.scheme].map(Option::as_deref),
        [Some("/x"), Some("b.example.com"), Some("https")]
    );
}

#[test]
fn a_direct_response_may_hold_any_bytes() {
    let mesh = Mesh::of("hosts: [a]\n  http: [{directResponse: {status: 200, body: {bytes: '/wA='}}}]");
    let RouteAction::Direct { body, status, .. } = &mesh.route("/").action else { panic!() };
    assert_eq!((&body[..], *status), (&[0xff, 0][..], StatusCode::OK));
}

#[test]
fn retries_say_whether_hosts_already_tried_are_avoided() {
    for (retries, avoided) in [
        ("", true),
        ("retries: {attempts: 1}", true),
        ("retries: {attempts: 1, retryIgnorePreviousHosts: false}", false),
    ] {
        let mesh = Mesh::of(&http(retries));
        let retry = &mesh.forward("/").retry;
        assert_eq!(retry.avoid_previous_hosts, avoided, "{retries}");
        assert!(retry.on.has(Condition::ConnectFailure), "the default list stays");
    }
}

#[test]
fn timeouts_and_retries_are_what_the_route_says() {
    let mesh = Mesh::of(&http(
        "timeout: 9s, retries: {attempts: 4, perTryTimeout: 2s, retryOn: 'reset,409', backoff: 10ms, \
         retryRemoteLocalities: true}",
    ));
    let Forward { timeout, retry, .. } = mesh.forward("/");
    assert_eq!(*timeout, Some(Duration::from_secs(9)));
    assert_eq!((retry.retries_max, retry.per_try_timeout), (4, Some(Duration::from_secs(2))));
    assert!(retry.explicit && retry.on.has(Condition::Reset) && !retry.on.has(Condition::ConnectFailure));
    assert!(retry.leave_localities);
    assert_eq!(retry.on.statuses(), [StatusCode::CONFLICT]);
    assert_eq!(retry.backoff, Backoff::from_base(Duration::from_millis(10)));
    assert_eq!(Mesh::of(&http("timeout: 0s")).forward("/").timeout, None);
}

#[test]
fn a_match_on_a_port_is_met_by_requests_to_that_port_of_the_service() {
    for (port, met) in [(80, true), (81, false)] {
        let mesh = Mesh::of(&http(&format!("match: [{{port: {port}}}]")));
        assert_eq!(matches!(mesh.decide("/", "a:80"), Decision::Forward { .. }), met, "{port}");
    }
}

#[test]
fn an_object_routes_for_the_namespaces_to_which_it_is_exported() {
    for (scopes, routed) in
        [("'*'", true), ("., other", true), ("default", true), ("other", false), ("'~'", false)]
    {
        let mesh = Mesh::of(&format!("exportTo: [{scopes}]\n  {}", http("name: mine")));
        assert_eq!(&*mesh.route("/").name == "mine", routed, "{scopes}");
    }
}

#[test]
fn a_condition_on_the_host_header_is_one_on_the_authority() {
    let mesh = Mesh::of(&http("match: [{headers: {Host: {prefix: 'a.default'}}}]"));
    assert!(matches!(mesh.decide("/", "a.default:80"), Decision::Forward { .. }));
    assert!(matches!(mesh.decide("/", "a:80"), Decision::NoRoute { .. }));
}

#[test]
fn a_condition_that_the_host_header_is_not_so_is_one_on_the_authority() {
    let mesh = Mesh::of(&http("match: [{withoutHeaders: {host: {prefix: 'a.default'}}}]"));
    assert!(matches!(mesh.decide("/", "a:80"), Decision::Forward { .. }));
    assert!(matches!(mesh.decide("/", "a.default:80"), Decision::NoRoute { .. }));
    let mesh = Mesh::of(&http("match: [{withoutHeaders: {Host: {}}}]"));
    assert!(matches!(mesh.decide("/", "a"), Decision::NoRoute { .. }), "every request has one");
}

#[test]
fn where_a_match_names_gateways_the_caller_is_not_asked_for() {
    let mesh =
        Mesh::of(&http("match: [{gateways: [mesh], sourceNamespace: other, sourceLabels: {app: other}}]"));
    assert!(matches!(mesh.decide("/", "a"), Decision::Forward { .. }));
}

#[test]
fn a_route_by_claims_is_left_out_inside_the_mesh() {
    let text = object(
        "hosts: [a]\n  gateways: [edge]\n  http: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}], route: [{destination: {host: a}}]}]",
    );
    let mut resource = load("mesh.yaml", &text, &Options::default()).resources.remove(0);
    // As no reader lets it through.
    let Spec::VirtualService(spec) = &mut resource.spec else { panic!() };
    spec.gateways.clear();
    let mesh = Mesh::with(resource);
    assert!(matches!(mesh.decide("/", "a"), Decision::NoRoute { .. }));
    assert_eq!(mesh.findings[0].code, Code::CLAIMS_WITHOUT_AUTHENTICATION);
}

#[test]
fn a_route_whose_delegate_is_missing_answers_nothing() {
    let mesh = Mesh::of("hosts: [a]\n  http: [{delegate: {name: b}}]");
    assert!(matches!(mesh.decide("/", "a"), Decision::NoRoute { .. }));
    assert_eq!(mesh.findings[0].kept.as_deref(), Some("the route is left out"), "{:?}", mesh.findings);
}

// ---- annotations

#[test]
fn every_route_is_hedged_as_the_annotations_say_and_none_without() {
    let spec = "hosts: [a]\n  http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: a}}]}, {retries: {attempts: 5}, route: [{destination: {host: b}}]}]";
    let after = Duration::from_millis(50);
    for (annotations, hedge) in [
        ("note: none", None),
        ("mesh/hedgeDelay: 50ms", Some(Hedge { after, any_method: false })),
        ("mesh/hedgeDelay: 50ms, mesh/hedgeAnyMethod: 'true'", Some(Hedge { after, any_method: true })),
    ] {
        let loaded = load("mesh.yaml", &annotated(annotations, spec), &Options::default());
        assert!(loaded.diagnostics.is_empty(), "{:#?}", loaded.diagnostics);
        for route in &self::spec(&loaded.resources[0]).http {
            assert_eq!(route.hedge, hedge, "{annotations}");
        }
        let mesh = Mesh::compiled(loaded.resources);
        assert_eq!(mesh.forward("/").retry.hedge, hedge, "{annotations}");
    }
}

#[test]
fn a_delegates_routes_are_hedged_as_it_says_else_as_its_root_does() {
    let root = annotated("mesh/hedgeDelay: 50ms", "hosts: [a]\n  http: [{delegate: {name: d}}]");
    for (annotations, after) in [("note: none", 50), ("mesh/hedgeDelay: 20ms", 20)] {
        let delegate = annotated(annotations, "http: [{route: [{destination: {host: a}}]}]");
        let delegate = delegate.replace("name: x", "name: d");
        let both = format!("{root}---\n{delegate}");
        let mesh = Mesh::compiled(load("mesh.yaml", &both, &Options::default()).resources);
        let hedge = mesh.forward("/").retry.hedge.unwrap();
        assert_eq!(hedge.after, Duration::from_millis(after), "{annotations}");
    }
}

#[test]
#[rustfmt::skip] // A table: one row, one line.
fn what_is_wrong_with_an_annotation_is_said_with_what_to_write() {
    let delay = "mesh/hedgeDelay: 50ms";
    for (annotations, route, code, part, help) in [
        ("mesh/hedgeDelay: soon", "", Code::SCHEMA, "soon", ""),
        ("mesh/hedgeDelay: 0s", "", Code::SCHEMA, "at least 1ms", ""),
        ("mesh/hedgeDelay: 50ms, mesh/hedgeAnyMethod: maybe", "", Code::SCHEMA, "`maybe` is neither", "\"true\" or \"false\""),
        ("mesh/hedgeAnyMethod: 'true'", "", Code::INEFFECTIVE_POLICY, "nothing says that any is", "write `mesh/hedgeDelay` too"),
        (delay, "retries: {attempts: 0}", Code::INEFFECTIVE_POLICY, "`retries.attempts` is 0 makes no second attempt", ""),
        (delay, "retries: {attempts: 2, retryOn: 5xx, perTryTimeout: 50ms}", Code::INEFFECTIVE_POLICY, "`retries.perTryTimeout` is no longer", ""),
        (delay, "timeout: 20ms", Code::INEFFECTIVE_POLICY, "`timeout` is no longer", ""),
        ("mesh/hedgeDelai: 50ms", "", Code::SCHEMA_WARNING, "unknown annotation", "write `mesh/hedgeDelay`"),
    ] {
        let findings = load("mesh.yaml", &annotated(annotations, &http(route)), &Options::default()).diagnostics;
        let [finding] = &findings[..] else { panic!("{annotations}\n{findings:#?}") };
        assert!(finding.path.starts_with("metadata.annotations"), "{finding}");
        assert_eq!((finding.code, finding.is_error()), (code, code == Code::SCHEMA), "{finding}");
        assert!(finding.message.contains(part), "{finding}");
        assert!(finding.help.as_deref().unwrap_or_default().contains(help), "{finding:?}");
    }
}

/// An object with these annotations, in flow style.
fn annotated(annotations: &str, spec: &str) -> String {
    object(spec).replace("{name: x}", &format!("{{name: x, annotations: {{{annotations}}}}}"))
}

// ---- the mesh of these tests

/// The `spec` of host `a` with one route, to `a` unless `route` says otherwise.
fn http(route: &str) -> String {
    let acts = ["route:", "redirect:", "directResponse:"].iter().any(|action| route.contains(action));
    let action = if acts { "" } else { "route: [{destination: {host: a}}]" };
    let separator = if acts || route.is_empty() { "" } else { ", " };
    format!("hosts: [a]\n  http: [{{{route}{separator}{action}}}]")
}

fn object(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: x}}\nspec:\n  {spec}\n"
    )
}

fn findings_of(spec: &str) -> Vec<Diagnostic> {
    let loaded = load("mesh.yaml", &object(spec), &Options::default());
    assert_eq!((loaded.resources.len(), loaded.broken.len()), (1, 0), "{spec}\n{:#?}", loaded.diagnostics);
    loaded.diagnostics
}

fn read(spec: &str) -> HttpRoute {
    let loaded = load("mesh.yaml", &object(spec), &Options::default());
    self::spec(&loaded.resources[0]).http[0].clone()
}

fn refuses(spec: &str, path: &str, part: &str) {
    let loaded = load("mesh.yaml", &object(spec), &Options::default());
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|finding| finding.is_error()).collect();
    let said = errors.iter().any(|error| error.path == path && error.message.contains(part));
    assert!(said, "{spec}\nwanted {path}: {part}\n{errors:#?}");
    assert_eq!((loaded.resources.len(), loaded.broken.len()), (0, 1), "{spec}");
}

fn spec(resource: &Resource) -> &VirtualService {
    match &resource.spec {
        Spec::VirtualService(spec) => spec,
        other => panic!("{other:?}"),
    }
}

/// Services `a` and `b`, and one VirtualService.
struct Mesh {
    snapshot: Snapshot,
    findings: Vec<Diagnostic>,
}

impl Mesh {
    fn of(spec: &str) -> Self {
        let loaded = load("mesh.yaml", &object(spec), &Options::default());
        assert!(loaded.broken.is_empty(), "{:#?}", loaded.diagnostics);
        Self::compiled(loaded.resources)
    }

    fn with(rule: Resource) -> Self {
        Self::compiled(vec![rule])
    }

    fn compiled(rules: Vec<Resource>) -> Self {
        let service = |name: &str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80, name: http}}]}}\n"
            )
        };
        let services = format!("{}---\n{}", service("a"), service("b"));
        let services = config::load("services.yaml", &services, &Options::default()).resources;
        let resources: Vec<_> = services.into_iter().chain(rules).map(Arc::new).collect();
        let labels = BTreeMap::from([("app".to_owned(), "caller".to_owned())]);
        let viewer = Viewer { namespace: "default".to_owned(), service: Some("caller".to_owned()), labels };
        let settings = MeshSettings::new("cluster.local".parse().unwrap());
        let (snapshot, findings) = compile("1", &resources, &viewer, &settings, &States::default());
        Self { snapshot, findings }
    }

    fn decide(&self, path: &str, authority: &str) -> Decision<'_> {
        let head = Head {
            method: &Method::GET,
            scheme: "http",
            authority,
            path_and_query: path,
            headers: &HeaderMap::new(),
        };
        self.snapshot.route(&head, &mut Seeded::new(1))
    }

    fn route(&self, path: &str) -> &Route {
        match self.decide(path, "a") {
            Decision::Forward { route, .. } | Decision::Answer { route, .. } => route,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn forward(&self, path: &str) -> &Forward {
        match &self.route(path).action {
            RouteAction::Forward(forward) => forward,
            other => panic!("{path}: {other:?}"),
        }
    }
}
