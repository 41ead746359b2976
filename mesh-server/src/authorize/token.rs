//! What a caller is told whose token is not good, beside the fault itself.

use http::{HeaderValue, header, request::Parts};

/// Returns the `WWW-Authenticate` of the answer, as Envoy words it. The query is left out: it may hold the token.
// spec: RFC 6750 3; envoy source/extensions/filters/http/jwt_authn/filter.cc
pub(super) fn challenge(head: &Parts) -> HeaderValue {
    let scheme = head.uri.scheme_str().filter(|&scheme| scheme == "https").unwrap_or("http");
    let named = || head.headers.get(header::HOST)?.to_str().ok();
    let host = head.uri.authority().map(|it| it.as_str()).or_else(named).unwrap_or_default();
    let path: String = head.uri.path().chars().take(PATH_MAX).collect();
    // The one character of a path that would end the quotes.
    let path = path.replace('"', "%22");
    let challenge = format!("Bearer realm=\"{scheme}://{host}{path}\", error=\"invalid_token\"");
    let bare = || HeaderValue::from_static("Bearer error=\"invalid_token\"");
    HeaderValue::try_from(challenge).unwrap_or_else(|_| bare())
}

// spec: envoy source/extensions/filters/http/jwt_authn/filter.cc MaximumUriLength
const PATH_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_challenge_names_the_place_and_not_the_query() {
        let long = format!("/{}", "a".repeat(9000));
        for (uri, realm) in [
            ("/a?access_token=secret", "http://shop/a".to_owned()),
            ("https://shop:8443/a", "https://shop:8443/a".to_owned()),
            ("/a\"b", "http://shop/a%22b".to_owned()),
            (&long, format!("http://shop{}", &long[..256])),
        ] {
            let head = Request::get(uri).header("host", "shop").body(()).unwrap().into_parts().0;
            assert_eq!(
                challenge(&head),
                format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
                "{uri:.60}"
            );
        }
    }
}
