//! Who would be cut off is known before anybody is.

use crate::{
    harness::{ARTICLE, Town, eventually, meshctl},
    intruder::plaintext,
};

#[test]
fn check_names_the_callers_that_strict_would_cut_off_and_strict_cuts_off_them_alone() {
    let (town, [v1, _v2, checkout]) = Town::with_the_article(&[]);
    let mode = |mode: &str| {
        town.edit(&format!(
            "{ARTICLE}---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: all, namespace: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        ));
    };
    let request = b"GET /old HTTP/1.1\r\nhost: payment-service\r\nconnection: close\r\n\r\n";
    mode("PERMISSIVE");
    eventually("plaintext is answered", || plaintext(v1.mesh, request).contains("200 OK").then_some(()));
    let check = || {
        let mut check = meshctl();
        check.args(["check", "--strict", "--control", &town.control.url, "--data"]).arg(town.data());
        let output = check.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = eventually("the caller is reported", || {
        Some(check()).filter(|(_, text)| text.contains("in plaintext"))
    });
    let line = format!("default/payment-service:{}: 127.0.0.1 in plaintext", v1.mesh.port());
    assert!(code == Some(1) && text.contains(&line), "{text}");
    assert!(!text.contains("sa/checkout"), "{text}");

    mode("STRICT");
    eventually("plaintext is answered no more", || plaintext(v1.mesh, request).is_empty().then_some(()));
    assert!(checkout.call("http://payment-service/", 20).iter().all(|call| call.is_fine()));
}
