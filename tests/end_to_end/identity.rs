//! Point 4: who gets a certificate, how it is rotated, and what survives a restart.

use crate::harness::{Caller, Echo, Town, command, eventually, meshctl};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const PAYMENT: &str = "http://payment-service/";

/// Returns the serial number of the certificate in use.
fn serial(echo: &mut Echo) -> String {
    echo.admin("/identity").json()["serial"].as_str().unwrap().to_owned()
}

#[test]
fn certificates_are_rotated_before_they_expire_without_a_failed_call() {
    let (_town, mut echoes) = Town::with_the_article(&["--certificate-ttl", "6s"]);
    let caller = Caller::of(&echoes[2], PAYMENT);
    for _ in 0..2 {
        let before = echoes.each_mut().map(serial);
        eventually("every certificate is a new one", || {
            let now = echoes.each_mut().map(serial);
            now.iter().zip(&before).all(|(now, before)| now != before).then_some(())
        });
    }
    let calls = caller.end();
    assert!(calls.made > 0);
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);
}

/// The endpoint is killed on the way, and takes the rotation up again where it was.
#[test]
fn the_root_is_rotated_without_a_failed_call() {
    let (mut town, [_v1, _v2, mut checkout]) = Town::with_the_article(&["--certificate-ttl", "6s"]);
    let (root, token) = (std::fs::read(town.data().join("ca.crt")).unwrap(), town.token("late", &[]));
    let caller = Caller::of(&checkout, PAYMENT);
    let mut rotate = meshctl();
    rotate.args(["rotate-root", "--certificate-ttl", "6s", "--data"]).arg(town.data());
    assert!(rotate.output().unwrap().status.success());
    assert_eq!(rotate.output().unwrap().status.code(), Some(2), "one is under way");
    eventually("both roots stand", || town.data().join("ca.next.crt").exists().then_some(()));
    town.kill_control();
    town.restart_control();
    eventually("the new root stands alone", || (!town.data().join("rotation.json").exists()).then_some(()));
    assert_ne!(std::fs::read(town.data().join("ca.crt")).unwrap(), root);
    let before = serial(&mut checkout);
    eventually("the new root goes on certifying", || (serial(&mut checkout) != before).then_some(()));
    let calls = caller.end();
    assert!(calls.made > 0);
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);

    let late = town.echo_holding(&token, "late", "v1", &[]);
    let error = eventually("the token made before is void", || late.call(PAYMENT, 1).remove(0).error);
    assert!(error["message"].as_str().unwrap().contains("make a new token"), "{error}");
    let next = town.echo("next", "v1").ready();
    eventually("a token made now is good", || next.call(PAYMENT, 1)[0].is_fine().then_some(()));
}

#[test]
fn without_the_control_endpoint_a_certificate_is_used_to_its_end_and_then_nothing_is_sent() {
    let (mut town, [v1, v2, checkout]) = Town::with_the_article(&["--certificate-ttl", "6s"]);
    town.kill_control();
    assert!(checkout.call(PAYMENT, 1)[0].is_fine(), "it has not ended yet");
    let error = eventually("the certificate has ended", || {
        checkout.call(PAYMENT, 1).remove(0).error.filter(|error| {
            error["kind"] == "not-ready" && error["message"].as_str().is_some_and(|it| it.contains("expired"))
        })
    });
    assert!(error["message"].as_str().unwrap().contains("could not be renewed"), "{error}");
    let seen = || [&v1, &v2].map(|echo| echo.seen()["total"].clone());
    let before = seen();
    assert!(checkout.call(PAYMENT, 5).iter().all(|call| call.error.is_some()));
    assert_eq!(seen(), before, "something was sent without a certificate");
}

#[test]
fn the_authority_survives_a_restart_and_its_key_is_readable_by_its_owner_only() {
    let (mut town, [_v1, _v2, mut checkout]) = Town::with_the_article(&[]);
    let keys: Vec<PathBuf> = files(&town.data()).into_iter().filter(|path| holds_a_key(path)).collect();
    assert!(!keys.is_empty(), "there is a CA key in {}", town.data().display());
    for key in &keys {
        assert_eq!(mode(key), 0o600, "{}", key.display());
    }
    let token = town.token("late", &[]);
    let bundles = checkout.admin("/identity").json()["bundles"].clone();
    town.kill_control();
    town.restart_control();

    let mut late = town.echo_holding(&token, "late", "v1", &[]).ready();
    assert_eq!(late.admin("/identity").json()["bundles"], bundles, "the same authority signs");
    eventually("old and new certificates trust each other", || {
        late.call(PAYMENT, 1)[0].is_fine().then_some(())
    });
}

#[test]
fn a_token_that_is_not_good_gets_no_identity_and_the_workload_says_why() {
    let (town, [_v1, _v2, _checkout]) = Town::with_the_article(&[]);
    let good = town.token("late", &[]);
    let foreign = Town::start().token("late", &[]);
    let tampered = {
        let (body, tag) = good.rsplit_once('.').unwrap();
        let flipped: String = tag.chars().rev().collect();
        format!("{body}.{flipped}")
    };
    let table = [("a token of another control endpoint", foreign), ("a token that was changed", tampered)];
    for (what, token) in table {
        let late = town.echo_holding(&token, "late", "v1", &[]);
        let error = eventually(&format!("{what}: the call fails"), || {
            late.call(PAYMENT, 1)
                .remove(0)
                .error
                .filter(|error| !error["message"].as_str().unwrap().is_empty())
        });
        assert_eq!(error["kind"], "not-ready", "{what}: {error}");
        assert_eq!(late.process.said("ready"), None, "{what}");
        assert!(!late.process.log().contains(&token), "{what}: the token is in the log");
    }
}

#[test]
fn a_workload_with_a_token_for_somebody_else_does_not_start() {
    let town = Town::start();
    let token = town.token("somebody-else", &[]);
    let mut echo = command("echo");
    echo.args(["--service", "late", "--version", "v1", "--control", &town.control.url, "--token", &token]);
    let output = echo.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("somebody-else") && said.contains("late"), "both names are said: {said}");
    assert!(!said.contains(&token), "the token is not: {said}");
}

#[test]
fn an_expired_token_gets_no_identity() {
    let (town, [_v1, _v2, _checkout]) = Town::with_the_article(&[]);
    let token = town.token("late", &["--ttl", "1s"]);
    let expiry = SystemTime::now() + Duration::from_secs(2);
    eventually("the token has expired", || (SystemTime::now() > expiry).then_some(()));
    let late = town.echo_holding(&token, "late", "v1", &[]);
    eventually("the reason names the expiry", || {
        let error = late.call(PAYMENT, 1).remove(0).error?;
        error["message"].as_str()?.contains("expired").then_some(())
    });
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

fn holds_a_key(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("PRIVATE KEY"))
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
