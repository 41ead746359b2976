//! The smallest server of the mesh: it greets whoever proves who it is. The README shows it.

use axum::{Router, routing::get};
use mesh::{Mesh, Peer};

#[tokio::main]
async fn main() -> Result<(), mesh::Error> {
    let mesh = Mesh::from_env().await?;
    let hello = get(|peer: Peer| async move { format!("hello {}\n", peer.id()) });
    mesh.serve("127.0.0.1:0", Router::new().route("/", hello)).await
}
