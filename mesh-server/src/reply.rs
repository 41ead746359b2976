//! Answers that the mesh gives in the handler's place, byte for byte as Envoy words them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{
    authenticate::TokenFault,
    event::{Flag, Flags},
    grpc,
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Why the handler was not asked, or its answer not waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// The path cannot be judged: an escaped slash, backslash or NUL in it.
    BadPath,
    /// No host, two hosts, or one that does not read.
    BadHost,
    /// The connection was made to another server of the Gateway than the request is for.
    Misdirected,
    /// More header fields than allowed.
    TooManyHeaders,
    /// The request brings a token that is not good.
    BadToken {
        /// What is wrong with it.
        fault: TokenFault,
        /// What `WWW-Authenticate` says.
        challenge: HeaderValue,
    },
    /// Policy forbids the request.
    Denied,
    /// As many requests run as may, and no place would come in time.
    Overloaded,
    /// Requests come more often than they may.
    RateLimited {
        /// Whether gRPC callers are told RESOURCE_EXHAUSTED instead of UNAVAILABLE.
        as_resource_exhausted: bool,
    },
    /// The caller's deadline passed while the handler ran.
    DeadlinePassed,
    /// The handler panicked.
    Panicked,
}

impl Reply {
    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadPath | Self::BadHost => StatusCode::BAD_REQUEST,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            // spec: envoy source/extensions/filters/http/jwt_authn/filter.cc onComplete
            Self::BadToken { fault: TokenFault::OtherAudience, .. } | Self::Denied => StatusCode::FORBIDDEN,
            Self::BadToken { .. } => StatusCode::UNAUTHORIZED,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::DeadlinePassed => StatusCode::GATEWAY_TIMEOUT,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the body.
    pub fn text(&self) -> &'static str {
        match self {
            Self::BadPath => "bad path",
            Self::BadHost => "bad host",
            Self::Misdirected => "misdirected request",
            Self::TooManyHeaders => "too many headers",
            Self::BadToken { fault, .. } => fault.text(),
            // spec: istio local replies, "authz deny": 19 bytes, no newline
            Self::Denied => "RBAC: access denied",
            // spec: istio local replies, "breaker": what a sidecar says over its Sidecar.inboundConnectionPool
            Self::Overloaded => {
                "upstream connect error or disconnect/reset before headers. reset reason: overflow"
            }
            // spec: envoy source/extensions/filters/http/local_ratelimit/local_ratelimit.cc
            Self::RateLimited { .. } => "local_rate_limited",
            Self::DeadlinePassed => "upstream request timeout",
            Self::Panicked => "internal error",
        }
    }

    /// Returns the gRPC status.
    ///
    /// Envoy maps HTTP statuses (504 to UNAVAILABLE, 500 to UNKNOWN); a passed deadline is DEADLINE_EXCEEDED here, which
    /// is what gRPC asks of a *server* and what no client retries, and a panic INTERNAL.
    // spec: grpc doc/statuscodes.md
    fn grpc_status(&self) -> u8 {
        match self {
            Self::DeadlinePassed => 4,
            Self::Panicked => 13,
            // spec: envoy api LocalRateLimit.rate_limited_as_resource_exhausted
            Self::RateLimited { as_resource_exhausted: true } => 8,
            Self::BadPath
            | Self::BadHost
            | Self::Misdirected
            | Self::TooManyHeaders
            | Self::BadToken { .. }
            | Self::Denied
            | Self::Overloaded
            | Self::RateLimited { .. } => grpc::status_of_http(self.status()),
        }
    }

    /// Writes the gRPC status and its message, as headers and trailers have them.
    pub(crate) fn write_grpc_status(&self, fields: &mut HeaderMap) {
        fields.insert("grpc-status", HeaderValue::from(u16::from(self.grpc_status())));
        fields.insert("grpc-message", HeaderValue::from_static(self.text()));
    }

    /// Returns what the record says of it.
    pub(crate) fn flags(&self) -> Flags {
        match self {
            Self::DeadlinePassed => Flag::UT.into(),
            Self::Overloaded => Flag::UO.into(),
            Self::RateLimited { .. } => Flag::RL.into(),
            Self::BadPath
            | Self::BadHost
            | Self::Misdirected
            | Self::TooManyHeaders
            | Self::BadToken { .. }
            | Self::Denied
            | Self::Panicked => Flags::NONE,
        }
    }

    /// Returns the answer, in gRPC's form if `grpc`.
    pub fn into_response<B>(self, grpc: bool) -> Response<ReplyOr<B>> {
        let body = if grpc { "" } else { self.text() };
        let mut response = Response::new(ReplyOr::reply(body));
        if grpc {
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            self.write_grpc_status(headers);
        } else {
            *response.status_mut() = self.status();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        match self {
            Self::Overloaded => {
                response.headers_mut().insert(OVERLOADED, HeaderValue::from_static("true"));
            }
            Self::BadToken { challenge, .. } => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            _ => {}
        }
        response
    }
}

// spec: envoy configuration/http/http_filters/router_filter#x-envoy-overloaded
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

pin_project! {
    /// The body of a handler's answer, or the text of a [`Reply`].
    #[derive(Debug)]
    pub struct ReplyOr<B> {
        #[pin]
        body: Either<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = EitherProjected]
    enum Either<B> {
        Reply { text: Option<Bytes> },
        Handler { #[pin] body: B },
    }
}

impl<B> ReplyOr<B> {
    /// Wraps a handler's body.
    pub(crate) fn handler(body: B) -> Self {
        Self { body: Either::Handler { body } }
    }

    fn reply(text: &'static str) -> Self {
        Self { body: Either::Reply { text: (!text.is_empty()).then(|| Bytes::from_static(text.as_bytes())) } }
    }
}

impl<B: Body<Data = Bytes>> Body for ReplyOr<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().body.project() {
            EitherProjected::Reply { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            EitherProjected::Handler { body } => Poll::Ready(ready!(body.poll_frame(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Either::Reply { text } => text.is_none(),
            Either::Handler { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Either::Reply { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Either::Handler { body } => body.size_hint(),
        }
    }
}
