//! Why a call failed: whose fault it is, whether it may be repeated, and what Envoy would have answered.
//!
//! It decides nothing: what is retried is `retry`'s business, which reads the [`Cause`].

use crate::{body::CallInfo, journal::Account};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use mesh_core::{
    event::{Flag, Flags},
    grpc,
    health::Overflow,
    route::AbortAnswer,
};
use std::{error::Error as StdError, fmt, fmt::Write as _, sync::Arc};

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
    /// The route injects a fault.
    Fault,
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
    /// The service below failed, where a layer is used alone.
    Service,
}

/// Why a call failed.
///
/// It says [what kind](Self::kind) of failure, [where](Self::call_info), and whether the request
/// [may have been executed](Self::may_have_been_sent); [`Self::into_response`] is Envoy's answer to the same failure.
pub struct Error(Box<Inner>);

struct Inner {
    cause: Cause,
    message: String,
    /// What the operating system or TLS said, as Envoy's "transport failure reason".
    transport: Option<String>,
    info: CallInfo,
    sent: bool,
    /// Whether a connection that had served before ended under the request, without a byte of an answer.
    stale: bool,
    grpc: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What went wrong, in the words of Envoy's local replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    NotReady,
    Request,
    NoRoute,
    /// What the route wants to be answered with then.
    NoCluster(StatusCode),
    Blocked,
    Fault(AbortAnswer),
    NoEndpoints,
    Overflow(Overflow),
    /// Not connected; it may be a TLS failure.
    Connect {
        tls: bool,
    },
    ConnectTimeout,
    /// The connection ended before an answer began.
    Termination,
    /// It was given up, because the peer acknowledged nothing any more.
    Vanished,
    RemoteReset,
    RefusedStream,
    LocalReset,
    Protocol,
    RouteTimeout,
    TryTimeout,
    Body,
    Service,
}

impl ErrorKind {
    /// Returns the kind as one lower-case word or two, for logs and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not-ready",
            Self::Request => "request",
            Self::NoRoute => "no-route",
            Self::NoCluster => "no-cluster",
            Self::Blocked => "blocked",
            Self::Fault => "fault",
            Self::NoEndpoints => "no-endpoints",
            Self::Overload => "overload",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Body => "body",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Cause {
    /// Returns kind, status, flag and reset reason.
    // spec: envoy source/common/router/router.cc, its local replies
    const fn reply(self) -> (ErrorKind, StatusCode, Option<Flag>, Said) {
        use Said::{Nothing, Reset, Text};
        const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::NotReady => (ErrorKind::NotReady, UNAVAILABLE, None, Nothing),
            Self::Request => (ErrorKind::Request, StatusCode::BAD_REQUEST, None, Nothing),
            Self::NoRoute => (ErrorKind::NoRoute, StatusCode::NOT_FOUND, Some(Flag::NR), Nothing),
            Self::NoCluster(status) => (ErrorKind::NoCluster, status, Some(Flag::NC), Nothing),
            Self::Blocked => (ErrorKind::Blocked, StatusCode::BAD_GATEWAY, None, Nothing),
            Self::Fault(answer) => {
                let status = match answer {
                    AbortAnswer::Status(status) => status,
                    AbortAnswer::Grpc(_) => StatusCode::OK,
                };
                (ErrorKind::Fault, status, Some(Flag::FI), Text("fault filter abort"))
            }
            Self::NoEndpoints => {
                (ErrorKind::NoEndpoints, UNAVAILABLE, Some(Flag::UH), Text("no healthy upstream"))
            }
            Self::Overflow(_) => (ErrorKind::Overload, UNAVAILABLE, Some(Flag::UO), Reset("overflow")),
            Self::Connect { tls } => {
                let kind = if tls { ErrorKind::Tls } else { ErrorKind::Connect };
                (kind, UNAVAILABLE, Some(Flag::UF), Reset("remote connection failure"))
            }
            Self::ConnectTimeout => {
                (ErrorKind::Connect, UNAVAILABLE, Some(Flag::UF), Reset("connection timeout"))
            }
            Self::Termination | Self::Vanished => {
                (ErrorKind::Reset, UNAVAILABLE, Some(Flag::UC), Reset("connection termination"))
            }
            Self::RemoteReset => (ErrorKind::Reset, UNAVAILABLE, Some(Flag::UR), Reset("remote reset")),
            Self::RefusedStream => {
                (ErrorKind::Reset, UNAVAILABLE, Some(Flag::UR), Reset("remote refused stream reset"))
            }
            Self::LocalReset => (ErrorKind::Reset, UNAVAILABLE, Some(Flag::LR), Reset("local reset")),
            Self::Protocol => {
                (ErrorKind::Protocol, StatusCode::BAD_GATEWAY, Some(Flag::UPE), Reset("protocol error"))
            }
            Self::RouteTimeout | Self::TryTimeout => {
                let text = Text("upstream request timeout");
                (ErrorKind::Timeout, StatusCode::GATEWAY_TIMEOUT, Some(Flag::UT), text)
            }
            Self::Body => (ErrorKind::Body, UNAVAILABLE, Some(Flag::LR), Reset("local reset")),
            Self::Service => (ErrorKind::Service, UNAVAILABLE, None, Nothing),
        }
    }

    /// Returns Envoy's flag for it.
    pub(crate) const fn flag(self) -> Option<Flag> {
        self.reply().2
    }
}

