//! Whether a route applies to a request, and if not, which condition failed first.

use super::Head;
use crate::{
    authorize::Claims,
    config::istio::{ClaimMatch, StringMatch},
};
use http::{HeaderMap, HeaderName};
use std::{borrow::Cow, fmt};

/// The conditions of a route; every one must hold, none matches everything.
#[derive(Clone, Debug, Default)]
pub struct RouteMatch {
    conditions: Box<[Condition]>,
    /// On the claims of a token that was verified where the request arrived.
    claims: Box<[ClaimMatch]>,
}

/// One condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// On the path, without query and fragment.
    Path {
        /// How it is compared.
        pattern: StringMatch,
        /// Whether case matters not (exact and prefix only).
        ignore_case: bool,
    },
    /// On the path, without query and fragment: its first segments are these. No `/` at the end.
    PathSegments(String),
    /// On the method.
    Method(StringMatch),
    /// On the scheme.
    Scheme(StringMatch),
    /// On the authority as sent, with any port.
    Authority(StringMatch),
    /// On the authority as sent, which must not match.
    WithoutAuthority(StringMatch),
    /// On a header; several values are joined by `,`.
    Header(HeaderName, StringMatch),
    /// On a header that must not match; a missing one counts as empty unless the pattern is presence.
    WithoutHeader(HeaderName, StringMatch),
    /// On the first occurrence of a query parameter, as sent.
    Query(String, StringMatch),
}

/// The first condition that did not hold, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(pub String);

impl RouteMatch {
    /// Returns a match of all `conditions`.
    pub fn all(conditions: Vec<Condition>) -> Self {
        Self { conditions: conditions.into_boxed_slice(), claims: Box::default() }
    }

    /// Asks for `claims` as well, each of which must hold.
    #[must_use]
    pub fn of_claims(self, claims: Vec<ClaimMatch>) -> Self {
        Self { claims: claims.into_boxed_slice(), ..self }
    }

    /// Returns whether it matches every request.
    // spec: istio pilot/pkg/networking/core/route IsCatchAllRoute
    pub fn is_catch_all(&self) -> bool {
        self.claims.is_empty()
            && self.conditions.iter().all(|condition| match condition {
                Condition::Path { pattern: StringMatch::Prefix(prefix), .. } => {
                    matches!(prefix.as_str(), "/" | "")
                }
                Condition::Path { pattern: StringMatch::Present, .. } => true,
                Condition::Path { pattern: StringMatch::Regex(regex), .. } => {
                    matches!(regex.as_str(), ".*" | "^(?:.*)$" | "/.*" | "^(?:/.*)$")
                }
                _ => false,
            })
    }

    /// Returns whether `head` matches, of a request without a token.
    pub fn matches(&self, head: &Head<'_>) -> bool {
        self.matches_for(head, &Claims::default())
    }

    /// Returns whether `head` matches, of a request whose verified token says `claims`.
    pub fn matches_for(&self, head: &Head<'_>, claims: &Claims) -> bool {
        self.conditions.iter().all(|condition| condition.holds(head))
            && self.claims.iter().all(|claim| claim.holds(claims))
    }

    /// Returns the first condition that `head` does not meet, of a request without a token.
    pub fn mismatch(&self, head: &Head<'_>) -> Option<Mismatch> {
        let Some(failed) = self.conditions.iter().find(|condition| !condition.holds(head)) else {
            let failed = self.claims.iter().find(|claim| !claim.holds(&Claims::default()))?;
            return Some(Mismatch(format!("{failed}, got no token")));
        };
        Some(Mismatch(format!(
            "{failed}, got {}",
            failed.subject(head).as_deref().map_or("nothing".into(), quoted)
        )))
    }
}

/// The conditions in the user's words, joined by ` and `; `any request` if there is none.
impl fmt::Display for RouteMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.conditions.iter().map(|condition| condition as &dyn fmt::Display);
        let mut all = conditions.chain(self.claims.iter().map(|claim| claim as &dyn fmt::Display));
        match all.next() {
            None => f.write_str("any request"),
            Some(first) => write!(f, "{first}"),
        }?;
        all.try_for_each(|condition| write!(f, " and {condition}"))
    }
}

impl Condition {
    fn holds(&self, head: &Head<'_>) -> bool {
        let subject = self.subject(head);
        match self {
            Self::Path { pattern, ignore_case: true } => matches_ignoring_case(pattern, subject.as_deref()),
            Self::PathSegments(prefix) => subject.is_some_and(|path| begins_with_segments(&path, prefix)),
            Self::WithoutHeader(_, StringMatch::Present) => subject.is_none(),
            Self::WithoutAuthority(pattern) => !matches(pattern, subject.as_deref()),
            // spec: envoy config.route.v3.HeaderMatcher.treat_missing_header_as_empty, as Istio sets it: a missing header counts as empty
            Self::WithoutHeader(_, pattern) => !matches(pattern, subject.as_deref().or(Some(""))),
            Self::Path { pattern, .. }
            | Self::Method(pattern)
            | Self::Scheme(pattern)
            | Self::Authority(pattern)
            | Self::Header(_, pattern)
            | Self::Query(_, pattern) => matches(pattern, subject.as_deref()),
        }
    }

