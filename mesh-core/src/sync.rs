//! What states that requests share are made of: std's atomics and mutex, or loom's where `tests/loom.rs` tries every order
//! in which threads can come to them.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
// Not loom's: it cannot hold what is unsized, and what a count of holders decides is decided under a lock.
pub(crate) use std::sync::{Arc, PoisonError};
