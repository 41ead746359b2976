//! Two workloads whose identities come from a SPIFFE Workload API, over sockets: from an agent in this process, and
//! from SPIRE, which `interop/spire/run` starts.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the client")]
#[path = "../../mesh-runtime/tests/workload_api/agent.rs"]
mod agent;
mod authority;
mod spire;

use agent::{Agent, Says};
use authority::Authority;
use axum::{Router, routing::get};
use http_body_util::BodyExt as _;
use mesh::{Mesh, Peer};
use std::{future::pending, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn rotations_on_both_sides_fail_no_call() {
    let (sockets, authority) = (Sockets::new(), Authority::new());
    let agents = ACCOUNTS.map(|account| sockets.agent(account, authority.answer(account)));
    let shop = sockets.shop().await;
    for _ in 0..5 {
        for (account, agent) in ACCOUNTS.iter().zip(&agents) {
            let mesh = if *account == "checkout" { &shop.checkout } else { &shop.payment };
            let before = serial(mesh);
            agent.say(authority.answer(account));
            while serial(mesh) == before {
                shop.call_is_fine().await;
            }
            shop.call_is_fine().await;
        }
    }
}

#[tokio::test]
async fn who_has_no_right_to_an_identity_any_more_makes_no_call_not_even_in_plaintext() {
    let (sockets, authority) = (Sockets::new(), Authority::new());
    let [checkout, _payment] =
        ["checkout", "payment"].map(|account| sockets.agent(account, authority.answer(account)));
    let shop = sockets.shop().await;
    shop.call_is_fine().await;
    checkout.say(Says::Denied);
    eventually("the redaction", || shop.checkout.workload().identity().current().is_none()).await;
    // A connection that stands is ended soon, by either side.
    let error = loop {
        match shop.call().await {
            Ok(_) => sleep(Duration::from_millis(10)).await,
            Err(error) => break error,
        }
    };
    assert!(error.contains("this workload has no identity: SPIFFE Workload API"), "{error}");
    checkout.say(authority.answer("checkout"));
    eventually("the identity", || shop.checkout.workload().identity().current().is_some()).await;
    shop.call_is_fine().await;
}

#[tokio::test]
async fn a_member_of_the_same_name_with_another_authority_is_refused() {
    let sockets = Sockets::new();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let _payment = sockets.agent("payment", ours.answer("payment"));
    // It believes payment, so that the refusal is payment's.
    let mut stranger = theirs.answer("checkout");
    stranger.svids[0].bundle.clone_from(&ours.root);
    let _checkout = sockets.agent("checkout", stranger);
    let shop = sockets.shop().await;
    assert!(shop.call().await.is_err());
}

const ACCOUNTS: [&str; 2] = ["checkout", "payment"];

/// Checkout calls payment, which is STRICT and serves checkout alone.
struct Shop {
    checkout: Mesh,
    payment: Mesh,
    _config: TempDir,
}

impl Shop {
    async fn open(start: impl AsyncFn(&str, &Path) -> Mesh) -> Self {
        let config = tempfile::tempdir().unwrap();
        let file = config.path().join("mesh.yaml");
        std::fs::write(&file, POLICY).unwrap();
        let payment = start("payment", &file).await;
        let server = payment.bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().port();
        let hello = get(|peer: Peer| async move { peer.id().to_string() });
        tokio::spawn(server.serve(Router::new().route("/", hello), pending()));
        std::fs::write(&file, format!("{POLICY}{}", SERVICE.replace("PORT", &port.to_string()))).unwrap();
        let checkout = start("checkout", &file).await;
        Self { checkout, payment, _config: config }
    }

    /// Returns whom payment saw.
    async fn call(&self) -> Result<String, String> {
        let response = self.checkout.client().get("http://payment/").await.map_err(|e| e.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if head.status == 200 { Ok(text) } else { Err(format!("{}: {text}", head.status)) }
    }

    async fn call_is_fine(&self) {
        let caller = self.call().await.unwrap();
        assert!(caller.ends_with("/ns/default/sa/checkout"), "{caller}");
    }
}

/// A directory with the sockets of agents, one for each account: all tests are one process.
struct Sockets(TempDir);

impl Sockets {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn agent(&self, account: &str, says: impl Into<Says>) -> Agent {
        Agent::start(&self.0.path().join(account), says)
    }

    async fn shop(&self) -> Shop {
        Shop::open(async |service, config| {
            let socket = format!("unix://{}", self.0.path().join(service).display());
            ready(Mesh::builder(service).workload_api(socket).config(config).start().await.unwrap()).await
        })
        .await
    }
}

async fn ready(mesh: Mesh) -> Mesh {
    if timeout(ROUND_MAX, mesh.ready()).await.is_err() {
        panic!("not ready: {:?}", mesh.workload().readiness());
    }
    mesh
}

fn serial(mesh: &Mesh) -> String {
    let identity = mesh.workload().identity().current().expect("an identity");
    identity.svid.serial().to_owned()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(ROUND_MAX, holds).await.is_ok(), "not once: {what}");
}

/// How long anything may take that takes milliseconds.
const ROUND_MAX: Duration = Duration::from_secs(120);

const POLICY: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: payment, namespace: default}
spec: {rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/checkout]}}]}]}
";

/// No call is tried twice, so that none fails unseen.
const SERVICE: &str = "\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment}
spec:
  hosts: [payment.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - address: 127.0.0.1
    ports: {http: PORT}
    labels: {security.istio.io/tlsMode: istio}
    serviceAccount: payment
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: payment}
spec:
  hosts: [payment]
  http: [{route: [{destination: {host: payment}}], retries: {attempts: 0}}]
";
