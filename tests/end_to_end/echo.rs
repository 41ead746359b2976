//! What `echo` promises to whoever drives it: when it says `ready`, which flag wins, and what it does with a request.

use crate::harness::{Process, Town, command, eventually};
use std::{
    path::PathBuf,
    process::{Command, Output},
};
use tempfile::TempDir;

const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

#[test]
fn who_is_not_registered_is_not_ready_and_says_why() {
    let town = Town::start();
    // The account has an identity, but this service is not its own to register.
    let flags = ["--service-account", "late"];
    let late = town.echo_holding(&town.token("late", &[]), "payment-service", "v1", &flags);
    eventually("the reason is told", || {
        let log = late.process.log();
        (log.contains("lease not renewed") && log.contains("echo: not ready")).then_some(())
    });
    assert_eq!(late.process.said("ready"), None);
}

#[test]
fn a_service_that_can_serve_nobody_never_says_ready_even_with_the_environment_of_a_control_workload() {
    let (_directory, file) = file(STRICT);
    let mut echo = command("echo");
    echo.args(["--service", "payment", "--listen", "127.0.0.1:0", "--config"]).arg(file);
    let output = of_a_control_workload(&mut echo).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "no wrong use of the command line: {output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready"), "{output:?}");
    assert!(stderr(&output).contains("no identity"), "{output:?}");
}

#[test]
fn a_wrong_label_is_told_by_its_flag() {
    let output = command("echo").args(["--service", "a", "--label", "nonsense"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("--label") && stderr(&output).contains("`nonsense`"), "{output:?}");
}

#[test]
fn a_server_that_works_on_no_request_at_a_time_is_a_wrong_use_of_the_flag() {
    let output = command("echo").args(["--service", "a", "--at-once", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("--at-once 0"), "{output:?}");
}

#[test]
#[cfg(target_os = "linux")] // for /dev/full
fn an_echo_whose_output_goes_nowhere_serves_and_drains() {
    let mut shell = Command::new("sh");
    let run = "exec \"$0\" --service a --listen 127.0.0.1:0 --plain 127.0.0.1:0 >/dev/full";
    shell.args(["-c", run]).arg(command("echo").get_program());
    let mut echo = Process::start("echo", &mut shell);
    eventually("it serves", || echo.log().contains("serving").then_some(()));
    echo.terminate();
    assert!(echo.end().success());
    assert!(!echo.log().contains("panicked"));
}

#[test]
fn a_status_without_a_body_has_none_a_stream_is_whole_and_a_host_header_decides_who_is_called() {
    let (_town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    for status in [204, 304] {
        let call = checkout.call(&format!("http://payment-service/?status={status}"), 1).remove(0);
        assert_eq!((call.status, &call.body, &call.error), (status, &"".into(), &None), "{call:?}");
    }
    let call = checkout.call("http://payment-service/?stream=200ms", 1).remove(0);
    assert_eq!((call.status, &call.body), (200, &"...\n...\n...\n".into()), "{call:?}");
    let call = checkout.call_with("http://nobody.invalid/", "&header=host:payment-service").remove(0);
    assert!(call.is_fine(), "{call:?}");
    assert_eq!(call.body["host"], "payment-service", "{call:?}");
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.yaml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn of_a_control_workload(command: &mut Command) -> &mut Command {
    command
        .env("MESH_CONTROL", "https://127.0.0.1:1")
        .env("MESH_JOIN_TOKEN", "mesh1.e30.dGFn")
        .env("MESH_CACHE_DIR", "/nowhere")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
