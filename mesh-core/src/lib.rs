//! The rules of the mesh, pure: what the user wrote becomes a [`snapshot::Snapshot`], and every decision about a
//! request is a function of that snapshot, the request, the time and the dice it is handed.
//!
//! This crate opens no socket, spawns no task, reads no clock and rolls no dice of its own. The modules stand in the
//! order in which data flows.

pub mod time;

pub mod dice;

mod sync;

pub mod config;

pub mod registry;

pub mod snapshot;

pub mod route;

pub mod balance;

pub mod health;

pub mod retry;

pub mod grpc;

pub mod deadline;

pub mod identity;

pub mod authenticate;

pub mod authorize;

pub mod overload;

pub mod explain;

pub mod analyze;

pub mod testing;

pub mod event;
