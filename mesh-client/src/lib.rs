//! The calling side of the mesh: [`MeshClient`], and each of its layers for use alone.

mod body;
mod client;
mod error;

pub use body::{CallInfo, ResponseBody};
pub use client::{MeshClient, ResponseFuture};
pub use error::{Error, ErrorKind};
