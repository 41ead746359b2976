//! Answers and refusals as HTTP.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use mesh_runtime::control::wire::ErrorBody;
use serde::Serialize;

/// An answer; its body is there whole.
#[derive(Debug)]
pub(crate) struct Answer(Response<Full<Bytes>>);

/// A request that is not granted.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
}

impl Answer {
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status()
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        self.0
    }

    pub(super) fn json(body: &impl Serialize) -> Self {
        // Our own plain structs always serialise.
        let json = serde_json::to_vec(body).unwrap_or_default();
        Self::of(StatusCode::OK, "application/json", json.into())
    }

    pub(super) fn text(text: &'static str) -> Self {
        Self::of(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
    }

    // spec: prometheus docs/instrumenting/exposition_formats
    pub(super) fn metrics(text: String) -> Self {
        Self::of(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into())
    }

    pub(super) fn empty() -> Self {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Self(response)
    }

    pub(super) fn not_modified(version: &str) -> Self {
        let mut answer = Self::empty().with_status(StatusCode::NOT_MODIFIED);
        answer.set_version(version);
        answer
    }

    pub(super) fn resources(version: &str, bytes: Bytes, packed: bool) -> Self {
        let mut answer = Self::of(StatusCode::OK, "application/json", bytes);
        answer.set_version(version);
        if packed {
            answer.set(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        answer
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        *self.0.status_mut() = status;
        self
    }

    fn of(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let mut answer = Self(Response::new(Full::new(body))).with_status(status);
        answer.set(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        answer
    }

    fn set_version(&mut self, version: &str) {
        if let Ok(etag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            self.set(header::ETAG, etag);
        }
        self.set(header::VARY, HeaderValue::from_static("accept-encoding, authorization"));
        self.set(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }

    fn set(&mut self, name: header::HeaderName, value: HeaderValue) {
        self.0.headers_mut().insert(name, value);
    }
}

impl Failure {
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn not_found(path: &str) -> Self {
        let path = mesh_runtime::control::name::quoted(path);
        let known = "/v1/resources, /v1/workloads/NAMESPACE/SERVICE/INSTANCE, /v1/certificates, /v1/bundle, /v1/reports, \
                     /v1/status, /healthz, /readyz, /metrics";
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("{path} is not here; there are {known}"))
    }

    pub(super) fn method_not_allowed(method: &Method, allow: &'static str) -> Self {
        let method = mesh_runtime::control::name::quoted(method.as_str());
        let failure = Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("{method} is not for this path; it takes {allow}"),
        );
        Self { allow: Some(allow), ..failure }
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {limit} bytes, which is more than any request here needs"),
        )
    }

    pub(super) fn timeout(seconds: u64) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!("the body did not arrive within {seconds} s"),
        )
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(super) fn into_answer(self) -> Answer {
        // What callers get wrong is theirs to see, and counted; a log line each would be theirs to fill the disk with.
        tracing::debug!("{} {}: {}", self.status.as_u16(), self.code, self.message);
        let mut answer = Answer::json(&ErrorBody { code: self.code.to_owned(), message: self.message });
        if self.status == StatusCode::UNAUTHORIZED {
            answer.set(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            answer.set(header::ALLOW, HeaderValue::from_static(allow));
        }
        answer.with_status(self.status)
    }

    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }
}
