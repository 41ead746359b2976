//! The smallest client of the mesh: one call by name. The README shows it.

use mesh::Mesh;

#[tokio::main]
async fn main() -> Result<(), mesh::Error> {
    let mesh = Mesh::from_env().await?;
    mesh.ready().await;
    let answer = mesh.client().get("http://hello/").await?;
    print!("{}", answer.into_body().text().await?);
    Ok(())
}
