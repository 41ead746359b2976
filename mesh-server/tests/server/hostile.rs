//! Peers with a good certificate and bad intentions: each costs a bounded amount, and the others are served.
//!
//! Nothing is set: these are the defaults.

mod frames;

use crate::support::*;
use frames::*;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use mesh_core::config::istio::MtlsMode;
use mesh_runtime::identity::Alpn;
use mesh_server::RequestBody;
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{io::AsyncWriteExt as _, net::TcpSocket};

/// A server that counts the requests its handler gets; the body of each is read.
struct Counting {
    server: Running,
    handled: Arc<AtomicUsize>,
}

impl Counting {
    async fn start() -> Self {
        let handled = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&handled);
        let service = tower::service_fn(move |request: Request<RequestBody>| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Relaxed);
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(Response::new("done".to_owned()))
            }
        });
        Self { server: Running::start(MtlsMode::Permissive, service, |server| server).await, handled }
    }

    fn handled(&self) -> usize {
        self.handled.load(Relaxed)
    }

    /// Another client is served as if nothing had happened.
    async fn serves_others(&self) {
        let mut other = http2(self.server.mtls(Alpn::Http2).await).await;
        assert_eq!(other.get("/").await.unwrap().0, StatusCode::OK);
    }
}

/// The streams that a client opens, in their order.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

// spec: CVE-2023-44487
#[tokio::test]
async fn a_client_that_resets_what_it_asks_for_is_sent_away() {
    let counting = Counting::start().await;
    let frames = streams().take(20_000).map(|stream| {
        let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head(false));
        [ask, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let said = attack(&counting.server, frames).await;
    assert!(!said.survived, "{said:?}");
    assert!(said.goaway.is_none_or(|error| error == ENHANCE_YOUR_CALM), "{:?}", said.goaway);
    assert!(counting.handled() < 2_000, "{} requests were handled", counting.handled());
    counting.serves_others().await;
}

// spec: CVE-2024-27983 and its kin: CONTINUATION without end
#[tokio::test]
async fn a_head_that_is_continued_without_end_is_cut_off() {
    let counting = Counting::start().await;
    let begin = frame(HEADERS, END_STREAM, 1, &head(false));
    let more = frame(CONTINUATION, 0, 1, &field("x-a", "b"));
    let frames = [begin].into_iter().chain(std::iter::repeat_n(more, 50_000));
    let said = attack(&counting.server, frames).await;
    assert!(!said.survived && counting.handled() == 0, "{said:?}");
    counting.serves_others().await;
}

/// One field of 4 KB goes into the table, and is then named by a byte each: 12 KB that decode to 31 MB.
#[tokio::test]
async fn a_head_that_decodes_to_very_much_reaches_no_handler() {
    let counting = Counting::start().await;
    let value = "x".repeat(4_000);
    // A literal of 4,000 bytes that is put into the table: its length in the form of RFC 7541, 5.1.
    let entry = [&[0x40, 3][..], b"x-a", &[0x7f, 0xa1, 0x1e], value.as_bytes()].concat();
    let bomb = [head(false), entry, vec![0xbe; 8_000]].concat();
    let bomb = frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    let said = ask(&counting.server, [bomb].into_iter()).await;
    assert!(said.is_refused(1) && counting.handled() == 0, "{said:?}");
    counting.serves_others().await;
}

/// Crumbs of a cookie are fields like others, each with what a field costs besides its bytes.
// spec: CVE-2026-47774, CVE-2019-15226
#[tokio::test]
async fn crumbs_of_cookies_and_tiny_fields_count_towards_the_bounds_of_a_head() {
    let counting = Counting::start().await;
    for (name, value, count) in
        [("cookie", "a=b", 200), ("cookie", "a=b", 4_000), ("x", "", 200), ("x", "", 5_000)]
    {
        let fields = std::iter::repeat_n(field(name, value), count).collect::<Vec<_>>().concat();
        let block = [head(false), fields].concat();
        let mut pieces = block.chunks(16_000);
        let first = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap());
        let rest = pieces.map(|piece| frame(CONTINUATION, 0, 1, piece));
        let end = frame(CONTINUATION, END_HEADERS, 1, &[]);
        let frames: Vec<_> = [first].into_iter().chain(rest).chain([end]).collect();
        let said = ask(&counting.server, frames.into_iter()).await;
        assert!(said.is_refused(1) && counting.handled() == 0, "{count} of {name}: {said:?}");
    }
    counting.serves_others().await;
}

/// Each of these asks for an answer and takes none: the server stops reading instead of storing answers, and then gives
/// the client up.
// spec: CVE-2019-9512, CVE-2019-9515, CVE-2020-11080
#[tokio::test]
async fn pings_and_settings_whose_answers_nobody_takes_hold_nothing() {
    for flood in [frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, &[])] {
        let server = Running::start(MtlsMode::Permissive, mirror(), |server| {
            server.limits(|limits| limits.write_stall = Duration::from_millis(200))
        })
        .await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = soon(socket.connect(server.address)).await.unwrap();
        stream.write_all(&opening()).await.unwrap();
        let batch = flood.repeat(1 + 16_000 / flood.len());
        // It never reads: what the server has to say fills the sockets, and then nothing more is taken from it.
        soon(async { while stream.write_all(&batch).await.is_ok() {} }).await;
        let mut other = http2(server.mtls(Alpn::Http2).await).await;
        assert_eq!(other.get("/").await.unwrap().0, StatusCode::OK);
    }
}

