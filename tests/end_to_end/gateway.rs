//! The `gateway` example: the world comes in through it, by TLS, and only as far as it may.

mod outside;

use crate::harness::{Echo, Process, Town, command, eventually};
use outside::{Answer, Certificate, Login, World, plain};
use std::{net::SocketAddr, process::Command};

/// A gateway before bookinfo-like services, and those who come from outside.
struct Edge {
    town: Town,
    process: Process,
    plain: SocketAddr,
    secure: SocketAddr,
    shop: Certificate,
    login: Login,
    productpage: Echo,
    _reviews: [Echo; 2],
}

impl Edge {
    #[track_caller]
    fn start() -> Self {
        let (town, login) = (Town::start(), Login::new());
        town.edit(&BOOKINFO.replace("KEYS", &login.keys()));
        let shop = Certificate::of("shop.example.com");
        std::fs::create_dir_all(town.path("certs/docs")).unwrap();
        shop.write(&town.path("certs/shop.crt"), &town.path("certs/shop.key"));
        let services = [("productpage", "v1"), ("reviews", "v1"), ("reviews", "v2")];
        let [productpage, first, second] =
            services.map(|(service, version)| town.echo(service, version)).map(Echo::ready);
        let mut gateway = command("gateway");
        gateway.args(["--gateway", "default/bookinfo", "--control", &town.control.url, "--token"]);
        gateway.arg(town.token("gateway", &[])).arg("--credentials").arg(town.path("certs"));
        gateway.args(["--listen", "80=127.0.0.1:0", "--listen", "443=127.0.0.1:0"]);
        let mut process = Process::start("gateway", &mut gateway);
        let plain = process.line("port 80 on ").parse().unwrap();
        let secure = process.line("port 443 on ").parse().unwrap();
        process.line("ready");
        let edge = Self { town, process, plain, secure, shop, login, productpage, _reviews: [first, second] };
        eventually("every service is reached from outside", || {
            let reached = |path| edge.shop(path, "").status == 200;
            (reached("/productpage") && reached("/reviews/")).then_some(())
        });
        edge
    }

    /// Asks for `path` of the shop, as one who trusts its certificate.
    fn shop(&self, path: &str, headers: &str) -> Answer {
        World::trusting(&self.shop).get(self.secure, "shop.example.com", "shop.example.com", path, headers)
    }
}

#[test]
fn the_world_is_sent_to_https_and_from_there_to_the_services_by_mutual_tls() {
    let edge = Edge::start();
    let sent_on = plain(edge.plain, "shop.example.com", "/productpage?id=1");
    assert_eq!(sent_on.status, 301, "{sent_on:?}");
    assert_eq!(sent_on.header("location"), Some("https://shop.example.com/productpage?id=1"));
    assert_eq!(plain(edge.plain, "nowhere.example.com", "/").status, 404);
    assert_eq!(edge.shop("/unrouted", "").status, 404);
    assert_eq!(
        World::trusting(&edge.shop)
            .get(edge.secure, "shop.example.com", "nowhere.example.com", "/", "")
            .status,
        404
    );
    let moved = edge.shop("/old", "");
    assert_eq!((moved.status, moved.header("location")), (301, Some("https://shop.example.com/productpage")));

    let answers: Vec<_> = (0..30).map(|_| edge.shop("/reviews/1", "").json()).collect();
    for version in ["v1", "v2"] {
        assert!(answers.iter().any(|it| it["version"] == version), "nobody got to {version}");
    }
    assert!(answers.iter().all(|it| it["service"] == "reviews" && it["path"] == "/1"), "{answers:?}");
    let gateway = "spiffe://cluster.local/ns/default/sa/gateway";
    assert!(answers.iter().all(|it| it["peer"] == gateway), "{answers:?}");

    // The services let in the gateway and nobody else.
    let calls = edge.productpage.call("http://reviews/", 3);
    assert!(calls.iter().all(|call| call.status == 403), "{calls:?}");
}

#[test]
fn what_only_the_mesh_may_say_nobody_says_from_outside_and_nobody_hears_there() {
    let edge = Edge::start();
    let spoofed = "x-forwarded-client-cert: URI=spiffe://cluster.local/ns/default/sa/admin\r\n\
                   x-envoy-internal: true\r\nx-mesh-provenance: retried\r\nx-forwarded-for: 6.6.6.6\r\n\
                   x-forwarded-proto: http\r\nx-request-id: mine\r\nx-envoy-attempt-count: 7\r\n";
    let answer = edge.shop("/productpage", spoofed);
    let headers = &answer.json()["headers"];
    let said = headers.to_string();
    assert!(!said.contains("sa/admin") && !said.contains("x-envoy-internal"), "{said}");
    assert!(!said.contains("x-mesh-") && !said.contains("mine"), "{said}");
    assert_eq!(headers["x-forwarded-for"][0], "127.0.0.1");
    assert_eq!(headers["x-forwarded-proto"][0], "https");
    assert_eq!(headers["x-envoy-attempt-count"][0], "1");
    assert_eq!(headers["x-request-id"][0].as_str().map(str::len), Some(36));
    assert_eq!(answer.json()["host"], "shop.example.com");
    assert!(!answer.head.contains("x-mesh-"), "{}", answer.head);
    let failed = edge.shop("/productpage?status=503", "");
    assert!(failed.status == 503 && !failed.head.contains("x-mesh-"), "{}", failed.head);
}

