//! Any bytes as the certificate of a peer: no panic, and nobody is let in whom no authority knows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_runtime::identity::{Bundles, Leaf, Side, verify_svid};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::{sync::LazyLock, time::Duration};

static NOBODY: LazyLock<Bundles> = LazyLock::new(Bundles::default);

fuzz_target!(|bytes: &[u8]| {
    let _ = Leaf::parse(bytes);
    let leaf = CertificateDer::from(bytes);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
    for side in [Side::Client, Side::Server] {
        assert!(verify_svid(&leaf, &[], &NOBODY, side, now).is_err());
    }
});
