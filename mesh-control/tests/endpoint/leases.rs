//! Who may register what, and what becomes of it.

use crate::bed::{Bed, csr, lease, until};
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_account_registers_what_it_was_given_in_its_own_namespace() {
    let bed = Bed::plain().await;
    bed.edit(
        "\
apiVersion: v1
kind: Service
metadata:
  name: basket
  annotations: {alpha.istio.io/kubernetes-serviceaccounts: 'other, cart'}
spec:
  ports: [{name: http, port: 80}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock}
spec:
  hosts: [stock.default.svc.cluster.local]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  subjectAltNames: [spiffe://cluster.local/ns/default/sa/cart]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stolen, namespace: shop}
spec:
  hosts: [payment.default.svc.cluster.local]
  ports: [{name: http, number: 80, protocol: HTTP}]
  resolution: STATIC
  location: MESH_INTERNAL
  subjectAltNames: [spiffe://cluster.local/ns/default/sa/cart]
",
    );
    until("the edit", async || bed.entry("stock").await.is_some()).await;
    let token = bed.token("default", "cart", &["checkout"]);
    let table = [
        ("default/cart/a", 201, "its own name"),
        ("default/checkout/a", 201, "its token names it"),
        ("default/basket/a", 201, "the Service names it"),
        ("default/stock/a", 201, "the ServiceEntry names it"),
        ("default/payment/a", 403, "an entry of another namespace names it"),
        ("default/orders/a", 403, "nobody gave it"),
        ("shop/cart/a", 403, "another namespace"),
        ("Default/cart/a", 400, "no namespace"),
        ("default/ca%72t/a", 400, "no service"),
        ("default/cart/a%20b", 400, "no instance"),
    ];
    for (path, expected, why) in table {
        let reply = bed.ask(Method::PUT, &format!("/v1/workloads/{path}"), Some(&token), lease(8080)).await;
        assert_eq!(reply.status, expected, "{why}: {reply:?}");
    }
    let refusal = bed.ask(Method::PUT, "/v1/workloads/default/orders/a", Some(&token), lease(8080)).await;
    assert!(refusal.message().contains("--service orders"), "{}", refusal.message());
}

#[tokio::test]
async fn the_services_of_a_token_are_remembered_for_the_certificate_that_follows() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &["checkout"]);
    let ask = json!({"csr": csr("spiffe://cluster.local/ns/default/sa/cart")});
    let first = bed.ask(Method::POST, "/v1/certificates", Some(&token), ask.clone()).await.json();
    let renewal = first["renewal"].as_str().unwrap();
    let second = bed.ask(Method::POST, "/v1/certificates", Some(renewal), ask).await.json();
    let renewal = second["renewal"].as_str().unwrap();
    let put = async |service: &str| {
        let path = format!("/v1/workloads/default/{service}/a");
        bed.ask(Method::PUT, &path, Some(renewal), lease(8080)).await.status
    };
    assert_eq!(
        (put("checkout").await, put("orders").await),
        (201.try_into().unwrap(), 403.try_into().unwrap())
    );
}

#[tokio::test]
async fn an_instance_is_its_creators_alone() {
    let bed = Bed::plain().await;
    let path = "/v1/workloads/default/cart/a";
    let owner = bed.register("cart", "a", 8080).await;
    let thief = bed.token("default", "thief", &["cart"]);
    let taken = bed.ask(Method::PUT, path, Some(&thief), lease(6666)).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["code"]), (409, &json!("conflict")));
    let ended = bed.ask(Method::DELETE, path, Some(&thief), Value::Null).await;
    assert_eq!(ended.status, 409, "{ended:?}");
    assert_eq!(bed.entry("cart").await.unwrap()["spec"]["endpoints"][0]["ports"]["http"], 8080);
    assert_eq!(bed.ask(Method::DELETE, path, Some(&owner), Value::Null).await.status, 204);
    let left = bed.entry("cart").await.expect("callers of a name that nobody knows go past the mesh");
    assert_eq!(left["spec"]["endpoints"], json!([]));
    assert_eq!(left["spec"]["ports"][0]["number"], 80);
    assert_eq!(left["metadata"]["annotations"]["mesh/lease"], "withdrawn");
    assert_eq!(bed.ask(Method::DELETE, path, Some(&owner), Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_lease_is_served_as_the_service_entry_that_istio_would_need() {
    let bed = Bed::plain().await;
    let token = bed.token("shop", "robot", &["cart"]);
    let body = json!({
        "address": "10.1.2.3", "ports": {"http": 8080, "grpc-admin": 9090}, "labels": {"version": "v1"},
        "locality": "eu/a", "servicePort": 8000,
    });
    let put = async || {
        let reply = bed.ask(Method::PUT, "/v1/workloads/shop/cart/c-1", Some(&token), body.clone()).await;
        assert!(reply.status.is_success(), "{reply:?}");
    };
    put().await;
    let mut expected = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "cart", "namespace": "shop", "annotations": {"mesh/origin": "leases"}},
        "spec": {
            "hosts": ["cart.shop.svc.cluster.local"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [
                {"number": 8000, "name": "http", "protocol": "HTTP"},
                {"number": 9090, "name": "grpc-admin", "protocol": "GRPC"},
            ],
            "endpoints": [{
                "address": "10.1.2.3",
                "ports": {"http": 8080, "grpc-admin": 9090},
                "labels": {"version": "v1"},
                "locality": "eu/a",
                "serviceAccount": "robot",
            }],
        },
    });
    assert_eq!(bed.entry("cart").await.unwrap(), expected);

    // With a certificate in hand its endpoint takes mutual TLS.
    let ask = json!({"csr": csr("spiffe://cluster.local/ns/shop/sa/robot")});
    assert_eq!(bed.ask(Method::POST, "/v1/certificates", Some(&token), ask).await.status, 200);
    put().await;
    expected["spec"]["endpoints"][0]["labels"]["security.istio.io/tlsMode"] = "istio".into();
    assert_eq!(bed.entry("cart").await.unwrap(), expected);
}