#[test]
fn a_token_that_is_not_good_is_refused_and_a_good_one_demanded_where_policy_says_so() {
    let edge = Edge::start();
    let bearer = |token: &str| format!("authorization: Bearer {token}\r\n");
    assert_eq!(edge.shop("/productpage", &bearer("x.y.z")).status, 401);
    assert_eq!(edge.shop("/productpage", &bearer(&Login::new().token())).status, 401);
    assert_eq!(edge.shop("/account", "").status, 403);
    let good = edge.shop("/account", &bearer(&edge.login.token()));
    assert_eq!((good.status, good.json()["service"].as_str()), (200, Some("productpage")));
    // What the token says chooses the route, and what the caller says does not.
    let service = |headers: &str| edge.shop("/productpage", headers).json()["service"].clone();
    assert_eq!(service(&bearer(&edge.login.token())), "reviews");
    assert_eq!(service("group: beta\r\n"), "productpage");
}

#[test]
fn each_name_has_its_certificate_and_a_new_one_is_taken_from_the_files() {
    let edge = Edge::start();
    let world = |certificate: &Certificate, name: &str, host: &str| {
        World::trusting(certificate).get(edge.secure, name, host, "/", "")
    };
    let docs = Certificate::of("docs.example.com");
    assert_eq!(world(&docs, "docs.example.com", "docs.example.com").status, 0, "it has no certificate yet");
    docs.write(&edge.town.path("certs/docs/tls.crt"), &edge.town.path("certs/docs/tls.key"));
    eventually("the certificate of docs is taken", || {
        (world(&docs, "docs.example.com", "docs.example.com").status == 200).then_some(())
    });
    assert_eq!(world(&docs, "shop.example.com", "shop.example.com").status, 0, "the shop has another one");
    assert_eq!(world(&docs, "nowhere.example.com", "nowhere.example.com").status, 0);
    assert_eq!(world(&docs, "docs.example.com", "shop.example.com").status, 421, "another server's door");

    let renewed = Certificate::of("shop.example.com");
    let is_renewed = || (world(&renewed, "shop.example.com", "shop.example.com").status == 404).then_some(());
    assert!(is_renewed().is_none());
    renewed.write(&edge.town.path("certs/shop.crt"), &edge.town.path("certs/shop.key"));
    eventually("the renewed certificate is shown", is_renewed);
    std::fs::write(edge.town.path("certs/shop.key"), "nonsense").unwrap();
    eventually("the mistake is logged", || {
        edge.process.log().contains("the old one stays in force").then_some(())
    });
    assert!(is_renewed().is_some());
}

#[test]
fn where_the_gateway_asks_for_it_clients_show_a_certificate_with_the_right_name() {
    let edge = Edge::start();
    let (staff, ann, bob) = (
        Certificate::of("staff.example.com"),
        Certificate::of("ann.example.com"),
        Certificate::of("bob.example.com"),
    );
    std::fs::write(edge.town.path("certs/staff.ca"), format!("{}{}", ann.pem(), bob.pem())).unwrap();
    staff.write(&edge.town.path("certs/staff.crt"), &edge.town.path("certs/staff.key"));
    let name = "staff.example.com";
    let asked = |world: World| world.get(edge.secure, name, name, "/", "").status;
    eventually("ann is let in", || (asked(World::trusting(&staff).showing(&ann)) == 200).then_some(()));
    assert_eq!(asked(World::trusting(&staff)), 0, "no certificate");
    assert_eq!(asked(World::trusting(&staff).showing(&bob)), 0, "the wrong name");
    assert_eq!(asked(World::trusting(&staff).showing(&Certificate::of("ann.example.com"))), 0, "forged");
    // Nor through the door of a server that asks for nothing.
    let shop = World::trusting(&edge.shop);
    assert_eq!(shop.get(edge.secure, "shop.example.com", name, "/", "").status, 421);
}

#[test]
fn curl_comes_in_as_the_example_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("there is no curl here");
        return;
    }
    let edge = Edge::start();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
        .arg(edge.town.path("certs/shop.crt"));
    curl.args(["--connect-to", &format!("shop.example.com:443:{}", edge.secure)]);
    let output = curl.arg("https://shop.example.com/productpage").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("\"service\":\"productpage\""), "{output:?}");
}

const BOOKINFO: &str = include_str!("gateway/bookinfo.yaml");
