//! A service mesh inside the process: Istio's configuration and mutual TLS identity as a library, without a sidecar.
//!
//! [`Mesh`] is one workload of the mesh: [`Mesh::client`] calls others by name, [`Mesh::serve`] is called by others.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use mesh::{Mesh, Peer};
//!
//! # async fn run() -> Result<(), mesh::Error> {
//! let mesh = Mesh::from_env().await?;
//! let hello = get(|peer: Peer| async move { format!("hello {}", peer.id()) });
//! mesh.serve("127.0.0.1:0", Router::new().route("/", hello)).await
//! # }
//! ```
//!
//! The crates below hold the logic; this one only puts their names in one place.

mod mesh;

pub use crate::mesh::{Error, Mesh, MeshBuilder};
pub use mesh_client::{self as client, MeshClient};
pub use mesh_core as core;
pub use mesh_runtime::{self as runtime, Context};
pub use mesh_server::{self as server, Peer};

/// Configuration as unit tests: what a team's own YAML does, asserted in `cargo test`, offline.
///
/// ```
/// # fn main() {
/// use mesh::testing::{TestMesh, read_files};
///
/// let mesh = TestMesh::of_files(read_files(&["docs/mesh.yaml".into()]));
/// mesh.assert_no_errors();
/// # }
/// ```
pub mod testing {
    pub use mesh_core::testing::{Call, Caller, TestMesh};
    pub use mesh_runtime::config::read_files;
}

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
