//! The body of an answer, which ends what the call held when it ends.

use bytes::Bytes;
use http_body::Frame;
use mesh_core::event::Flags;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// How a call went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallInfo {
    /// The cluster, `outbound|port|subset|host`; `None` if no route led to one.
    pub cluster: Option<Arc<str>>,
    /// The endpoint last tried, as `IP:PORT`.
    pub endpoint: Option<Arc<str>>,
    /// How many attempts were made; 0 if none left the process.
    pub attempts: u32,
    /// Envoy's response flags.
    pub flags: Flags,
}

/// The body of an answer.
#[derive(Debug)]
pub struct ResponseBody {}

impl ResponseBody {
    /// Returns how the call went.
    pub fn call_info(&self) -> &CallInfo {
        todo!()
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = crate::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::Error>>> {
        todo!()
    }
}
