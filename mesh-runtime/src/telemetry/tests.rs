use super::*;
use mesh_core::{
    config::istio::MtlsMode,
    event::{Flag, Flags},
};
use std::time::Duration;

#[test]
fn a_request_from_a_peer_is_counted_under_its_identity() {
    let telemetry = telemetry();
    let peer: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    telemetry.server(Some(&peer)).on_answer(200, Flags::NONE, Duration::from_millis(3));
    telemetry.server(Some(&peer)).on_answer(200, Flags::NONE, Duration::from_millis(3));
    telemetry.server(None).on_answer(503, Flag::UO.into(), Duration::ZERO);
    let text = render(&telemetry);
    let line = |parts: &[&str]| text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(line(&[
        "istio_requests_total{reporter=\"destination\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/web\"",
        "source_workload=\"web\"",
        "source_workload_namespace=\"shop\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_code=\"200\",response_flags=\"-\"} 2",
    ]));
    assert!(line(&[
        "source_principal=\"unknown\"",
        "connection_security_policy=\"none\"",
        "response_code=\"503\",response_flags=\"UO\"} 1",
    ]));
    assert!(line(&["istio_request_duration_milliseconds_bucket", "le=\"5\"} 2"]), "{text}");
}

#[test]
fn peers_beyond_the_bound_share_one_series_and_those_that_left_make_room() {
    let telemetry = telemetry();
    let peer = |n: usize| format!("spiffe://cluster.local/ns/shop/sa/web{n}").parse::<SpiffeId>().unwrap();
    let held: Vec<_> = (0..PEERS_MAX).map(|n| telemetry.server(Some(&peer(n)))).collect();
    telemetry.server(Some(&peer(PEERS_MAX))).on_answer(200, Flags::NONE, Duration::ZERO);
    assert!(render(&telemetry).contains("source_principal=\"overflow\""));
    drop(held);
    telemetry.server(Some(&peer(PEERS_MAX + 1))).on_answer(200, Flags::NONE, Duration::ZERO);
    assert!(render(&telemetry).contains(&format!("sa/web{}\"", PEERS_MAX + 1)));
    assert!(telemetry.inbound.all().len() <= 2);
}

#[test]
fn refused_handshakes_are_counted_by_reason() {
    let telemetry = telemetry();
    telemetry.on_handshake_refused(Side::Client, "Expired");
    telemetry.on_handshake_refused(Side::Client, "Expired");
    let text = render(&telemetry);
    assert!(text.contains("mesh_handshakes_refused_total{peer=\"client\",reason=\"Expired\"} 2\n"), "{text}");
}

/// A server that has a limit.
#[derive(Debug)]
struct Limited;

impl Gate for Limited {
    fn reading(&self) -> GateReading {
        GateReading { port: 8080, running: 3, waiting: 2, limit: Some(4), refused: vec![("queue_full", 7)] }
    }
}

/// A server that has none.
#[derive(Debug)]
struct Unlimited;

impl Gate for Unlimited {
    fn reading(&self) -> GateReading {
        GateReading { port: 8081, ..GateReading::default() }
    }
}

#[test]
fn a_gate_is_shown_as_it_stands_for_as_long_as_its_server_is_there() {
    let telemetry = telemetry();
    let (limited, unlimited) = (Arc::new(Limited), Arc::new(Unlimited));
    let gates: [Arc<dyn Gate>; 2] = [limited, unlimited];
    gates.iter().for_each(|gate| telemetry.on_gate(Arc::downgrade(gate)));
    let text = render(&telemetry);
    for line in [
        "mesh_server_requests_running{port=\"8080\"} 3\n",
        "mesh_server_requests_waiting{port=\"8080\"} 2\n",
        "mesh_server_requests_limit{port=\"8080\"} 4\n",
        "mesh_server_requests_refused_total{port=\"8080\",reason=\"queue_full\"} 7\n",
        "mesh_server_requests_running{port=\"8081\"} 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("mesh_server_requests_limit{port=\"8081\"}"), "{text}");
    drop(gates);
    assert!(!render(&telemetry).contains("port=\"8080\""));
}

#[test]
fn a_service_is_named_by_its_host() {
    for (host, expected) in [
        ("payment-service.default.svc.cluster.local", ("payment-service", "default")),
        ("a.b.svc", ("a", "b")),
        ("api.example.com", ("api.example.com", "unknown")),
        ("a.b.c.svc.cluster.local", ("a.b.c.svc.cluster.local", "unknown")),
        ("localhost", ("localhost", "unknown")),
    ] {
        assert_eq!(service_name(host), expected, "{host}");
    }
}

fn telemetry() -> Telemetry {
    Telemetry::new(&Settings::for_service("checkout"))
}

fn render(telemetry: &Telemetry) -> String {
    let identity = Arc::new(IdentityStore::empty());
    let progress = Progress::new(Arc::clone(&identity), false);
    telemetry.render(&progress, &identity, &Snapshot::empty(MtlsMode::Permissive), Time::ZERO)
}
