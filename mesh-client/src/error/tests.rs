use super::*;

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
const TIMEOUT: &str = "upstream request timeout";

/// Rows: what Envoy calls it, the cause, and kind, status, flag, body and `grpc-status`.
// spec: envoy source/common/router/router.cc, its local replies; source/common/grpc/status.cc httpToGrpcStatus
#[test]
#[rustfmt::skip] // A table: one row, one line.
fn every_local_reply_is_envoys() {
    use Cause::*;
    use ErrorKind as Kind;
    let teapot = AbortAnswer::Status(StatusCode::IM_A_TEAPOT);
    let reset = |reason: &str| format!("{RESET}{reason}");
    let overflow = |limit| Overflow(limit);
    use super::Overflow as Limit;
    let table = [
        ("no route", NoRoute, Kind::NoRoute, 404, "NR", String::new(), 12),
        ("unknown cluster or subset", NoCluster(StatusCode::SERVICE_UNAVAILABLE), Kind::NoCluster, 503, "NC", String::new(), 14),
        ("unknown backend of the Gateway API", NoCluster(StatusCode::INTERNAL_SERVER_ERROR), Kind::NoCluster, 500, "NC", String::new(), 2),
        ("unknown host under REGISTRY_ONLY", Blocked, Kind::Blocked, 502, "", String::new(), 14),
        ("no healthy endpoint", NoEndpoints, Kind::NoEndpoints, 503, "UH", "no healthy upstream".to_owned(), 14),
        ("overflow of connections", overflow(Limit::Connections), Kind::Overload, 503, "UO", reset("overflow"), 14),
        ("overflow of pending requests", overflow(Limit::Pending), Kind::Overload, 503, "UO", reset("overflow"), 14),
        ("overflow of requests", overflow(Limit::Requests), Kind::Overload, 503, "UO", reset("overflow"), 14),
        ("connection refused", Connect { tls: false }, Kind::Connect, 503, "UF", reset("remote connection failure"), 14),
        ("handshake failed", Connect { tls: true }, Kind::Tls, 503, "UF", reset("remote connection failure"), 14),
        ("connect timeout", ConnectTimeout, Kind::Connect, 503, "UF", reset("connection timeout"), 14),
        ("closed by the peer", Termination, Kind::Reset, 503, "UC", reset("connection termination"), 14),
        ("the peer vanished", Vanished, Kind::Reset, 503, "UC", reset("connection termination"), 14),
        ("reset by the peer", RemoteReset, Kind::Reset, 503, "UR", reset("remote reset"), 14),
        ("refused by the peer", RefusedStream, Kind::Reset, 503, "UR", reset("remote refused stream reset"), 14),
        ("local reset", LocalReset, Kind::Reset, 503, "LR", reset("local reset"), 14),
        ("the caller's body failed", Body, Kind::Body, 503, "LR", reset("local reset"), 14),
        ("protocol error", Protocol, Kind::Protocol, 502, "UPE", reset("protocol error"), 14),
        ("timeout of the route", RouteTimeout, Kind::Timeout, 504, "UT", TIMEOUT.to_owned(), 14),
        ("timeout of a try", TryTimeout, Kind::Timeout, 504, "UT", TIMEOUT.to_owned(), 14),
        ("injected abort", Fault(teapot), Kind::Fault, 418, "FI", "fault filter abort".to_owned(), 2),
        // Of this mesh: Envoy has no answer to them.
        ("no configuration yet", NotReady, Kind::NotReady, 503, "", String::new(), 14),
        ("a request that cannot be sent", Request, Kind::Request, 400, "", String::new(), 13),
        ("a service below a layer failed", Service, Kind::Service, 503, "", String::new(), 14),
    ];
    for (name, cause, kind, status, flags, body, code) in table {
        let error = Error::new(cause, "for people").settle(Account::default(), false);
        assert_eq!((error.kind(), error.flags().to_string().as_str()), (kind, flags), "{name}");
        let response = error.into_response();
        assert_eq!(response.status(), status, "{name}");
        assert_eq!(response.body(), &body, "{name}");
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(content_type, (!body.is_empty()).then_some("text/plain"), "{name}");
        let overloaded = response.headers().contains_key("x-envoy-overloaded");
        assert_eq!(overloaded, matches!(cause, Overflow(_)), "{name}");

        let grpc = Error::new(cause, "for people").settle(Account::default(), true).into_response();
        assert_eq!((grpc.status(), grpc.body().is_empty()), (StatusCode::OK, true), "{name}");
        assert_eq!(grpc.headers()["grpc-status"], *code.to_string(), "{name}");
        let message = grpc.headers().get("grpc-message").map_or("", |message| message.to_str().unwrap());
        assert_eq!(message, body, "{name}");
    }
}

#[test]
fn a_reply_after_retries_says_so_and_gives_the_transports_reason() {
    let info = CallInfo { attempts: 3, ..CallInfo::default() };
    let error = Error::new(Cause::Connect { tls: true }, "for people")
        .with_transport("TLS error: bad certificate")
        .settle(Account { info, ..Account::default() }, false);
    assert_eq!(
        error.into_response().body(),
        "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: remote \
         connection failure, transport failure reason: TLS error: bad certificate"
    );
}

// spec: envoy source/common/grpc/status.cc httpToGrpcStatus; router.cc onUpstreamTimeoutAbort
#[test]
fn a_grpc_reply_is_200_with_the_status_in_its_headers() {
    for (cause, code) in [
        (Cause::NoRoute, "12"),
        (Cause::NoEndpoints, "14"),
        (Cause::Protocol, "14"),
        (Cause::RouteTimeout, "14"),
        (Cause::TryTimeout, "14"),
        (Cause::Request, "13"),
    ] {
        let response = Error::new(cause, "for people").settle(Account::default(), true).into_response();
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::OK, &code.parse().unwrap())
        );
        assert_eq!(response.headers()["content-type"], "application/grpc");
        assert!(response.body().is_empty());
    }
}

#[test]
fn a_grpc_message_is_percent_encoded() {
    assert_eq!(percent_encoded("100 % of ü\n"), "100 %25 of %C3%BC%0A");
}

#[test]
fn an_error_can_cross_threads_and_says_what_it_is() {
    fn check<T: Send + Sync + std::error::Error + 'static>(_: &T) {}
    let error = Error::new(Cause::NoRoute, "no route of reviews:80 matches \"/x\" (NR)");
    check(&error);
    assert_eq!(error.to_string(), "no route of reviews:80 matches \"/x\" (NR)");
    assert_eq!(error.kind().to_string(), "no-route");
}
