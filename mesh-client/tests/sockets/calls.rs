//! What a call sends, and what it answers by itself.

use crate::support::*;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use mesh_client::{ErrorKind, Protocol, RequestBody};
use mesh_runtime::{Context, Settings, context::Trace};
use std::time::Duration;

#[tokio::test]
async fn a_get_over_plaintext_is_answered() {
    let server = Server::start(|request| async move { answer(request.uri().to_string()) }).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let response = mesh.get("http://reviews/a?b=c").await.unwrap();
    let info = response.body().call_info().clone();
    assert_eq!(info.cluster.as_deref(), Some("outbound|80||reviews.default.svc.cluster.local"));
    assert_eq!(info.endpoint.as_deref(), Some(server.address.to_string().as_str()));
    assert_eq!((info.attempts, info.flags.to_string().as_str()), (1, ""));
    assert_eq!(response.into_body().text().await.unwrap(), "/a?b=c");
}

#[tokio::test]
async fn a_get_over_mutual_tls_speaks_http2_and_is_answered() {
    let ca = Ca::new();
    let server = Server::start_tls(ca.store("reviews"), version).await;
    let mesh = Mesh::new(&meshed("reviews", &[(server.address, "v1")])).await;
    mesh.identify(&ca, "client");
    assert_eq!(mesh.text("http://reviews/").await, "HTTP/2.0");
}

#[tokio::test]
async fn the_protocol_is_the_one_that_was_asked_for() {
    let ca = Ca::new();
    let tls = Server::start_tls(ca.store("reviews"), version).await;
    let plain = Server::start(version).await;
    let yaml = meshed("reviews", &[(tls.address, "v1")]) + &service("ratings", &[(plain.address, "v1")]);
    for (protocol, with_tls, without) in [
        (Protocol::Any, "HTTP/2.0", "HTTP/1.1"),
        (Protocol::Http1, "HTTP/1.1", "HTTP/1.1"),
        (Protocol::Http2, "HTTP/2.0", "HTTP/2.0"),
    ] {
        let mesh = Mesh::new(&yaml).await.speaking(protocol);
        mesh.identify(&ca, "client");
        assert_eq!(mesh.text("http://reviews/").await, with_tls, "{protocol:?}");
        assert_eq!(mesh.text("http://ratings/").await, without, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_body_and_its_trailers_arrive_as_sent_over_either_protocol() {
    let server = Server::start(|request| async move {
        let whole = request.into_body().collect().await.unwrap();
        let trailer = whole.trailers().map(|trailers| trailers["x-sum"].to_str().unwrap().to_owned());
        answer(format!("{} {trailer:?}", whole.to_bytes().len()))
    })
    .await;
    for (protocol, trailer) in [(Protocol::Http1, "None"), (Protocol::Http2, "Some(\"7\")")] {
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let body = Full::new(Bytes::from(vec![7; 300_000])).with_trailers(async move { Some(Ok(trailers)) });
        let response = mesh.client.send(Request::put("http://reviews/").body(body).unwrap()).await.unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), format!("300000 {trailer}"));
    }
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let server = Server::start(|_| async { answer(vec![b'x'; 5_000_000]) }).await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        assert_eq!(mesh.text("http://reviews/").await.len(), 5_000_000);
    }
}

#[tokio::test]
async fn the_host_is_that_of_the_uri_or_of_the_host_header_over_either_protocol() {
    let server = Server::start(|request: Request<Incoming>| async move {
        let header = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        answer(header.unwrap_or_else(|| request.uri().authority().unwrap().to_string()))
    })
    .await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await.speaking(protocol);
        assert_eq!(mesh.text("http://reviews.default:80/").await, "reviews.default:80");
        let request = Request::get("/").header("host", "reviews").body(RequestBody::empty()).unwrap();
        let response = mesh.client.send(request).await.unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), "reviews");
        // The URI is what counts.
        let request =
            Request::get("http://reviews/").header("host", "evil").body(RequestBody::empty()).unwrap();
        let response = mesh.client.send(request).await.unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), "reviews");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused_and_says_what_to_do() {
    let mesh = Mesh::new("").await;
    let error = mesh.get("/only/a/path").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("http://service/path"), "{error}");
    assert!(!error.may_have_been_sent());
}

