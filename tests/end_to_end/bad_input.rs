//! What nobody should send, and nobody may stumble over.

use crate::{
    harness::{ARTICLE, Town, eventually, meshctl, weights},
    intruder::plaintext,
};
use std::fmt::Write as _;

const PAYMENT: &str = "http://payment-service/";

#[test]
fn a_file_beyond_every_bound_is_refused_and_the_mesh_goes_on() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let mut large = String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: large}\ndata:\n");
    while large.len() < 10 << 20 {
        let _ = writeln!(large, "  key-{}: {}", large.len(), "x".repeat(200));
    }
    let deep = format!("kind: VirtualService\nspec: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let laughs = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                  d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nkind: *e\n";
    for (what, text) in [("10 MB", large.as_str()), ("deep nesting", &deep), ("a billion laughs", laughs)] {
        town.edit(text);
        eventually(&format!("{what} is refused"), || {
            (!town.control.refused(&town.data()).is_empty()).then_some(())
        });
        let calls = checkout.call(PAYMENT, 20);
        assert!(calls.iter().all(|call| call.is_fine()), "{what}: {calls:?}");
        town.edit(ARTICLE);
        eventually(&format!("{what} is mended"), || {
            town.control.refused(&town.data()).is_empty().then_some(())
        });
    }
}

#[test]
fn a_kind_that_means_nothing_here_is_left_alone() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let extra =
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: payment}\nspec: {replicas: 3}\n";
    let only_v2 = weights(0, 100);
    town.edit(&(only_v2 + extra));
    eventually("the rest of the file is in force", || {
        checkout.call(PAYMENT, 30).iter().all(|call| call.version() == "v2").then_some(())
    });
}

#[test]
fn garbage_on_the_control_port_hurts_nobody() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let address = town.control.address().parse().unwrap();
    let silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    for garbage in
        [&b"GET /v1/status HTTP/1.1\r\n\r\n"[..], &[0; 70_000], &[0xff; 70_000], b"\x16\x03\x01\xff\xff"]
    {
        plaintext(address, garbage);
    }
    assert!(town.control.refused(&town.data()).is_empty());
    town.edit(&weights(0, 100));
    eventually("an edit still arrives", || {
        checkout.call(PAYMENT, 30).iter().all(|call| call.version() == "v2").then_some(())
    });
    drop(silent);
}

#[test]
fn a_wrong_call_of_meshctl_ends_with_2_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let table: [&[&str]; 6] = [
        &[],
        &["no-such-command"],
        &["serve"],
        &["serve", "--config", "/no/such/directory/at/all", "--listen", "127.0.0.1:0", "--data", path],
        &["serve", "--config", path, "--data", path, "--insecure-http", "--listen", "0.0.0.0:0"],
        &["token", "--data", path, "--namespace", "Not A Name", "--service-account", "x"],
    ];
    for arguments in table {
        let output = meshctl().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stderr.len() > 10, "{arguments:?} says nothing");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{arguments:?}: {output:?}");
    }
}