    fn subject<'a>(&self, head: &Head<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Path { .. } | Self::PathSegments(_) => Some(path(head.path_and_query).into()),
            Self::Method(_) => Some(head.method.as_str().into()),
            Self::Scheme(_) => Some(head.scheme.into()),
            Self::Authority(_) | Self::WithoutAuthority(_) => Some(head.authority.into()),
            Self::Header(name, _) | Self::WithoutHeader(name, _) => joined(head.headers, name),
            Self::Query(name, _) => query(head.path_and_query, name).map(Cow::Borrowed),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, pattern): (Cow<'_, str>, _) = match self {
            Self::Path { pattern, .. } => ("uri".into(), pattern),
            Self::PathSegments(prefix) => return write!(f, "path prefix {prefix:?} (by segment)"),
            Self::Method(pattern) => ("method".into(), pattern),
            Self::Scheme(pattern) => ("scheme".into(), pattern),
            Self::Authority(pattern) => ("authority".into(), pattern),
            Self::WithoutAuthority(pattern) => ("withoutHeaders[host]".into(), pattern),
            Self::Header(name, pattern) => (format!("headers[{name}]").into(), pattern),
            Self::WithoutHeader(name, pattern) => (format!("withoutHeaders[{name}]").into(), pattern),
            Self::Query(name, pattern) => (format!("queryParams[{name}]").into(), pattern),
        };
        write_condition(f, &what, pattern)
    }
}

impl ClaimMatch {
    /// Any item will do of a claim that is a list.
    // spec: istio networking/v1alpha3/virtual_service.proto HTTPMatchRequest.headers: JWT claim based routing
    fn holds(&self, claims: &Claims) -> bool {
        claims.texts(&self.claim).any(|text| matches(&self.pattern, Some(text))) != self.absent
    }
}

impl fmt::Display for ClaimMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without = if self.absent { "without " } else { "" };
        write_condition(f, &format!("{without}claim {}", self.claim.join(".")), &self.pattern)
    }
}

fn write_condition(f: &mut fmt::Formatter<'_>, what: &str, pattern: &StringMatch) -> fmt::Result {
    match pattern {
        StringMatch::Exact(text) => write!(f, "{what} exact {text:?}"),
        StringMatch::Prefix(text) => write!(f, "{what} prefix {text:?}"),
        StringMatch::Regex(regex) => write!(f, "{what} regex {:?}", regex.as_str()),
        StringMatch::Present => write!(f, "{what} present"),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn matches(pattern: &StringMatch, subject: Option<&str>) -> bool {
    match (pattern, subject) {
        (_, None) => false,
        (StringMatch::Present, Some(_)) => true,
        (StringMatch::Exact(exact), Some(text)) => exact == text,
        (StringMatch::Prefix(prefix), Some(text)) => text.starts_with(prefix.as_str()),
        (StringMatch::Regex(regex), Some(text)) => regex.is_match(text),
    }
}

fn matches_ignoring_case(pattern: &StringMatch, subject: Option<&str>) -> bool {
    match (pattern, subject) {
        (StringMatch::Exact(exact), Some(text)) => exact.eq_ignore_ascii_case(text),
        (StringMatch::Prefix(prefix), Some(text)) => text
            .as_bytes()
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes())),
        _ => matches(pattern, subject),
    }
}

