//! The workload's own identity and the bundles it trusts; TLS configurations built from them once per generation.
//!
//! `svid` holds the types, `verify` the verifiers (bundle by trust domain, then the chain, then the leaf rules), `store`
//! what is in force, `csr` the request for a certificate, `files` identity from PEM files.

mod csr;
mod files;
mod leaf;
mod store;
mod svid;
mod verify;

pub use csr::{CertificateRequest, KeyPair};
pub use files::IdentityFiles;
pub use leaf::Leaf;
pub use store::{Alpn, IdentityStore};
pub use svid::{Bundles, Identity, IdentityError, Svid};
pub use verify::{Side, SvidError, verify_svid};
