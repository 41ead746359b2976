//! A call through the mesh, and what came of it, as JSON.

use crate::answer::shown;
use axum::body::Bytes;
use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::{BodyExt, Full};
use mesh::{
    Mesh,
    client::{CallInfo, Error},
};
use serde::Serialize;
use serde_json::Value;
use std::{collections::BTreeMap, time::Instant};

/// How one call went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    status: u16,
    body: Value,
    headers: BTreeMap<String, Vec<String>>,
    duration_ms: f64,
    attempts: u32,
    endpoint: Option<String>,
    flags: String,
    error: Option<Failure>,
}

/// Why the mesh itself failed a call.
#[derive(Debug, Serialize)]
struct Failure {
    kind: String,
    message: String,
}

/// A call to make.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The URL.
    pub(crate) url: String,
    /// The method.
    pub(crate) method: http::Method,
    /// Headers to add.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

/// Calls `url` with GET.
pub(crate) async fn get(mesh: &Mesh, url: &str) -> Outcome {
    let call = Call {
        url: url.to_owned(),
        method: http::Method::GET,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    };
    make(mesh, &call).await
}

/// Makes `call` and reads the answer to its end.
pub(crate) async fn make(mesh: &Mesh, call: &Call) -> Outcome {
    let begun = Instant::now();
    let answer = match request(call) {
        Ok(request) => exchange(mesh, request).await,
        Err(error) => Answer::unsendable(&error),
    };
    let duration_ms = begun.elapsed().as_secs_f64() * 1e3;
    Outcome {
        status: answer.status.as_u16(),
        body: json_or_text(&answer.body),
        headers: shown(&answer.headers),
        duration_ms: (duration_ms * 1e3).round() / 1e3,
        attempts: answer.info.attempts,
        endpoint: answer.info.endpoint.as_deref().map(str::to_owned),
        flags: answer.info.flags.to_string(),
        error: answer.failure,
    }
}

/// An answer read to its end, or the one that stands for a failure.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    info: CallInfo,
    failure: Option<Failure>,
}

impl Answer {
    /// Returns what a sidecar would have answered, beside the failure.
    fn of(error: Error) -> Self {
        let info = error.call_info().clone();
        let failure = Failure { kind: error.kind().to_string(), message: with_causes(&error) };
        let (head, body) = error.into_response().into_parts();
        Self { status: head.status, headers: head.headers, body, info, failure: Some(failure) }
    }

    fn unsendable(error: &http::Error) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            info: CallInfo::default(),
            failure: Some(Failure { kind: "request".to_owned(), message: error.to_string() }),
        }
    }
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request =
        Request::builder().method(&call.method).uri(target(call)?).body(Full::new(call.body.clone()))?;
    request.headers_mut().extend(call.headers.clone());
    request.headers_mut().remove(HOST);
    Ok(request)
}

/// Returns the URL, with the host of a `host` header in place of its own: as behind a sidecar, the header decides who
/// is called.
fn target(call: &Call) -> Result<Uri, http::Error> {
    let url = Uri::try_from(&call.url)?;
    let Some(host) = call.headers.get(HOST) else { return Ok(url) };
    let mut parts = url.into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes())?);
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Ok(Uri::from_parts(parts)?)
}

async fn exchange(mesh: &Mesh, request: Request<Full<Bytes>>) -> Answer {
    let response = match mesh.client().send(request).await {
        Ok(response) => response,
        Err(error) => return Answer::of(error),
    };
    let (head, body) = response.into_parts();
    let info = body.call_info().clone();
    match body.collect().await {
        Ok(body) => {
            Answer { status: head.status, headers: head.headers, body: body.to_bytes(), info, failure: None }
        }
        Err(error) => Answer::of(error),
    }
}

fn json_or_text(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

/// Returns the message with those of its causes that it does not already hold.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_host_header_decides_who_is_called() {
        for (url, host, expected) in [
            ("http://reviews/a?b=c", None, Some("http://reviews/a?b=c")),
            ("http://reviews/a?b=c", Some("ratings:9080"), Some("http://ratings:9080/a?b=c")),
            ("http://reviews", Some("ratings"), Some("http://ratings/")),
            ("/a", Some("ratings"), Some("http://ratings/a")),
            ("http://reviews/", Some("no host"), None),
        ] {
            let headers = host.map(|host| (HOST, HeaderValue::from_static(host))).into_iter().collect();
            let call = Call { url: url.to_owned(), method: http::Method::GET, headers, body: Bytes::new() };
            let request = request(&call).ok();
            let got = request.as_ref().map(|request| request.uri().to_string());
            assert_eq!(got.as_deref(), expected, "{url} with {host:?}");
            assert!(request.is_none_or(|request| !request.headers().contains_key(HOST)));
        }
    }
}
