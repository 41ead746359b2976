//! The calling side of the mesh: [`MeshClient`], and each of its layers for use alone.
//!
//! A request takes these steps, outermost first, and its answer the same way back: `trace` → `route` → `fault` → `mirror` →
//! `timeout` → `retry` → `breaker` → `balance` → `endpoint`, which takes a connection from a `pool`. Each step hands on the request
//! and borrows what was decided; what happened on the way stands in the call's `journal`.

mod client;
mod grpc;
pub mod layer;
mod step;

mod trace;

mod route;

mod local;
mod outside;
mod path;
mod plan;

mod fault;

mod mirror;

mod timeout;

mod retry;

mod breaker;

mod affinity;
mod balance;

mod endpoint;

mod pool;
mod wire;

mod body;
mod error;
mod journal;
mod record;

pub use body::{CallInfo, RequestBody, ResponseBody};
pub use client::{MeshClient, MeshClientBuilder, ResponseFuture};
pub use error::{Error, ErrorKind};
pub use grpc::{GrpcBody, GrpcClient, GrpcFuture};
pub use pool::Protocol;
pub use route::CallPolicy;
