//! A real SPIRE agent as the Workload API.

use crate::{Shop, eventually, ready, serial};
use mesh::{
    Mesh,
    core::identity::PeerRule,
    runtime::identity::{Alpn, IdentityError},
};
use std::{process::Command, time::Duration};
use tokio::time::sleep;

/// The agent gives one process the SVIDs of both accounts, so each workload names its own.
#[tokio::test]
#[ignore = "needs SPIRE: interop/spire/run"]
async fn workloads_of_spire_call_each_other_until_their_entries_are_deleted() {
    let socket = variable("SPIFFE_ENDPOINT_SOCKET");
    let shop = Shop::open(async |service, config| {
        let id = format!("spiffe://spire.example/ns/default/sa/{service}");
        let mesh = Mesh::builder(service).workload_api(&*socket).svid(id).config(config);
        ready(mesh.start().await.unwrap()).await
    })
    .await;
    for mesh in [&shop.checkout, &shop.payment] {
        believes_the_federated(mesh);
        let before = serial(mesh);
        while serial(mesh) == before {
            shop.call_is_fine().await;
            sleep(Duration::from_millis(20)).await;
        }
        shop.call_is_fine().await;
    }
    forget("checkout");
    is_taken_back(&shop.checkout, "does not give the SVID of spiffe://spire.example/ns/default/sa/checkout")
        .await;
    assert!(shop.payment.workload().identity().current().is_some());
    forget("payment");
    is_taken_back(&shop.payment, "PermissionDenied (no identity issued)").await;
}

fn believes_the_federated(mesh: &Mesh) {
    let identity = mesh.workload().identity().current().expect("an identity");
    let domains: Vec<_> = identity.bundles.trust_domains().map(|domain| domain.as_str()).collect();
    assert_eq!(domains, ["federated.example", "spire.example"]);
}

async fn is_taken_back(mesh: &Mesh, why: &str) {
    let identity = mesh.workload().identity();
    eventually("the redaction", || identity.current().is_none()).await;
    let error = identity.client_config(&PeerRule::Verified, Alpn::Any).unwrap_err();
    assert!(matches!(&error, IdentityError::Missing(reason) if reason.contains(why)), "{error}");
}

fn forget(account: &str) {
    let status = Command::new(variable("MESH_SPIRE_FORGET")).arg(account).status().unwrap();
    assert!(status.success(), "{status}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run interop/spire/run"))
}
