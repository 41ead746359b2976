//! No file descriptors left: the server waits for some and goes on.

use crate::support::*;
use http::StatusCode;
use mesh_core::config::istio::MtlsMode;
use tokio::net::TcpStream;

/// Runs the test below in a process of its own that may open few files.
#[cfg(unix)]
#[test]
fn a_server_out_of_file_descriptors_serves_again_when_there_are_some() {
    let this = std::env::current_exe().unwrap();
    let shell = "ulimit -n 64 && exec \"$0\" --exact exhaustion::with_few_file_descriptors --ignored";
    let child = std::process::Command::new("sh").args(["-c", shell]).arg(this).output().unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "takes every file descriptor of its process; run by the test above in one of its own"]
async fn with_few_file_descriptors() {
    let server = Running::start(MtlsMode::Permissive, mirror(), |server| server).await;
    for _ in 0..3 {
        let mut taken = Vec::new();
        let exhausted = loop {
            match TcpStream::connect(server.address).await {
                Ok(stream) => taken.push(stream),
                Err(error) => break error,
            }
            assert!(taken.len() < 100, "the limit is not in force");
        };
        // EMFILE; its number is the same on every Unix.
        assert_eq!(exhausted.raw_os_error(), Some(24));
        drop(taken);
        let mut client = http1(soon(connected(&server)).await).await;
        assert_eq!(client.get("/").await.unwrap().0, StatusCode::OK);
    }
}

/// Connects as soon as the server has seen that its clients are gone.
async fn connected(server: &Running) -> TcpStream {
    loop {
        match TcpStream::connect(server.address).await {
            Ok(stream) => return stream,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
