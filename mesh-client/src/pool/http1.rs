//! A connection that carries one request at a time.

use super::connect::Meta;
use crate::body::RequestBody;
use hyper::client::conn::http1::SendRequest;
use mesh_core::time::Time;
use std::fmt;

/// A connection; whoever has it may send.
pub(crate) struct One {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) meta: Meta,
    /// How many requests were sent on it.
    pub(crate) requests: u32,
    /// Whether it has lain idle, with or without a request before: then the peer may be about to close it.
    pub(crate) kept: bool,
    /// Since when it is idle.
    pub(crate) since: Time,
}

impl One {
    pub(crate) fn new(sender: SendRequest<RequestBody>, meta: Meta, now: Time) -> Self {
        Self { sender, meta, requests: 0, kept: false, since: now }
    }

    /// Returns whether another request may be sent on it.
    pub(crate) fn is_usable(&self, now: Time, requests_max: u32) -> bool {
        !self.sender.is_closed()
            && now < self.meta.expires
            && (requests_max == 0 || self.requests < requests_max)
    }
}

impl fmt::Debug for One {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("One")
            .field("meta", &self.meta)
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}
