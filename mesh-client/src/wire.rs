//! The form of a request on the wire: what the mesh adds to it, what belongs to one hop only, and what HTTP/1.1 and
//! HTTP/2 each want to see.

use crate::{Error, body::RequestBody, error::Cause, path::Path};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use mesh_core::deadline;
use mesh_runtime::Context;

/// Strips what belongs to the hop before this one.
// spec: rfc9110 7.6.1
pub(crate) fn strip_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.remove(header::CONNECTION) {
        for name in named.to_str().unwrap_or_default().split(',') {
            if let Ok(name) = HeaderName::try_from(name.trim())
                && name != header::TE
            {
                headers.remove(name);
            }
        }
    }
    for name in [header::TRANSFER_ENCODING, header::UPGRADE, header::PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// Adds what the mesh adds to every call, once for all its attempts.
// spec: envoy configuration/http/http_conn_man/headers
pub(crate) fn introduce(headers: &mut HeaderMap, context: &Context, scheme: &'static str) {
    // One growth of the table instead of several.
    headers.reserve(8);
    // Room for what each attempt sets: the copy of a header map has none, and would be copied again to get it.
    headers.insert(header::HOST, HeaderValue::from_static(""));
    headers.insert(ATTEMPT_COUNT, number(1));
    headers.remove(deadline::EXPECTED_TIMEOUT_MS);
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(trace) = context.trace()
        && !headers.contains_key(TRACE_PARENT)
    {
        headers.insert(TRACE_PARENT, trace.parent.clone());
        if let Some(state) = &trace.state {
            headers.insert(TRACE_STATE, state.clone());
        }
    }
}

/// Tells the endpoint which attempt this is, and how long it has.
// spec: envoy configuration/http/http_filters/router_filter#x-envoy-expected-rq-timeout-ms: per-try timeout, or what is left of the whole; never 0
pub(crate) fn announce(headers: &mut HeaderMap, path: &Path<'_>, attempt: u32) {
    headers.insert(ATTEMPT_COUNT, number(attempt));
    let now = path.clock.now();
    let end = deadline::shorten(path.until, now, path.retry.per_try_timeout);
    if let Some(left) = deadline::remaining(end, now) {
        headers.insert(deadline::EXPECTED_TIMEOUT_MS, deadline::expected_timeout_ms(left));
        if path.grpc {
            headers.insert(deadline::GRPC_TIMEOUT, deadline::grpc_timeout(left));
        }
    }
}

/// Returns `request` as the protocol of the connection wants it. It may have been given another form before.
///
/// # Errors
///
/// Returns that the authority is no header value.
pub(crate) fn form(
    mut request: Request<RequestBody>,
    authority: &Authority,
    h2: bool,
    scheme: Scheme,
) -> Result<Request<RequestBody>, Error> {
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    if h2 {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(path);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| unusable(authority, &error))?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
    } else {
        let host = HeaderValue::try_from(authority.as_str()).map_err(|error| unusable(authority, &error))?;
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

fn unusable(authority: &Authority, error: &dyn std::fmt::Display) -> Error {
    Error::new(Cause::Request, format!("{authority:?} cannot be sent as the host of a request: {error}"))
}

/// A version 4 UUID.
// spec: rfc9562 5.4
fn request_id() -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = [b'-'; 36];
    let mut nibble = 32;
    for (at, byte) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            nibble -= 1;
            *byte = HEX[(bits >> (4 * nibble)) as usize & 0xf];
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Small numbers, which are the usual ones, cost no allocation.
fn number(n: u32) -> HeaderValue {
    const SMALL: [&str; 4] = ["0", "1", "2", "3"];
    SMALL.get(n as usize).map_or_else(|| HeaderValue::from(n), |text| HeaderValue::from_static(text))
}

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_version_4_uuid_and_new_each_time() {
        let ids: std::collections::HashSet<_> = (0..100).map(|_| request_id()).collect();
        assert_eq!(ids.len(), 100);
        for id in &ids {
            let id = id.to_str().unwrap();
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        }
    }

    #[test]
    fn headers_of_the_hop_before_are_stripped_and_te_trailers_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop, te"),
            ("keep-alive", "5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("x-end", "1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["te", "x-end"]);
        headers.insert("te", HeaderValue::from_static("gzip"));
        strip_hop(&mut headers);
        assert!(!headers.contains_key("te"));
    }

    #[test]
    fn a_form_can_be_given_twice() {
        let authority = Authority::from_static("reviews:80");
        let request = Request::get("/a?b=c").body(RequestBody::empty()).unwrap();
        let one = form(request, &authority, false, Scheme::HTTP).unwrap();
        assert_eq!(
            (one.uri().to_string(), one.headers()["host"].to_str().unwrap()),
            ("/a?b=c".into(), "reviews:80")
        );
        let two = form(one, &authority, true, Scheme::HTTP).unwrap();
        assert_eq!(two.uri(), "http://reviews:80/a?b=c");
        assert!(!two.headers().contains_key("host"));
        let one = form(two, &authority, false, Scheme::HTTP).unwrap();
        assert_eq!(one.uri(), "/a?b=c");
    }
}
