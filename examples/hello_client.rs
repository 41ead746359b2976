//! The smallest client of the mesh: one call by name. The README shows it.

use http_body_util::BodyExt;
use mesh::Mesh;

#[tokio::main]
async fn main() -> Result<(), mesh::Error> {
    let mesh = Mesh::from_env().await?;
    mesh.ready().await;
    let answer = mesh.client().get("http://hello/").await?;
    let body = answer.into_body().collect().await?.to_bytes();
    print!("{}", String::from_utf8_lossy(&body));
    Ok(())
}
