//! The `echo` example as a service of the mesh.

use super::{Reply, get, http, process::Process};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, net::SocketAddr, process::Command};

/// A running echo.
pub(crate) struct Echo {
    pub(crate) process: Process,
    pub(crate) mesh: SocketAddr,
    pub(crate) plain: SocketAddr,
}

/// How one call went, as `/mesh/call` tells it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) duration_ms: f64,
    pub(crate) attempts: u32,
    pub(crate) endpoint: Option<String>,
    pub(crate) flags: String,
    pub(crate) error: Option<Value>,
}

impl Outcome {
    /// Returns whether the call got an answer that is no failure.
    pub(crate) fn is_fine(&self) -> bool {
        self.status == 200 && self.error.is_none()
    }

    /// Returns the version that answered.
    pub(crate) fn version(&self) -> &str {
        self.body["version"].as_str().unwrap_or_default()
    }
}

impl Echo {
    /// Starts `command`, an echo without addresses, and returns as soon as its ports are open.
    #[track_caller]
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--plain", "127.0.0.1:0"]);
        let mut process = Process::start(name, command);
        let plain = process.line("plain on http://").parse().unwrap();
        let mesh = process.line("mesh on ").parse().unwrap();
        Self { process, mesh, plain }
    }

    /// Waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn ready(mut self) -> Self {
        self.process.line("ready");
        self
    }

    /// Makes `count` calls of `url`, eight at a time.
    #[track_caller]
    pub(crate) fn call(&self, url: &str, count: usize) -> Vec<Outcome> {
        self.call_with(url, &format!("&count={count}&concurrency=8"))
    }

    /// Makes calls as `/mesh/call` understands them.
    #[track_caller]
    pub(crate) fn call_with(&self, url: &str, more: &str) -> Vec<Outcome> {
        let reply = get(self.plain, &format!("/mesh/call?url={}{more}", escaped(url)));
        assert_eq!(reply.status, 200, "{reply:?}");
        serde_json::from_value(reply.json()).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
    }

    /// Returns the answer of its admin listener, which [`super::Town`] opens for every echo.
    #[track_caller]
    pub(crate) fn admin(&mut self, path: &str) -> Reply {
        let url = self.process.line("admin on ");
        let address = url.trim().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        get(address, path)
    }

    /// Returns what its mesh port has handled.
    #[track_caller]
    pub(crate) fn seen(&self) -> Value {
        get(self.plain, "/mesh/seen").json()
    }

    /// Makes it forget what its mesh port has handled.
    #[track_caller]
    pub(crate) fn forget(&self) {
        let reply = http::request(self.plain, "DELETE", "/mesh/seen").unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// Returns `text` as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'/' | b':' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
