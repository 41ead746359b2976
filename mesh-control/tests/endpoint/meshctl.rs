//! `meshctl` as a process.

use crate::bed::CANARY;
use serde_json::Value;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

#[tokio::test]
async fn serve_says_when_it_answers_keeps_its_key_to_itself_and_ends_on_sigterm() {
    let dir = workplace();
    let (mut serve, mut lines) = serve(&dir, &[]);
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("control endpoint ready on ").expect("the ready line").to_owned();
    assert!(url.starts_with("https://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/ca.key"), mode("data/token.key")), (0o700, 0o600, 0o600));

    let (code, status, _) =
        run(&["status", "--control", &url, "--data", &at(&dir, "data"), "-o", "json"]).await;
    assert_eq!(code, 0, "{status}");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(!status["version"].as_str().unwrap().is_empty());
    assert_eq!(status["workloads"], serde_json::json!([]));

    let (_, token, _) = run(&token_args(&at(&dir, "data"))).await;
    let mut by_token = command(&["status", "--control", &url]);
    let text = by_token.env("MESH_JOIN_TOKEN", token.trim()).output().await.unwrap();
    assert!(text.status.success() && String::from_utf8_lossy(&text.stdout).starts_with("version "));

    assert_eq!(terminate(&mut serve).await, Some(0));
}

#[tokio::test]
async fn a_token_can_be_made_before_the_endpoint_runs() {
    let dir = workplace();
    let (code, token, _) = run(&token_args(&at(&dir, "data"))).await;
    assert_eq!((code, token.starts_with("mesh1."), token.lines().count()), (0, true, 1));
    let (mut serve, mut lines) = serve(&dir, &["--insecure-http"]);
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("control endpoint ready on ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let by_token =
        command(&["status", "--control", url]).env("MESH_JOIN_TOKEN", token.trim()).output().await.unwrap();
    assert!(by_token.status.success(), "{by_token:?}");
    assert_eq!(terminate(&mut serve).await, Some(0));
}

#[tokio::test]
async fn a_rejected_object_is_in_the_log_once_and_in_the_status() {
    let dir = workplace();
    fs::write(dir.path().join("mesh.yaml"), CANARY.replace("weight: 90", "weight: -1")).unwrap();
    let (mut serve, mut lines) = serve(&dir, &["--insecure-http"]);
    let line = lines.next_line().await.unwrap().unwrap();
    let url = line.strip_prefix("control endpoint ready on ").unwrap().to_owned();
    let (code, text, _) = run(&["status", "--control", &url, "--data", &at(&dir, "data")]).await;
    assert_eq!(code, 0);
    assert!(
        text.contains("VirtualService default/payment-route") && text.contains("mesh.yaml:22:"),
        "{text}"
    );
    assert_eq!(terminate(&mut serve).await, Some(0));
    let log = serve.wait_with_output().await.unwrap().stderr;
    let log = String::from_utf8_lossy(&log);
    let named = log.lines().filter(|line| line.contains("mesh.yaml:22:") && line.contains("WARN")).count();
    assert_eq!(named, 1, "{log}");
}

#[tokio::test]
async fn wrong_use_and_what_cannot_be_done_exit_with_2_and_say_why() {
    let dir = workplace();
    let (config, data) = (at(&dir, "mesh.yaml"), at(&dir, "data"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let missing = at(&dir, "missing");
    let table: [(&[&str], &str); 12] = [
        (&[], "Usage"),
        (&["serve"], "--config"),
        (&["serve", "--config", &missing], "missing"),
        (&["serve", "--config", &config, "--listen", "nowhere"], "nowhere"),
        (
            &["serve", "--config", &config, "--listen", "0.0.0.0:0", "--insecure-http"],
            "loopback only, and 0.0.0.0:0",
        ),
        (&["serve", "--config", &config, "--listen", &taken], &taken),
        (
            &["serve", "--config", &config, "--listen", "127.0.0.1:0", "--trust-domain", "A B"],
            "--trust-domain",
        ),
        (&["token", "--data", &data, "--namespace", "A", "--service-account", "x"], "namespace \"A\""),
        (&["token", "--data", &data, "--namespace", "a", "--service-account", "x", "--ttl", "1y"], "1y"),
        (&["status", "--control", "http://127.0.0.1:1"], "MESH_JOIN_TOKEN"),
        (&["status", "--control", "http://127.0.0.1:1", "--data", &missing], "no ca.key"),
        (&["frobnicate"], "frobnicate"),
    ];
    for (args, expected) in table {
        let (code, _, stderr) = run(args).await;
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
    assert!(!Path::new(&missing).exists(), "status founded an authority");
    let (code, help, _) = run(&["serve", "--help"]).await;
    assert!(code == 0 && help.contains("--insecure-http"), "{help}");
}

fn workplace() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mesh.yaml"), CANARY).unwrap();
    dir
}

fn at(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

fn token_args(data: &str) -> [&str; 7] {
    ["token", "--data", data, "--namespace", "default", "--service-account", "cart"]
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
    command.args(args).env_remove("MESH_JOIN_TOKEN").env_remove("RUST_LOG").kill_on_drop(true);
    command
}

pub(crate) async fn run(args: &[&str]) -> (i32, String, String) {
    let output = command(args).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn serve(dir: &TempDir, more: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let (config, data) = (at(dir, "mesh.yaml"), at(dir, "data"));
    let args = ["serve", "--config", &config, "--data", &data, "--listen", "127.0.0.1:0"];
    let mut child =
        command(&[&args, more].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

async fn terminate(child: &mut Child) -> Option<i32> {
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    child.wait().await.unwrap().code()
}