#[tokio::test]
async fn the_ports_of_a_declared_service_rule() {
    let bed = Bed::plain().await;
    bed.edit(
        "\
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  ports: [{name: web, port: 80, targetPort: 9000}, {name: grpc, port: 50051}]
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec:
  ports: [{port: 8000, targetPort: http}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: stock}
spec:
  hosts: [stock.default.svc.cluster.local]
  ports: [{name: only, number: 443, protocol: HTTP2}]
  resolution: STATIC
  location: MESH_INTERNAL
",
    );
    until("the edit", async || bed.entry("stock").await.is_some()).await;
    bed.register("cart", "a", 8080).await;
    bed.register("stock", "a", 8081).await;
    bed.register("plain", "a", 8082).await;
    let plain = bed.entry("plain").await.unwrap();
    assert_eq!(
        plain["spec"]["ports"],
        json!([{"number": 8000, "name": "http", "protocol": "HTTP"}]),
        "an entry has to say what a Service may leave out"
    );
    assert_eq!(plain["spec"]["endpoints"][0]["ports"], json!({"http": 8082}));
    let cart = bed.entry("cart").await.unwrap();
    assert_eq!(
        cart["spec"]["endpoints"][0]["ports"],
        json!({"web": 8080}),
        "the port that callers know as 80"
    );
    assert_eq!(cart["spec"]["ports"][1]["number"], 50051);
    let stock = bed.entry("stock-leases").await.expect("the name of the user's own entry is taken");
    assert_eq!(stock["spec"]["endpoints"][0]["ports"], json!({"only": 8081}));
    assert_eq!(stock["spec"]["ports"], json!([{"number": 443, "name": "only", "protocol": "HTTP2"}]));
}

#[tokio::test]
async fn a_heartbeat_does_not_change_the_version_and_a_new_instance_does() {
    let bed = Bed::plain().await;
    let version = async || bed.status().await["version"].clone();
    let empty = version().await;
    bed.register("cart", "a", 8080).await;
    let one = version().await;
    assert_ne!(empty, one);
    bed.register("cart", "a", 8080).await;
    assert_eq!(one, version().await);
    bed.register("cart", "b", 8081).await;
    assert_ne!(one, version().await);
}

#[tokio::test]
async fn a_silent_instance_leaves_but_the_last_of_a_service_stays_marked() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    for instance in ["a", "b"] {
        let mut short = lease(8080);
        short["ttlSeconds"] = 1.into();
        short["labels"]["name"] = instance.into();
        let path = format!("/v1/workloads/default/cart/{instance}");
        assert_eq!(bed.ask(Method::PUT, &path, Some(&token), short).await.status, 201);
    }
    let endpoints =
        async || bed.entry("cart").await.unwrap()["spec"]["endpoints"].as_array().unwrap().clone();
    assert_eq!(endpoints().await.len(), 2);
    let expired = async || endpoints().await[0]["labels"]["mesh/lease"] == "expired";
    until("the end of both", async || expired().await && endpoints().await.len() == 1).await;
    assert_eq!(endpoints().await[0]["labels"]["name"], "b", "it was heard last");
    bed.register("cart", "c", 8082).await;
    assert_eq!(endpoints().await.len(), 1, "the expired one stays beside a live one");
}

#[tokio::test]
async fn a_lease_body_that_is_wrong_is_refused_with_the_field() {
    let bed = Bed::plain().await;
    let token = bed.token("default", "cart", &[]);
    let table = [
        ("", "the body: EOF"),
        ("{", "the body: EOF"),
        ("[1", "[0]: invalid type"),
        ("\u{0}", "expected value"),
        (r#"{"address": "127.0.0.1", "ports": {"http": "x"}}"#, "ports.http: invalid type"),
        (r#"{"address": "127.0.0.1", "ports": {"http": 1}, "identity": "admin"}"#, "identity: unknown field"),
        (
            r#"{"address": "127.0.0.1", "ports": {"http": 1}, "serviceAccount": "admin"}"#,
            "serviceAccount: unknown",
        ),
        (r#"{"address": "example.com", "ports": {"http": 1}}"#, "address: \"example.com\" is no IP address"),
        (r#"{"address": "127.0.0.1", "ports": {}}"#, "ports: 0 of them"),
        (r#"{"address": "127.0.0.1", "ports": {"http": 1}, "ttlSeconds": 0}"#, "ttlSeconds: 0"),
    ];
    for (body, expected) in table {
        let call = bed.call(Method::PUT, "/v1/workloads/default/cart/a").bearer(Some(&token));
        let reply = call.bytes(body).send().await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
        assert!(reply.message().contains(expected), "{body}: {}", reply.message());
    }
    let call = bed.call(Method::PUT, "/v1/workloads/default/cart/a").bearer(Some(&token));
    assert_eq!(call.bytes([0xff, 0xfe]).send().await.status, 400);
}
