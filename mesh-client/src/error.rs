//! Why a call failed: whose fault it is, and whether it may be repeated.

use crate::body::CallInfo;
use bytes::Bytes;
use std::{error::Error as StdError, fmt, sync::Arc};

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The workload has no configuration or identity yet; nothing was sent.
    NotReady,
    /// The request has no usable host, or its headers are not valid.
    Request,
    /// No route matched.
    NoRoute,
    /// The route leads to a cluster that does not exist.
    NoCluster,
    /// Policy forbids unknown hosts.
    Blocked,
    /// No endpoint can take it.
    NoEndpoints,
    /// A limit refused it.
    Overload,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed, or the peer is not who was expected.
    Tls,
    /// No answer in time.
    Timeout,
    /// The connection or stream broke off.
    Reset,
    /// The peer broke the protocol.
    Protocol,
    /// The caller's own request body failed.
    Body,
}

/// Why a call failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    info: CallInfo,
    sent: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns how the call went until then.
    pub fn call_info(&self) -> &CallInfo {
        &self.0.info
    }

    /// Returns whether a byte of the request may have reached the server: then it may have been executed.
    pub fn may_have_been_sent(&self) -> bool {
        self.0.sent
    }

    /// Returns Envoy's answer to the same failure: status, headers and body exactly.
    // spec: istio-semantics 3.1
    pub fn into_response(self) -> http::Response<Bytes> {
        todo!()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
