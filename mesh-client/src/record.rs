//! Counts a call when it ends: with its answer's body, with an error, or because the caller went away.

use crate::Error;
use mesh_core::{
    event::{Flag, Flags},
    time::Time,
};
use mesh_runtime::{Clock, telemetry::RequestMetrics};
use std::{fmt, sync::Arc};

/// The record of one call, written when it is dropped.
pub(crate) struct Record {
    metrics: Arc<RequestMetrics>,
    clock: Clock,
    started: Time,
    status: u16,
    flags: Flags,
}

impl Record {
    /// Begins a record. Dropped as it is, it says that the caller went away.
    pub(crate) fn begin(metrics: &Arc<RequestMetrics>, clock: Clock, started: Time) -> Self {
        Self { metrics: Arc::clone(metrics), clock, started, status: 0, flags: Flag::DC.into() }
    }

    /// The head of the answer is there.
    pub(crate) fn on_head(&mut self, status: http::StatusCode, flags: Flags) {
        self.status = status.as_u16();
        self.flags = flags;
    }

    /// The call, or the body of its answer, has failed.
    pub(crate) fn on_error(&mut self, error: &Error) {
        self.flags = error.flags();
        if self.status == 0 {
            self.status = error.status().as_u16();
        }
    }

    /// As [`Self::on_error`], where nothing follows.
    pub(crate) fn end_with(mut self, error: Error) -> Error {
        self.on_error(&error);
        error
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.on_answer(self.status, self.flags, self.clock.now().since(self.started));
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("status", &self.status)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}
