//! The called side of the mesh: [`Server`] accepts mutual TLS, proves who calls, and serves any Tower service.
//!
//! The way of a connection: `accept` (the loop) → `connection` (its life) → `entrance` (a room: who waits is bounded;
//! `sniff`: TLS or not; handshake, admission) → `stream` (no wait without end) → `protocol` (hyper) → `inbound` (its
//! requests) → its end. The way of a
//! request: `peer` → `normalise` → `context` (deadline, trace) → `hygiene` → `authorize` (its token, then policy) → `overload` (how often) → a
//! place (how many at a time) → the handler. Each of these is a [`Step`], and usable alone as a Tower layer
//! ([`StepLayer`], [`ContextLayer`], [`RequestsMaxLayer`]). A server that is an `edge` lets the world in instead, as a
//! Gateway says.

mod accept;
mod activity;
mod answer;
mod authorize;
mod body;
mod client_cert;
mod connection;
mod context;
mod crowd;
mod edge;
mod entrance;
mod handler;
mod hygiene;
mod inbound;
mod limits;
mod normalise;
mod overload;
mod peer;
mod protocol;
mod provenance;
mod reply;
mod server;
mod sniff;
mod stall;
mod step;
mod stream;
mod trusted_hops;
mod turned_away;

pub use authorize::Authorize;
pub use body::{BodyError, RequestBody};
pub use context::{ContextLayer, ContextService, ReadContext, Scoped, ScopedAnswer};
pub use hygiene::StripSpoofable;
pub use limits::Limits;
pub use normalise::Normalise;
pub use overload::{Held, RateLimiter, RequestsMaxFuture, RequestsMaxLayer, RequestsMaxService};
#[cfg(feature = "axum")]
pub use peer::NoPeer;
pub use peer::Peer;
pub use reply::{Reply, ReplyOr};
pub use server::{ServeError, Server, shutdown_signal};
pub use step::{Step, StepFuture, StepLayer, StepService};
pub use trusted_hops::TrustedHops;
