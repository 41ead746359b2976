//! What the user wrote: documents become typed [`Resource`]s with the place of every field that a diagnostic may name.
//!
//! `tree` reads YAML and JSON into nodes with positions, `decode` reads nodes into types, `istio` holds the types (one
//! file per kind), `load` ties them together per file, and `accept` decides which version of each object is in force.
//! `schema` is what the readers say of themselves.

pub mod accept;
mod change;
mod decode;
pub mod diagnostic;
pub mod duration;
pub mod istio;
pub mod load;
pub mod resource;
pub mod schema;
pub mod tree;

pub(crate) use decode::is_called;

pub use accept::{Accepted, LastGood, SourceFile};
pub use change::Changes;
pub use diagnostic::{Code, Diagnostic, Level, Location};
pub use load::{Loaded, Options, load};
pub use resource::{At, Kind, Mark, Meta, Origin, Resource, ResourceKey, Spec, UnknownKind};
