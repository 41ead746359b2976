//! Our server in this process, under policies that are changed at will.

use crate::certificates::{Authority, DOMAIN, Files};
use mesh::{
    core::{
        config::{Options, load},
        snapshot::{MeshSettings, Viewer},
    },
    runtime::{
        Settings, Workload,
        identity::{Bundles, Identity, IdentityStore, Svid},
    },
    server::{RequestBody, Server},
};
use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc};

/// A server of ours; it serves until the runtime ends.
pub(crate) struct Ours {
    pub(crate) address: SocketAddr,
    workload: Workload,
}

impl Ours {
    pub(crate) async fn start(authority: &Authority) -> Self {
        let workload = Workload::start(Settings::for_service("echo")).await.unwrap();
        workload.identity().publish(identity(authority, &authority.issue("echo")));
        let server = Server::bind(&workload, "127.0.0.1:0").await.unwrap();
        let ours = Self { address: server.local_addr(), workload };
        ours.obey("");
        let ok = tower::service_fn(|_: http::Request<RequestBody>| async {
            Ok::<_, Infallible>(http::Response::new("ok".to_owned()))
        });
        tokio::spawn(server.serve(ok, std::future::pending()));
        ours
    }

    /// Puts the objects of `yaml` in force, and nothing else.
    #[track_caller]
    pub(crate) fn obey(&self, yaml: &str) {
        let loaded = load("policies.yaml", yaml, &Options::default());
        assert!(loaded.diagnostics.is_empty(), "{:?}\n{yaml}", loaded.diagnostics);
        let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
        let viewer = Viewer {
            namespace: "default".to_owned(),
            service: Some("echo".to_owned()),
            labels: BTreeMap::new(),
        };
        let settings = MeshSettings::new(DOMAIN.parse().unwrap());
        self.workload.config().compile("1", &resources, &viewer, &settings);
    }
}

/// Returns the store of a caller.
pub(crate) fn store(authority: &Authority, files: &Files) -> IdentityStore {
    let store = IdentityStore::empty();
    store.publish(identity(authority, files));
    store
}

fn identity(authority: &Authority, files: &Files) -> Identity {
    let read = |path| std::fs::read_to_string(path).unwrap();
    let svid = Svid::from_pem(&read(&files.certificate), &read(&files.key)).unwrap();
    let roots = read(&authority.roots());
    Identity { svid, bundles: Bundles::from_pem([(DOMAIN, roots.as_str())]).unwrap() }
}