/// DATA frames without data cost no window, so that nothing but a bound on them ends them.
// spec: CVE-2019-9518
#[tokio::test]
async fn data_frames_without_data_do_not_go_on_for_ever() {
    let counting = Counting::start().await;
    let begin = frame(HEADERS, END_HEADERS, 1, &head(true));
    let empty = frame(DATA, 0, 1, &[]).repeat(100);
    let said = attack(&counting.server, [begin].into_iter().chain(std::iter::repeat_n(empty, 2_000))).await;
    assert!(!said.survived || said.resets.contains_key(&1), "{said:?}");
    counting.serves_others().await;
}

// spec: CVE-2021-28682
#[tokio::test]
async fn a_timeout_of_any_length_is_no_shorter_than_it_says_and_does_no_harm() {
    let counting = Counting::start().await;
    for (name, value) in [
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", "99999999999999999999H"),
        ("grpc-timeout", "18446744073709551615S"),
        ("grpc-timeout", "-1S"),
        ("x-envoy-expected-rq-timeout-ms", "18446744073709551615"),
        ("x-envoy-expected-rq-timeout-ms", "99999999999999999999999999"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{name}: {value}\r\nconnection: close\r\n\r\n");
        let answer = exchange(counting.server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {value}: {answer}");
    }
}

/// Each of these is one request to some servers and two to others.
#[tokio::test]
async fn what_could_be_two_requests_is_never_more_than_one_and_ends_the_connection() {
    const SECOND: &str = "GET /second HTTP/1.1\r\nhost: a\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let table = [
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}"
        ),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 40\r\n\r\n{SECOND}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 40\r\n\r\n{SECOND}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x0\r\n\r\n{SECOND}"),
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{SECOND}"
        ),
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\nx: 1\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("POST / HTTP/1.1\r\nhost: a\r\nx: 1\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}zz\r\nab\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}1;\nab\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}-1\r\nab\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}ffffffffffffffffff\r\nab\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}1\r\nabc\r\n0\r\n\r\n{SECOND}"),
        format!("{CHUNKED}1 \nab\n0\n\n{SECOND}"),
    ];
    let counting = Counting::start().await;
    for request in table {
        let before = counting.handled();
        let answer = exchange(counting.server.address, request.as_bytes()).await;
        assert!(counting.handled() - before <= 1, "{request:?}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request:?}: {answer}");
    }
    counting.serves_others().await;
}

#[tokio::test]
async fn a_request_that_names_two_hosts_is_refused_on_http2_too() {
    let counting = Counting::start().await;
    let two = [head(false), field("host", "other")].concat();
    let two = frame(HEADERS, END_HEADERS | END_STREAM, 1, &two);
    let said = ask(&counting.server, [two].into_iter()).await;
    assert_eq!(counting.handled(), 0, "{said:?}");
}
