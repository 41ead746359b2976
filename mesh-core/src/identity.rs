//! Who a peer is, and whether it may be talked to. Pure rules; building certificate chains is the shell's.

mod admission;
mod excerpt;
mod peer_rule;
mod spiffe_id;

pub use admission::{Admitted, Evidence, Refusal, admit};
pub use excerpt::Excerpt;
pub use peer_rule::PeerRule;
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