/// What the body of a local reply says.
#[derive(Clone, Copy)]
enum Said {
    Nothing,
    Text(&'static str),
    Reset(&'static str),
}

impl Error {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            cause,
            message: message.into(),
            transport: None,
            info: CallInfo::default(),
            sent: false,
            stale: false,
            grpc: false,
            source: None,
        }))
    }

    pub(crate) fn with_source(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.0.source = Some(source);
        self
    }

    pub(crate) fn with_transport(mut self, reason: impl Into<String>) -> Self {
        self.0.transport = Some(reason.into());
        self
    }

    pub(crate) fn after_sending(mut self, sent: bool, stale: bool) -> Self {
        self.0.sent = sent;
        self.0.stale = stale;
        self
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.0.stale
    }

    /// Notes what is known of the call as a whole.
    pub(crate) fn settle(mut self, account: Account, grpc: bool) -> Self {
        let flags = self.0.cause.flag().map_or(account.info.flags, |flag| account.info.flags.with(flag));
        self.0.info = CallInfo { flags, ..account.info };
        self.0.sent |= account.sent;
        self.0.grpc = grpc;
        self
    }

    /// Returns the status of Envoy's answer; for gRPC, the one that its `grpc-status` stands for.
    pub(crate) fn status(&self) -> StatusCode {
        self.0.cause.reply().1
    }

    pub(crate) fn cause(&self) -> Cause {
        self.0.cause
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.cause.reply().0
    }

    /// Returns how the call went until then.
    pub fn call_info(&self) -> &CallInfo {
        &self.0.info
    }

    /// Returns the cluster the call was for, `outbound|port|subset|host`.
    pub fn cluster(&self) -> Option<&str> {
        self.0.info.cluster.as_deref()
    }

    /// Returns the endpoint last tried, as `IP:PORT`.
    pub fn endpoint(&self) -> Option<&str> {
        self.0.info.endpoint.as_deref()
    }

    /// Returns how many attempts were made; 0 if none was.
    pub fn attempts(&self) -> u32 {
        self.0.info.attempts
    }

    /// Returns Envoy's response flags.
    pub fn flags(&self) -> Flags {
        self.0.info.flags
    }

    /// Returns whether a byte of the request may have reached the server: then it may have been executed.
    pub fn may_have_been_sent(&self) -> bool {
        self.0.sent
    }

    /// Returns whether no answer came in time.
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns whether no connection could be made, for whatever reason.
    pub fn is_connect(&self) -> bool {
        matches!(self.kind(), ErrorKind::Connect | ErrorKind::Tls)
    }

    /// Returns whether the TLS handshake failed, or the peer was not who was expected.
    pub fn is_tls(&self) -> bool {
        self.kind() == ErrorKind::Tls
    }

    /// Returns whether there was no endpoint to send to.
    pub fn is_no_endpoints(&self) -> bool {
        self.kind() == ErrorKind::NoEndpoints
    }

    /// Returns whether a limit of ours refused the call.
    pub fn is_overload(&self) -> bool {
        self.kind() == ErrorKind::Overload
    }

    /// Returns whether the retries were used up.
    pub fn is_retry_exhausted(&self) -> bool {
        self.flags().contains(Flag::URX)
    }

    /// Returns whether the workload has no configuration or identity yet.
    pub fn is_not_ready(&self) -> bool {
        self.kind() == ErrorKind::NotReady
    }

    /// Returns whether the connection or stream broke off.
    pub fn is_reset(&self) -> bool {
        self.kind() == ErrorKind::Reset
    }

    /// Returns Envoy's answer to the same failure: status, headers and body exactly.
    ///
    /// A gRPC request gets HTTP 200 with `grpc-status` and `grpc-message`.
    // spec: envoy source/common/router/router.cc, its local replies
    pub fn into_response(self) -> Response<Bytes> {
        let (_, status, _, said) = self.0.cause.reply();
        let text = self.reply_text(said);
        let grpc = self.0.grpc || matches!(self.0.cause, Cause::Fault(AbortAnswer::Grpc(_)));
        let mut response =
            if grpc { grpc_reply(self.grpc_status(), &text) } else { http_reply(status, text) };
        if matches!(self.0.cause, Cause::Overflow(_)) {
            response.headers_mut().insert("x-envoy-overloaded", HeaderValue::from_static("true"));
        }
        response
    }

    /// Returns the status of gRPC that stands for it.
    // spec: envoy source/common/grpc/status.cc httpToGrpcStatus
    pub(crate) fn grpc_status(&self) -> u8 {
        match self.0.cause {
            Cause::Fault(AbortAnswer::Grpc(code)) => code,
            _ => grpc::status_of_http(self.status()),
        }
    }

    fn reply_text(&self, said: Said) -> String {
        match said {
            Said::Nothing => String::new(),
            Said::Text(text) => text.to_owned(),
            Said::Reset(reason) => {
                let retried = if self.attempts() > 1 { "retried and the latest " } else { "" };
                let mut text = format!(
                    "upstream connect error or disconnect/reset before headers. {retried}reset reason: {reason}"
                );
                if let Some(transport) = &self.0.transport {
                    // Writing into a String cannot fail.
                    let _ = write!(text, ", transport failure reason: {transport}");
                }
                text
            }
        }
    }
}

fn http_reply(status: StatusCode, text: String) -> Response<Bytes> {
    let length = text.len();
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    if length > 0 {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

// spec: envoy source/common/grpc/common.cc
pub(crate) fn grpc_reply(code: u8, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = grpc_fields(code, text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Returns the status `code` with the message `text`, as headers and trailers have it.
pub(crate) fn grpc_fields(code: u8, text: &str) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(3);
    fields.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let (false, Ok(message)) = (text.is_empty(), HeaderValue::try_from(percent_encoded(text))) {
        fields.insert("grpc-message", message);
    }
    fields
}

// spec: grpc PROTOCOL-HTTP2.md "Status-Message": %x20-%x24 and %x26-%x7E pass
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            // Writing into a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind())
            .field("message", &self.0.message)
            .field("info", &self.0.info)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests;
