//! The workload's own identity and the bundles it trusts; TLS configurations built from them once per generation.
//!
//! `svid` and `bundles` hold the types, `verify` the rules (trust domain first, its bundle next, the chain last),
//! `handshake` the verifiers that rustls calls, `store` what is in force, `csr` the request for a certificate, `files`
//! identity from PEM files, `workload_api` from a SPIFFE Workload API; `leaf`, `der` and `pem` read and write.

mod bundles;
mod csr;
mod der;
mod files;
mod handshake;
mod leaf;
mod names;
pub(crate) mod pem;
mod store;
mod svid;
mod verify;
mod wall_clock;
pub(crate) mod workload_api;

pub use bundles::Bundles;
pub use csr::{CertificateRequest, KeyPair};
pub use files::IdentityFiles;
pub use handshake::VerifiedPeer;
pub use leaf::{ExtendedKeyUsage, KeyUsage, Leaf, LeafError};
pub use names::carries_any;
pub use store::{Alpn, IdentityStore};
pub use svid::{Identity, IdentityError, Svid};
pub use verify::{Side, SvidError, verify_svid};
pub use wall_clock::WallClock;
