//! Who a peer is, and whether it may be talked to. Pure rules; building certificate chains is the shell's.

mod admission;
mod peer_rule;
mod spiffe_id;

pub use admission::{Admitted, Evidence, Refusal, admit};
pub use peer_rule::PeerRule;
pub use spiffe_id::{Excerpt, SpiffeId, SpiffeIdError, TrustDomain};