// spec: envoy config.route.v3.RouteMatch.path_separated_prefix
fn begins_with_segments(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the path of `path_and_query`, without query and fragment.
pub(super) fn path(path_and_query: &str) -> &str {
    let end = path_and_query.find(['?', '#']).unwrap_or(path_and_query.len());
    &path_and_query[..end]
}

fn query<'a>(path_and_query: &'a str, name: &str) -> Option<&'a str> {
    let query = path_and_query.split_once('?')?.1;
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Header values that are not text match nothing but presence: they read as the replacement character.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = values.next()?;
    Some(values.fold(first, |all, next| Cow::Owned(format!("{all},{next}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn each_condition_reads_its_part_of_the_request() {
        let headers = headers(&[("end-user", "jason"), ("many", "a"), ("many", "b")]);
        let head = head("/pay/1?debug&user=jo&user=x#frag", &headers);
        let name = HeaderName::from_static;
        let table = [
            (Condition::Path { pattern: exact("/pay/1"), ignore_case: false }, true),
            (Condition::Path { pattern: exact("/PAY/1"), ignore_case: false }, false),
            (Condition::Path { pattern: exact("/PAY/1"), ignore_case: true }, true),
            (Condition::Path { pattern: prefix("/P"), ignore_case: true }, true),
            (Condition::Path { pattern: prefix("/pay/12"), ignore_case: true }, false),
            (Condition::Path { pattern: regex("/pay/[0-9]+"), ignore_case: false }, true),
            (Condition::Path { pattern: regex("/pay"), ignore_case: false }, false),
            (Condition::Method(exact("GET")), true),
            (Condition::Method(exact("get")), false),
            (Condition::Scheme(exact("http")), true),
            (Condition::Authority(exact("payment:80")), true),
            (Condition::Authority(exact("payment")), false),
            (Condition::WithoutAuthority(exact("payment:80")), false),
            (Condition::WithoutAuthority(exact("payment")), true),
            (Condition::WithoutAuthority(StringMatch::Present), false),
            (Condition::Header(name("end-user"), exact("jason")), true),
            (Condition::Header(name("end-user"), StringMatch::Present), true),
            (Condition::Header(name("missing"), StringMatch::Present), false),
            (Condition::Header(name("many"), exact("a,b")), true),
            (Condition::WithoutHeader(name("missing"), exact("x")), true),
            (Condition::WithoutHeader(name("missing"), exact("")), false),
            (Condition::WithoutHeader(name("missing"), StringMatch::Present), true),
            (Condition::WithoutHeader(name("end-user"), exact("jason")), false),
            (Condition::Query("user".to_owned(), exact("jo")), true),
            (Condition::Query("debug".to_owned(), exact("")), true),
            (Condition::Query("other".to_owned(), StringMatch::Present), false),
        ];
        for (condition, expected) in table {
            assert_eq!(condition.holds(&head), expected, "{condition}");
        }
    }

    #[test]
    fn a_prefix_is_a_string_prefix_and_not_a_path_segment() {
        let headers = HeaderMap::new();
        let foo = RouteMatch::all(vec![Condition::Path { pattern: prefix("/foo"), ignore_case: false }]);
        assert!(foo.matches(&head("/foobar", &headers)));
    }

    #[test]
    fn segments_match_whole_segments_only() {
        let headers = HeaderMap::new();
        let foo = RouteMatch::all(vec![Condition::PathSegments("/foo".to_owned())]);
        for (path, expected) in [
            ("/foo", true),
            ("/foo/", true),
            ("/foo/bar", true),
            ("/foo?bar", true),
            ("/foobar", false),
            ("/Foo", false),
            ("/", false),
            ("/bar/foo", false),
        ] {
            assert_eq!(foo.matches(&head(path, &headers)), expected, "{path}");
        }
        let mismatch = foo.mismatch(&head("/foobar", &headers));
        assert_eq!(mismatch, Some(Mismatch(r#"path prefix "/foo" (by segment), got "/foobar""#.to_owned())));
    }

    #[test]
    fn the_first_condition_that_fails_is_named_with_what_was_there() {
        let headers = headers(&[("end-user", "anna")]);
        let conditions = vec![
            Condition::Method(exact("GET")),
            Condition::Header(HeaderName::from_static("end-user"), exact("jason")),
            Condition::Path { pattern: exact("/other"), ignore_case: false },
        ];
        let mismatch = RouteMatch::all(conditions).mismatch(&head("/pay", &headers));
        assert_eq!(mismatch, Some(Mismatch(r#"headers[end-user] exact "jason", got "anna""#.to_owned())));
    }

    #[test]
    fn only_a_match_without_real_conditions_is_a_catch_all() {
        let path = |pattern| RouteMatch::all(vec![Condition::Path { pattern, ignore_case: false }]);
        assert!(RouteMatch::default().is_catch_all());
        assert!(path(prefix("/")).is_catch_all());
        assert!(path(StringMatch::Present).is_catch_all());
        assert!(path(regex(".*")).is_catch_all());
        assert!(!path(prefix("/a")).is_catch_all());
        assert!(!RouteMatch::all(vec![Condition::Method(exact("GET"))]).is_catch_all());
    }

    fn exact(text: &str) -> StringMatch {
        StringMatch::Exact(text.to_owned())
    }

    fn prefix(text: &str) -> StringMatch {
        StringMatch::Prefix(text.to_owned())
    }

    fn regex(text: &str) -> StringMatch {
        StringMatch::Regex(regex::Regex::new(&format!("^(?:{text})$")).unwrap())
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, http::HeaderValue::from_static(value));
        }
        map
    }

    fn head<'a>(path_and_query: &'a str, headers: &'a HeaderMap) -> Head<'a> {
        Head { method: &Method::GET, scheme: "http", authority: "payment:80", path_and_query, headers }
    }
}
