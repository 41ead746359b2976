//! Identity as a whole: SVIDs good and bad, in both directions, through real TLS handshakes; the store, the certificate
//! request, and identity from files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod authority;
mod files;
mod handshake;
mod matrix;
mod request;
mod store;
mod svids;
