//! A real SPIRE agent as the Workload API.

use crate::{Shop, eventually, ready, serial};
use mesh::Mesh;

/// The agent gives one process the SVIDs of both accounts, so each workload names its own.
#[tokio::test]
#[ignore = "needs SPIRE: interop/spire/run"]
async fn workloads_of_spire_call_each_other_across_a_rotation_of_both() {
    let socket = std::env::var("SPIFFE_ENDPOINT_SOCKET").expect("SPIFFE_ENDPOINT_SOCKET");
    let shop = Shop::open(async |service, config| {
        let id = format!("spiffe://spire.example/ns/default/sa/{service}");
        let mesh = Mesh::builder(service).workload_api(&*socket).svid(id).config(config);
        ready(mesh.start().await.unwrap()).await
    })
    .await;
    for mesh in [&shop.checkout, &shop.payment] {
        let before = serial(mesh);
        shop.call_is_fine().await;
        while serial(mesh) == before {
            shop.call_is_fine().await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        shop.call_is_fine().await;
    }
    federated(&shop.checkout).await;
}

/// A bundle that is federated while the workload runs is believed soon.
async fn federated(mesh: &Mesh) {
    eventually("the federated bundle", || {
        let identity = mesh.workload().identity().current().expect("an identity");
        identity.bundles.trust_domains().any(|domain| domain.as_str() == "federated.example")
    })
    .await;
}
