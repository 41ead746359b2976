//! Which endpoint a call goes to: by what of it is hashed, and by where caller and endpoints are.

use crate::support::*;
use bytes::Bytes;
use http::{Request, header::COOKIE};
use http_body_util::Empty;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

#[tokio::test]
async fn requests_with_the_same_hash_go_to_the_same_endpoint_and_others_spread() {
    let bed = Bed::new(&[""; 4]).await;
    for table in ["ringHash: {}", "maglev: {}"] {
        for (hashed, of) in [
            ("httpHeaderName: x-user", Key::Header),
            ("httpCookie: {name: user}", Key::Cookie),
            ("httpQueryParameterName: user", Key::Query),
        ] {
            let mesh =
                bed.mesh(&format!("{{loadBalancer: {{consistentHash: {{{hashed}, {table}}}}}}}")).await;
            let mut used = BTreeSet::new();
            for user in 0..20 {
                let first = text(&mesh, of.request(user)).await;
                for _ in 0..3 {
                    assert_eq!(text(&mesh, of.request(user)).await, first, "{table}, {hashed}, {user}");
                }
                used.insert(first);
            }
            assert!(used.len() > 2, "{table}, {hashed}: {used:?}");
        }
    }
}

#[tokio::test]
async fn a_caller_without_the_cookie_is_given_one_that_leads_back() {
    let bed = Bed::new(&[""; 4]).await;
    let cookie = "{name: seat, ttl: 60s, path: /shop, attributes: [{name: SameSite, value: Lax}]}";
    let mesh = bed.mesh(&format!("{{loadBalancer: {{consistentHash: {{httpCookie: {cookie}}}}}}}")).await;
    let mut used = BTreeSet::new();
    for _ in 0..20 {
        let answer = mesh.get("http://reviews/").await.unwrap();
        let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        let (pair, attributes) = set.split_once("; ").unwrap();
        assert_eq!(attributes, "Max-Age=60; Path=/shop; SameSite=Lax; HttpOnly");
        let first = answer.into_body().text().await.unwrap();
        let back = Request::get("http://reviews/").header(COOKIE, pair).body(Empty::<Bytes>::new()).unwrap();
        let answer = mesh.client.send(back).await.unwrap();
        assert!(!answer.headers().contains_key("set-cookie"), "it has one");
        assert_eq!(answer.into_body().text().await.unwrap(), first);
        used.insert(first);
    }
    assert!(used.len() > 1, "{used:?}");
}

#[tokio::test]
async fn all_requests_of_a_client_have_one_source_address() {
    let bed = Bed::new(&[""; 4]).await;
    let rule = "{loadBalancer: {consistentHash: {useSourceIp: true}}}";
    let mut used = BTreeSet::new();
    for _ in 0..10 {
        let mesh = bed.mesh(rule).await;
        let first = mesh.text("http://reviews/").await;
        for _ in 0..5 {
            assert_eq!(mesh.text("http://reviews/").await, first);
        }
        used.insert(first);
    }
    assert!(used.len() > 1, "another client goes elsewhere: {used:?}");
}

#[tokio::test]
async fn the_nearest_endpoints_are_called_until_they_fail() {
    let bed = Bed::new(&["eu/a", "eu/b", "us/a"]).await;
    let rule =
        "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100, baseEjectionTime: 60s}}";
    let mesh = bed.mesh(rule).await;
    for _ in 0..10 {
        assert_eq!(mesh.text("http://reviews/").await, "0 eu/a");
    }
    for (failing, next) in ["1 eu/b", "2 us/a"].into_iter().enumerate() {
        let fail = Request::get("http://reviews/fail").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(mesh.client.send(fail).await.unwrap().status(), 500, "{failing}");
        for _ in 0..10 {
            assert_eq!(mesh.text("http://reviews/").await, next);
        }
    }
}

#[tokio::test]
async fn requests_are_distributed_over_localities_as_the_rule_says_of_the_caller_s() {
    let bed = Bed::new(&["eu/a", "eu/b", "us/a"]).await;
    let rule = "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {distribute: [
        {from: eu/a, to: {eu/b: 30, us: 70}}, {from: us, to: {eu/a: 100}}]}}}";
    let mesh = bed.mesh(rule).await;
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        *counts.entry(mesh.text("http://reviews/").await).or_default() += 1;
    }
    assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), ["1 eu/b", "2 us/a"]);
    // 120 are expected; 60 is six standard deviations away.
    assert!((60..180).contains(&counts["1 eu/b"]), "{counts:?}");
}

/// By count: of two draws the faster endpoint is taken, so that the slow one is left with a quarter.
#[tokio::test]
async fn an_endpoint_that_answers_slowly_gets_fewer_requests_where_the_rule_is_annotated_so() {
    let fast = Server::start(|_| async { answer("fast") }).await;
    let slow = Server::start(|_| async {
        pass(Duration::from_secs(1)).await;
        answer("slow")
    });
    let slow = slow.await;
    let endpoints = service("reviews", &[(fast.address, "v1"), (slow.address, "v1")]);
    for (annotation, expected) in [("mesh/loadBalancer: PEAK_EWMA", 60..140), ("note: none", 150..250)] {
        let rule = annotated("reviews", annotation, "{tls: {mode: DISABLE}}");
        let mesh = Mesh::new(&(endpoints.clone() + &rule)).await;
        let mut count = 0;
        for _ in 0..400 {
            count += u32::from(mesh.text("http://reviews/").await == "slow");
        }
        // Each bound is four standard deviations away, or more.
        assert!(expected.contains(&count), "{annotation}: {count} of 400");
    }
}

/// Servers that answer with their number and place, one for each of the places; `/fail` answers 500.
struct Bed {
    servers: Vec<Server>,
    places: Vec<&'static str>,
}

impl Bed {
    async fn new(places: &[&'static str]) -> Self {
        let mut servers = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let text = format!("{number} {place}");
            let server = Server::start(move |request| {
                let fails = request.uri().path() == "/fail";
                let answer = if fails { status(500) } else { answer(text.clone()) };
                async { answer }
            });
            servers.push(server.await);
        }
        Self { servers, places: places.to_vec() }
    }

    /// A caller in `eu/a`.
    async fn mesh(&self, traffic_policy: &str) -> Mesh {
        let endpoints = self.servers.iter().zip(&self.places).map(|(server, place)| {
            let locality = if place.is_empty() { String::new() } else { format!(", locality: {place}") };
            format!(
                "{{address: {}, ports: {{http: {}}}{locality}}}",
                server.address.ip(),
                server.address.port()
            )
        });
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        let entry = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: reviews}}
spec:
  hosts: [reviews.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{endpoints}]
---"
        );
        let mesh = Mesh::start(mesh_runtime::Settings::for_service("client")).await;
        mesh.apply_seen_from("eu/a", &(entry + &policy("reviews", traffic_policy)));
        mesh
    }
}

async fn text(mesh: &Mesh, request: Request<Empty<Bytes>>) -> String {
    mesh.client.send(request).await.unwrap().into_body().text().await.unwrap()
}

#[derive(Clone, Copy)]
enum Key {
    Header,
    Cookie,
    Query,
}

impl Key {
    fn request(self, user: u32) -> Request<Empty<Bytes>> {
        let request = match self {
            Self::Header => Request::get("http://reviews/").header("x-user", user),
            Self::Cookie => Request::get("http://reviews/").header(COOKIE, format!("a=b; user={user}")),
            Self::Query => Request::get(format!("http://reviews/?a=b&user={user}")),
        };
        request.body(Empty::new()).unwrap()
    }
}
