//! How gRPC shows in HTTP: the content type, and the status codes of one in terms of the other. Reads no message.

use http::{HeaderMap, StatusCode, header};

/// Returns whether these are the headers of a gRPC request.
// spec: envoy common/grpc/common.cc Common::hasGrpcContentType
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Returns the gRPC status of an answer that has only an HTTP status.
// spec: envoy source/common/grpc/status.cc httpToGrpcStatus
pub fn status_of_http(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn an_http_status_becomes_the_grpc_status_that_envoy_makes_of_it() {
        let table = [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14)];
        for status in (100..600).map(|status| StatusCode::from_u16(status).unwrap()) {
            let named = table.iter().find(|(http, _)| *http == status.as_u16());
            assert_eq!(status_of_http(status), named.map_or(2, |(_, grpc)| *grpc), "{status}");
        }
    }
}