#[tokio::test]
async fn a_scheme_that_is_not_http_is_refused() {
    let mesh = Mesh::new(&service("reviews", &[(unused_address().await, "v1")])).await;
    let error = mesh.get("ftp://reviews/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("ftp"), "{error}");
}

#[tokio::test]
async fn a_url_that_is_refused_is_not_repeated_in_the_error() {
    let mesh = Mesh::new("").await;
    for url in
        ["http://user:secret word@reviews/", "http://user:secret@reviews/", "http://user:secret@re views/"]
    {
        let error = mesh.get(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{url}");
        let texts = format!("{error} {error:?}");
        assert!(!texts.contains("secret"), "{texts}");
    }
}

#[tokio::test]
async fn the_mesh_adds_its_headers_and_keeps_a_request_id() {
    let server = Server::start(headers).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let text = mesh.text("http://reviews/").await;
    assert!(text.contains("x-envoy-attempt-count: 1\n"), "{text}");
    assert!(text.contains("x-forwarded-proto: http\n"), "{text}");
    assert!(text.contains("x-request-id: "), "{text}");
    assert!(!text.contains("x-envoy-expected-rq-timeout-ms"), "{text}");
    let request = Request::get("http://reviews/")
        .header("x-request-id", "mine")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(RequestBody::empty())
        .unwrap();
    let text = mesh.client.send(request).await.unwrap().into_body().text().await.unwrap();
    assert!(text.contains("x-request-id: mine\n") && !text.contains("x-hop"), "{text}");
}

#[tokio::test]
async fn deadline_and_trace_of_the_context_travel_with_the_call() {
    let server = Server::start(headers).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = Trace { parent: parent.parse().unwrap(), state: Some("a=b".parse().unwrap()) };
    let deadline = mesh.workload.clock().now() + Duration::from_secs(5);
    let context = Context::new(Some(deadline), Some(trace));
    let text = context.scope(mesh.text("http://reviews/")).await;
    assert!(text.contains(&format!("traceparent: {parent}\n")), "{text}");
    assert!(text.contains("tracestate: a=b\n"), "{text}");
    let left = text.split("x-envoy-expected-rq-timeout-ms: ").nth(1).unwrap().lines().next().unwrap();
    assert!((1..=5_000).contains(&left.parse::<u32>().unwrap()), "{text}");
}

#[tokio::test]
async fn path_and_authority_are_rewritten_and_the_original_path_is_told() {
    let server = Server::start(headers).await;
    let mesh = Mesh::new(&format!(
        "{}\n{}",
        service("reviews", &[(server.address, "v1")]),
        routes("reviews", "- match: [{uri: {prefix: /old/}}]\n    rewrite: {uri: /new/, authority: other.example}\n    route: [{destination: {host: reviews}}]")
    ))
    .await;
    let text = mesh.text("http://reviews/old/a?q=1").await;
    assert!(text.starts_with("/new/a?q=1\n"), "{text}");
    assert!(text.contains("host: other.example\n"), "{text}");
    assert!(text.contains("x-envoy-original-path: /old/a?q=1\n"), "{text}");
}

// spec: envoy config.route.v3.RouteConfiguration.most_specific_header_mutations_wins; istio pilot/pkg/networking/core/route/route.go
#[tokio::test]
async fn header_operations_of_the_destination_win_if_it_is_the_only_one_and_lose_otherwise() {
    let server = Server::start(headers).await;
    let operations = |who: &str| {
        format!("headers: {{request: {{set: {{x-q: {who}}}}}, response: {{set: {{x-r: {who}}}}}}}")
    };
    let destination =
        format!("{{destination: {{host: reviews}}, weight: 50, {}}}", operations("destination"));
    for (destinations, winner) in
        [(format!("[{destination}]"), "destination"), (format!("[{destination}, {destination}]"), "route")]
    {
        let mesh = Mesh::new(&format!(
            "{}\n{}",
            service("reviews", &[(server.address, "v1")]),
            routes("reviews", &format!("- {}\n    route: {destinations}", operations("route")))
        ))
        .await;
        let response = mesh.get("http://reviews/").await.unwrap();
        assert_eq!(response.headers()["x-r"], winner);
        let text = response.into_body().text().await.unwrap();
        assert!(text.contains(&format!("x-q: {winner}\n")), "{text}");
    }
}

// spec: envoy configuration/http/http_conn_man/headers#custom-request-response-headers
#[tokio::test]
async fn header_values_may_cite_the_request_and_see_it_as_its_caller_made_it() {
    let server = Server::start(headers).await;
    let mesh = Mesh::new(&format!(
        "{}\n{}",
        service("reviews", &[(server.address, "v1")]),
        routes(
            "reviews",
            "- match: [{uri: {prefix: /old/}}]\n    rewrite: {uri: /new/}\n    \
             headers: {request: {set: {x-q: '%REQ(:authority)%%REQ(:path)% %PROTOCOL%'}, add: {x-none: '%REQ(x-gone)%'}}, \
             response: {set: {x-r: '%REQ(x-q)%', x-from: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'}}}\n    \
             route: [{destination: {host: reviews}, headers: {request: {set: {host: other.example}}}}]\n  \
             - directResponse: {status: 200}\n    headers: {response: {set: {x-r: '%REQ(:method)%'}}}"
        )
    ))
    .await;
    let response = mesh.get("http://reviews/old/a?q=1").await.unwrap();
    assert_eq!(response.headers()["x-r"], "reviews/old/a?q=1 HTTP/1.1");
    assert_eq!(response.headers()["x-from"], "127.0.0.1");
    let text = response.into_body().text().await.unwrap();
    assert!(text.starts_with("/new/a?q=1\n") && text.contains("host: other.example\n"), "{text}");
    assert!(text.contains("x-q: reviews/old/a?q=1 HTTP/1.1\n") && !text.contains("x-none"), "{text}");
    assert_eq!(mesh.get("http://reviews/").await.unwrap().headers()["x-r"], "GET");
}

#[tokio::test]
async fn redirects_and_direct_responses_are_answered_without_an_attempt() {
    let mesh = Mesh::new(&format!(
        "{}\n{}",
        service("reviews", &[("127.0.0.1:1".parse().unwrap(), "v1")]),
        routes(
            "reviews",
            "- match: [{uri: {prefix: /moved}}]\n    redirect: {uri: /here, redirectCode: 308}\n  - directResponse: {status: 418, body: {string: teapot}}\n    headers: {response: {set: {x-r: y}}}"
        )
    ))
    .await;
    let moved = mesh.get("http://reviews/moved?q=1").await.unwrap();
    assert_eq!(moved.status(), 308);
    assert_eq!(moved.headers()["location"], "http://reviews/here?q=1");
    assert_eq!(moved.body().call_info().attempts, 0);
    let direct = mesh.get("http://reviews/").await.unwrap();
    assert_eq!((direct.status(), &direct.headers()["x-r"]), (StatusCode::IM_A_TEAPOT, &"y".parse().unwrap()));
    assert_eq!(direct.into_body().text().await.unwrap(), "teapot");
}

// spec: envoy source/common/router/router.cc, its local replies
#[tokio::test]
async fn what_cannot_be_routed_is_answered_as_envoy_answers() {
    let mesh = Mesh::new("").await;
    mesh.apply_with(
        &format!(
            "{}\n{}\n{}\n{}",
            service("reviews", &[("127.0.0.1:1".parse().unwrap(), "v1")]),
            routes(
                "reviews",
                "- match: [{uri: {exact: /known}}]\n    route: [{destination: {host: reviews}}]"
            ),
            service("empty", &[]),
            service("ratings", &[]),
        ),
        false,
    );
    for (url, kind, status, body, flags) in [
        ("http://reviews/unknown", ErrorKind::NoRoute, 404, "", "NR"),
        ("http://empty/", ErrorKind::NoEndpoints, 503, "no healthy upstream", "UH"),
        ("http://elsewhere/", ErrorKind::Blocked, 502, "", ""),
    ] {
        let error = mesh.get(url).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 0), "{url}: {error}");
        assert_eq!(error.flags().to_string(), flags, "{url}");
        assert!(!error.may_have_been_sent());
        let response = error.into_response();
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (status, body.as_bytes()),
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_route_of_the_gateway_api_is_obeyed_and_a_backend_that_is_none_is_500() {
    let server = Server::start(headers).await;
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews}
spec:
  parentRefs: [{group: '', kind: Service, name: reviews}]
  rules:
  - matches: [{path: {value: /old}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]
    backendRefs: [{name: reviews, port: 80}]
  - matches: [{path: {value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
  - matches: [{path: {value: /gone}}]
    backendRefs: [{name: gone, port: 80}]";
    let mesh = Mesh::new(&(service("reviews", &[(server.address, "v1")]) + route)).await;
    assert!(mesh.text("http://reviews/old/a?q=1").await.starts_with("/new/a?q=1\n"));
    let moved = mesh.get("http://reviews/moved/a?q=1").await.unwrap();
    assert_eq!(
        (moved.status(), &moved.headers()["location"]),
        (StatusCode::FOUND, &"http://reviews/a?q=1".parse().unwrap())
    );
    for (path, kind, status) in [("gone", ErrorKind::NoCluster, 500), ("older", ErrorKind::NoRoute, 404)] {
        let error = mesh.get(&format!("http://reviews/{path}")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{path}");
        let response = error.into_response();
        assert_eq!(
            (response.status().as_u16(), response.body().as_ref()),
            (status, b"".as_slice()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_refused_connection_says_where_and_why_and_that_nothing_was_sent() {
    let address = unused_address().await;
    let mesh = Mesh::new(&service("reviews", &[(address, "v1")])).await;
    let error = mesh.client.send(post("x")).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connect, 3));
    assert_eq!(error.flags().to_string(), "UF,URX");
    assert!(error.is_connect() && error.is_retry_exhausted() && !error.may_have_been_sent());
    assert_eq!(error.endpoint(), Some(address.to_string().as_str()));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let response = error.into_response();
    assert_eq!(response.status(), 503);
    assert_eq!(
        response.body(),
        "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote \
         connection failure, transport failure reason: delayed connect error: Connection refused"
    );
}

#[tokio::test]
async fn a_grpc_call_gets_its_local_failure_as_grpc() {
    let mesh = Mesh::new(&service("empty", &[])).await;
    let request = Request::post("http://empty/a.B/C")
        .header("content-type", "application/grpc")
        .body(RequestBody::empty())
        .unwrap();
    let response = mesh.client.send(request).await.unwrap_err().into_response();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["grpc-message"], "no healthy upstream");
    assert!(response.body().is_empty());
}

#[tokio::test]
async fn a_host_outside_of_the_mesh_is_called_in_plain_http_without_policy() {
    let server = Server::start(headers).await;
    let mesh = Mesh::new("").await;
    let response = mesh.get(&format!("http://localhost:{}/x", server.address.port())).await.unwrap();
    let info = response.body().call_info().clone();
    assert_eq!(info.cluster.as_deref(), Some("PassthroughCluster"));
    assert_eq!(info.endpoint.as_deref(), Some(server.address.to_string().as_str()));
    assert!(response.into_body().text().await.unwrap().starts_with("/x\n"));
}

#[tokio::test]
async fn a_workload_without_configuration_fails_calls_at_once_and_says_why() {
    let cache = tempfile::tempdir().unwrap();
    let mut settings = Settings::for_service("client");
    settings.control = Some(format!("http://{}", unused_address().await));
    settings.cache_dir = Some(cache.path().to_owned());
    let mesh = Mesh::start(settings).await;
    let error = mesh.get("http://reviews/").await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::NotReady, 0));
    assert!(error.is_not_ready() && !error.may_have_been_sent());
    assert!(error.to_string().contains("no configuration yet"), "{error}");
    assert_eq!(error.into_response().status(), 503);
}

#[tokio::test]
async fn calls_are_counted_with_their_status_and_flags() {
    let server = Server::start(|_| async { answer("ok") }).await;
    let dead = unused_address().await;
    let mut settings = Settings::for_service("client");
    settings.admin = Some(([127, 0, 0, 1], 0).into());
    let mesh = Mesh::start(settings).await;
    mesh.apply(&(service("reviews", &[(server.address, "v1")]) + &service("gone", &[(dead, "v1")])));
    assert_eq!(mesh.text("http://reviews/").await, "ok");
    assert!(mesh.get("http://gone/").await.is_err());
    let page = mesh.text(&format!("http://{}/metrics", mesh.workload.admin().unwrap())).await;
    let count = |service: &str, code: &str, flags: &str| {
        let labels = [
            format!("destination_service_name=\"{service}\""),
            format!("response_code=\"{code}\""),
            format!("response_flags=\"{flags}\""),
        ];
        let mut lines = page.lines().filter(|line| line.starts_with("istio_requests_total{"));
        let line = lines.find(|line| labels.iter().all(|label| line.contains(label)));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    assert_eq!(count("reviews", "200", "-").as_deref(), Some("1"), "{page}");
    assert_eq!(count("gone", "503", "UF,URX").as_deref(), Some("1"), "{page}");
}

#[tokio::test]
async fn the_client_is_a_tower_service() {
    use tower::ServiceExt;
    let server = Server::start(|_| async { answer("hello") }).await;
    let mesh = Mesh::new(&service("reviews", &[(server.address, "v1")])).await;
    let request = Request::get("http://reviews/").body(Full::<Bytes>::default()).unwrap();
    let response = mesh.client.clone().oneshot(request).await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "hello");
}

/// The bounds of `tonic::client::GrpcService`, which generated clients ask for.
#[test]
fn the_client_satisfies_the_bounds_of_a_grpc_service() {
    fn is_grpc_service<T, B, R>()
    where
        T: tower::Service<Request<B>, Response = http::Response<R>>,
        T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        T: Clone + Send + Sync + 'static,
        T::Future: Send,
    {
    }
    // tonic's own body is such a box.
    type TonicBody =
        http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
    is_grpc_service::<mesh_client::MeshClient, TonicBody, mesh_client::ResponseBody>();
}

async fn version(request: Request<Incoming>) -> Answer {
    answer(format!("{:?}", request.version()))
}

/// Answers path and headers, a line each.
async fn headers(request: Request<Incoming>) -> Answer {
    let mut text = format!("{}\n", request.uri().path_and_query().unwrap());
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\n", value.to_str().unwrap());
    }
    answer(text)
}
