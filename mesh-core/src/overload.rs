//! What protects a server from more requests than it can answer: how many run, who waits, who is told at once that it
//! waits in vain.
//!
//! ```text
//! request --> TokenBucket --> Gate --> handler
//!             (how often)     (how many at a time; Gradient may say how many that is)
//! ```
//!
//! All of it is counting and comparing: who sleeps, who is woken and what is answered is the server's business.

mod bucket;
mod durations;
mod gate;
mod gradient;
mod settings;

pub use bucket::{RateLimit, RateLimitError, TokenBucket};
pub use gate::{Entry, Gate, NoPlace, Ticket};
pub use gradient::{Change, Gradient};
pub use settings::{AdaptiveLimit, Overload, QueueLimits, RateLimits, RequestsMax};
