//! The control endpoint: configuration from files, the registry of leases, the certificate authority, and the status.
//!
//! For one machine and for development; beyond that the answer is xDS, not a bigger control endpoint.

mod api;
mod authority;
mod caller;
mod certified;
mod config_files;
mod csr;
mod data;
mod der;
mod disk;
mod endpoint;
mod error;
mod json;
mod lease_entry;
mod leases;
mod listener;
mod metrics;
mod plane;
mod registry;
mod roster;
mod rotation;
mod served;
mod tls;
mod token;

pub use endpoint::{ControlEndpoint, ControlSettings};
pub use error::ControlError;
pub use rotation::{Rotation, rotate_root};
pub use token::{TokenAsk, mint_token, operator_token};

use mesh_runtime::crypto;
use std::{
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Returns the guard also after a panic elsewhere: every critical section here leaves its data whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns `N` random bytes.
fn random<const N: usize>() -> Result<[u8; N], ControlError> {
    crypto::random().map_err(|_| ControlError::Data("the system gives no random numbers".to_owned()))
}

/// Returns `N` random bytes in hex.
fn random_hex<const N: usize>() -> Result<String, ControlError> {
    random::<N>().map(|bytes| hex(&bytes))
}

/// Returns the SHA-256 of `bytes` in hex.
fn sha256_hex(bytes: &[u8]) -> String {
    hex(&crypto::sha256(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
