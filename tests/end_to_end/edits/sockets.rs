//! Which connections stand, as the kernel sees them. On systems without `/proc` there are none to compare.

use std::net::SocketAddr;

const TABLE: &str = "/proc/net/tcp";
const ESTABLISHED: &str = "01";

/// Returns whether the kernel shows its connections where [`established`] looks for them.
pub(crate) fn are_shown() -> bool {
    std::path::Path::new(TABLE).exists()
}

/// Returns the remote ports of the connections to the listener at `address`.
pub(crate) fn established(address: SocketAddr) -> Vec<u16> {
    let table = std::fs::read_to_string(TABLE).unwrap_or_default();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            (state == ESTABLISHED && port(local)? == address.port()).then(|| port(remote))?
        })
        .collect()
}

fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.split(':').nth(1)?, 16).ok()
}
