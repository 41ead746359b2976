//! A running Envoy.

use crate::{
    harness::{Process, Reply, eventually},
    wire::get,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, process::Command};

/// A running Envoy, and where its listeners are.
pub(crate) struct Envoy {
    listeners: Value,
    _process: Process,
}

impl Envoy {
    /// Starts an Envoy with `listeners` and `clusters`; a listener whose port is 0 gets a free one. Its files go into
    /// `directory`.
    #[track_caller]
    pub(crate) fn start(directory: &Path, name: &str, listeners: &[Value], clusters: &[Value]) -> Self {
        let (config, admin) =
            (directory.join(format!("{name}.json")), directory.join(format!("{name}.admin")));
        let text = json!({
            "admin": {"address": address(0)},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let mut command = Command::new(binary());
        command.arg("-c").arg(&config).arg("--admin-address-path").arg(&admin);
        command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        let mut process = Process::start(name, &mut command);
        let admin: SocketAddr = eventually("Envoy says where it is administered", || {
            assert!(process.ended().is_none(), "Envoy ended");
            std::fs::read_to_string(&admin).ok()?.parse().ok()
        });
        let ready = |reply: &Reply| reply.status == 200;
        eventually("Envoy is ready", || Some(get(admin, "/ready")).filter(ready));
        Self { listeners: get(admin, "/listeners?format=json").json(), _process: process }
    }

    /// Returns where the listener `name` is.
    #[track_caller]
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let all = self.listeners["listener_statuses"].as_array().unwrap();
        let found = all.iter().find(|listener| listener["name"] == name).unwrap();
        let port = found["local_address"]["socket_address"]["port_value"].as_u64().unwrap();
        SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()))
    }
}

/// Returns an address on loopback as Envoy writes it.
pub(crate) fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// Returns `config` as Envoy's `Any` of the type `name`.
pub(crate) fn typed(name: &str, mut config: Value) -> Value {
    config["@type"] = Value::from(format!("type.googleapis.com/{name}"));
    config
}

/// Returns the Envoy that was given.
fn binary() -> String {
    std::env::var("MESH_ENVOY").expect("MESH_ENVOY names an Envoy: run `interop/envoy/run`")
}
