use super::*;

const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
const TIMEOUT: &str = "upstream request timeout";

// spec: envoy source/common/router/router.cc, its local replies
#[test]
fn every_local_reply_is_envoys() {
    use Cause::*;
    use ErrorKind as Kind;
    let reset = |reason: &str| format!("{RESET}{reason}");
    let table = [
        (NotReady, Kind::NotReady, 503, "", String::new()),
        (Request, Kind::Request, 400, "", String::new()),
        (NoRoute, Kind::NoRoute, 404, "NR", String::new()),
        (NoCluster(StatusCode::SERVICE_UNAVAILABLE), Kind::NoCluster, 503, "NC", String::new()),
        (NoCluster(StatusCode::INTERNAL_SERVER_ERROR), Kind::NoCluster, 500, "NC", String::new()),
        (Blocked, Kind::Blocked, 502, "", String::new()),
        (NoEndpoints, Kind::NoEndpoints, 503, "UH", "no healthy upstream".to_owned()),
        (Overflow(super::Overflow::Requests), Kind::Overload, 503, "UO", reset("overflow")),
        (Connect { tls: false }, Kind::Connect, 503, "UF", reset("remote connection failure")),
        (Connect { tls: true }, Kind::Tls, 503, "UF", reset("remote connection failure")),
        (ConnectTimeout, Kind::Connect, 503, "UF", reset("connection timeout")),
        (Termination, Kind::Reset, 503, "UC", reset("connection termination")),
        (RemoteReset, Kind::Reset, 503, "UR", reset("remote reset")),
        (RefusedStream, Kind::Reset, 503, "UR", reset("remote refused stream reset")),
        (LocalReset, Kind::Reset, 503, "LR", reset("local reset")),
        (Protocol, Kind::Protocol, 502, "UPE", reset("protocol error")),
        (RouteTimeout, Kind::Timeout, 504, "UT", TIMEOUT.to_owned()),
        (TryTimeout, Kind::Timeout, 504, "UT", TIMEOUT.to_owned()),
    ];
    for (cause, kind, status, flags, body) in table {
        let error = Error::new(cause, "for people").settle(Account::default(), false);
        assert_eq!((error.kind(), error.flags().to_string().as_str()), (kind, flags), "{cause:?}");
        let response = error.into_response();
        assert_eq!(response.status(), status, "{cause:?}");
        assert_eq!(response.body(), &body, "{cause:?}");
        let content_type = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(content_type, (!body.is_empty()).then_some("text/plain"), "{cause:?}");
        let overloaded = response.headers().contains_key("x-envoy-overloaded");
        assert_eq!(overloaded, matches!(cause, Overflow(_)), "{cause:?}");
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
        (Cause::RouteTimeout, "4"),
        (Cause::TryTimeout, "4"),
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
