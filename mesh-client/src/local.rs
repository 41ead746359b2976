//! Answers that a route gives by itself: redirects and direct responses.

use crate::{
    body::{CallInfo, ResponseBody},
    error::grpc_reply,
};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use mesh_core::{
    grpc::is_grpc,
    route::{Cited, Head, Redirect, Route, RouteAction},
};

/// Returns the answer of `route` to the request that is cited.
pub(crate) fn answer(cited: &Cited<'_>, route: &Route) -> Response<ResponseBody> {
    let mut response = match &route.action {
        RouteAction::Redirect(redirect) => redirected(&cited.head, redirect),
        RouteAction::Direct { status, body, .. } if is_grpc(cited.head.headers) => grpc(*status, body),
        RouteAction::Direct { status, body, .. } => direct(*status, body.clone()),
        // A route that forwards is not answered here, and kinds of action that are not known yet are nobody's.
        _ => direct(StatusCode::NOT_FOUND, Bytes::new()),
    };
    route.response_headers.apply(response.headers_mut(), route.response_headers.values(cited));
    response
}

fn direct(status: StatusCode, body: Bytes) -> Response<ResponseBody> {
    let length = body.len();
    let mut response = Response::new(ResponseBody::local(body, CallInfo::default()));
    *response.status_mut() = status;
    if length > 0 {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

// spec: envoy source/common/router/router.cc: a direct response is a local reply, which gRPC gets in its own form
fn grpc(status: StatusCode, body: &Bytes) -> Response<ResponseBody> {
    let reply = grpc_reply(mesh_core::grpc::status_of_http(status), &String::from_utf8_lossy(body));
    reply.map(|body| ResponseBody::local(body, CallInfo::default()))
}

fn redirected(head: &Head<'_>, redirect: &Redirect) -> Response<ResponseBody> {
    let mut response = direct(redirect.status, Bytes::new());
    if let Ok(location) = HeaderValue::try_from(location(head, redirect)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

// spec: istio networking/v1alpha3/virtual_service.proto HTTPRedirect
fn location(head: &Head<'_>, redirect: &Redirect) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme);
    let authority = redirect.authority.as_deref().unwrap_or(head.authority);
    let authority = match (redirect.port, redirect.scheme.is_some()) {
        (Some(port), _) => with_port(authority, scheme, port),
        // A port that was the default of the old scheme means nothing under a new one.
        (None, true) => without_default_port(authority),
        (None, false) => authority.to_owned(),
    };
    let path = match (&redirect.path, &redirect.uri, head.path_and_query.split_once('?')) {
        (Some(rewrite), _, _) => rewrite.apply(head.path_and_query),
        (None, None, _) => head.path_and_query.to_owned(),
        (None, Some(uri), Some((_, query))) if !uri.contains('?') => format!("{uri}?{query}"),
        (None, Some(uri), _) => uri.clone(),
    };
    format!("{scheme}://{authority}{path}")
}

fn with_port(authority: &str, scheme: &str, port: u16) -> String {
    let host = host_of(authority);
    let default = if scheme == "https" { 443 } else { 80 };
    if port == default { host.to_owned() } else { format!("{host}:{port}") }
}

fn without_default_port(authority: &str) -> String {
    let host = host_of(authority);
    let default = matches!(&authority[host.len()..], ":80" | ":443");
    if default { host.to_owned() } else { authority.to_owned() }
}

/// Returns `authority` without its port; brackets of an IPv6 address stay.
fn host_of(authority: &str) -> &str {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    authority[end..].find(':').map_or(authority, |colon| &authority[..end + colon])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};
    use mesh_core::route::{HeaderOps, PathRewrite, RouteMatch};

    #[test]
    fn a_redirect_replaces_what_it_names_and_keeps_the_rest() {
        let none = Redirect {
            status: StatusCode::FOUND,
            uri: None,
            path: None,
            authority: None,
            port: None,
            scheme: None,
            fault: None,
        };
        let prefix = |matched, with: &str| Some(PathRewrite::Prefix { matched, with: with.to_owned() });
        let some = |text: &str| Some(text.to_owned());
        let table = [
            (none.clone(), "http://shop:8080/a?q=1"),
            (Redirect { uri: some("/b"), ..none.clone() }, "http://shop:8080/b?q=1"),
            (Redirect { uri: some("/b?x"), ..none.clone() }, "http://shop:8080/b?x"),
            (Redirect { path: prefix(2, "/b/c"), ..none.clone() }, "http://shop:8080/b/c?q=1"),
            (Redirect { path: prefix(2, ""), ..none.clone() }, "http://shop:8080/?q=1"),
            (Redirect { path: prefix(2, "/b"), ..none.clone() }, "http://shop:8080/b?q=1"),
            (Redirect { path: prefix(1, "/b/"), ..none.clone() }, "http://shop:8080/b/a?q=1"),
            (
                Redirect { path: Some(PathRewrite::Whole("/c".to_owned())), ..none.clone() },
                "http://shop:8080/c?q=1",
            ),
            (Redirect { authority: some("other"), ..none.clone() }, "http://other/a?q=1"),
            (Redirect { port: Some(80), ..none.clone() }, "http://shop/a?q=1"),
            (Redirect { port: Some(81), ..none.clone() }, "http://shop:81/a?q=1"),
            (Redirect { scheme: some("https"), ..none.clone() }, "https://shop:8080/a?q=1"),
            (Redirect { scheme: some("https"), authority: some("o:80"), ..none.clone() }, "https://o/a?q=1"),
            (Redirect { authority: some("[::1]:80"), port: Some(81), ..none }, "http://[::1]:81/a?q=1"),
        ];
        let headers = HeaderMap::new();
        let head = Head {
            method: &Method::GET,
            scheme: "http",
            authority: "shop:8080",
            path_and_query: "/a?q=1",
            headers: &headers,
        };
        for (redirect, expected) in table {
            assert_eq!(location(&head, &redirect), expected, "{redirect:?}");
        }
    }

    #[test]
    fn a_direct_response_to_grpc_is_a_status_of_grpc() {
        let action = RouteAction::Direct {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: Bytes::from_static(b"no"),
            fault: None,
        };
        let route = Route {
            name: "route".into(),
            source: None,
            matches: RouteMatch::default(),
            action,
            response_headers: HeaderOps::default(),
        };
        let answered = |content_type| {
            let headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            let head = Head {
                method: &Method::POST,
                scheme: "http",
                authority: "shop",
                path_and_query: "/s/m",
                headers: &headers,
            };
            let remote = std::net::Ipv4Addr::LOCALHOST.into();
            answer(&Cited { head, version: http::Version::HTTP_2, remote }, &route)
        };
        let grpc = answered("application/grpc");
        assert_eq!((grpc.status(), &grpc.headers()["grpc-status"]), (StatusCode::OK, &"2".parse().unwrap()));
        assert_eq!(grpc.headers()["grpc-message"], "no");
        assert_eq!(answered("text/plain").status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
