//! A service mesh inside the process.
//!
//! [`Mesh`] is one workload of the mesh: [`Mesh::client`] calls others, [`Mesh::serve`] is called by others. The crates
//! below hold the logic; this one only puts their names in one place.

mod mesh;

pub use crate::mesh::{Error, Mesh, MeshBuilder};
pub use mesh_client::{self as client, MeshClient};
pub use mesh_core as core;
pub use mesh_runtime::{self as runtime, Context};
pub use mesh_server::{self as server, Peer};
