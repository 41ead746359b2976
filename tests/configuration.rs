//! The configuration of the README, tested as a team would test its own.

use mesh::testing::{TestMesh, read_files};

#[test]
fn the_canary_of_the_readme_sends_a_tenth_to_the_new_version() {
    let mesh = TestMesh::of_files(read_files(&["docs/mesh.yaml".into()]));
    mesh.assert_no_errors();
    let checkout = mesh.caller("default/checkout");
    checkout
        .get("http://payment-service/charge")
        .assert_split(&[("payment-service v1", 90), ("payment-service v2", 10)])
        .assert_retries(2);
}
