//! How a text of a policy is compared with a text of a request. Knows nothing of policies.
// spec: istio security/v1beta1/authorization_policy.proto: exact, prefix `abc*`, suffix `*abc`, presence `*`

/// A compiled comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    /// Any text but the empty one.
    Present,
    /// A path with `{*}` or `{**}` in it.
    Template(Box<[Piece]>),
    /// Literals with anything between them.
    Glob(Box<[Box<str>]>),
}

/// A piece of a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(Box<str>),
    /// `{*}`: one whole segment, not empty.
    Segment,
    /// `{**}`: any number of segments.
    Rest,
}

impl Pattern {
    /// Returns the comparison that `text` stands for.
    pub(super) fn text(text: &str) -> Self {
        if text == "*" {
            return Self::Present;
        }
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(suffix), _) => Self::Suffix(suffix.into()),
            (None, Some(prefix)) => Self::Prefix(prefix.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }

    /// Returns the comparison that `path` stands for; a path may also be a template. `None` if it is a wrong one.
    pub(super) fn path(path: &str) -> Option<Self> {
        match path.contains("{*}") || path.contains("{**}") {
            true => pieces(path).map(Self::Template),
            false => Some(Self::text(path)),
        }
    }

    /// Returns the comparison in which every `*` of `text` stands for anything, slashes and nothing included.
    pub(super) fn glob(text: &str) -> Self {
        Self::Glob(text.split('*').map(Box::from).collect())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == &**exact,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Present => !text.is_empty(),
            Self::Template(pieces) => template_matches(pieces, text),
            Self::Glob(literals) => glob_matches(literals, text),
        }
    }

    /// Compares with the text that `pieces` make when they are joined by `,`: the values of a header, which may hold any
    /// byte. `*` is a header that is there, be it empty.
    // spec: istio pilot/pkg/security/authz/matcher HeaderMatcher: `*` is present_match
    pub(super) fn matches_joined<'p, I: Iterator<Item = &'p [u8]>>(&self, pieces: impl Fn() -> I) -> bool {
        let length = pieces().map(|piece| piece.len() + 1).sum::<usize>().saturating_sub(1);
        let mut bytes = pieces().flat_map(|piece| [b','].into_iter().chain(piece.iter().copied())).skip(1);
        match self {
            Self::Exact(exact) => length == exact.len() && bytes.eq(exact.bytes()),
            Self::Prefix(prefix) => bytes.by_ref().take(prefix.len()).eq(prefix.bytes()),
            Self::Suffix(suffix) => match length.checked_sub(suffix.len()) {
                Some(start) => bytes.skip(start).eq(suffix.bytes()),
                None => false,
            },
            Self::Present => true,
            Self::Template(_) | Self::Glob(_) => false,
        }
    }

    /// Compares without regard to the case of ASCII letters.
    pub(super) fn matches_ignoring_case(&self, text: &str) -> bool {
        let text = text.as_bytes();
        match self {
            Self::Exact(exact) => text.eq_ignore_ascii_case(exact.as_bytes()),
            Self::Prefix(prefix) => {
                text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
            }
            Self::Suffix(suffix) => {
                let start = text.len().checked_sub(suffix.len());
                start.is_some_and(|start| text[start..].eq_ignore_ascii_case(suffix.as_bytes()))
            }
            Self::Present => !text.is_empty(),
            Self::Template(_) | Self::Glob(_) => false,
        }
    }
}

/// Returns the pieces of a template: an operator is a whole segment, and none follows `{**}`.
// spec: istio security/v1beta1/authorization_policy.proto Operation.paths
fn pieces(template: &str) -> Option<Box<[Piece]>> {
    let (mut pieces, mut literal) = (Vec::new(), String::new());
    for (index, segment) in template.split('/').enumerate() {
        if index > 0 {
            literal.push('/');
        }
        let operator = match segment {
            "{*}" => Piece::Segment,
            "{**}" => Piece::Rest,
            _ if segment.contains(['{', '}', '*']) => return None,
            _ => {
                literal.push_str(segment);
                continue;
            }
        };
        if pieces.contains(&Piece::Rest) {
            return None;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal).into()));
        }
        pieces.push(operator);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal.into()));
    }
    Some(pieces.into())
}

/// Walks `{*}` greedily, which loses nothing: a segment ends at the first `/` and nowhere else. `{**}` is the last
/// operator, so what follows it is a suffix.
// spec: istio security/v1beta1/authorization_policy.proto Operation.paths
fn template_matches(pieces: &[Piece], path: &str) -> bool {
    match pieces {
        [] => path.is_empty(),
        [Piece::Literal(literal), others @ ..] => {
            path.strip_prefix(&**literal).is_some_and(|rest| template_matches(others, rest))
        }
        [Piece::Segment, others @ ..] => {
            let end = path.find('/').unwrap_or(path.len());
            end > 0 && is_path_text(&path[..end]) && template_matches(others, &path[end..])
        }
        [Piece::Rest] => is_path_text(path),
        [Piece::Rest, Piece::Literal(literal)] => path.strip_suffix(&**literal).is_some_and(is_path_text),
        [Piece::Rest, ..] => false,
    }
}

/// Finds each literal where it stands first, which leaves the most to those after it.
fn glob_matches(literals: &[Box<str>], text: &str) -> bool {
    let [first, others @ ..] = literals else { return false };
    let Some(mut rest) = text.strip_prefix(&**first) else { return false };
    let Some((last, between)) = others.split_last() else { return rest.is_empty() };
    for literal in between {
        let Some((_, behind)) = rest.split_once(&**literal) else { return false };
        rest = behind;
    }
    rest.ends_with(&**last)
}

/// Returns whether `text` consists of what Envoy's operators stand for.
// spec: envoy extensions/path/uri_template_lib: kPathGlob and kTextGlob
fn is_path_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()+,;:@=".contains(&b))
}

/// Returns the host of `host:port` or `host:*`; `None` if it has no port.
pub(super) fn host_without_port(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let is_port = port == "*" || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let is_bare_ipv6 = name.contains(':') && !name.ends_with(']');
    (is_port && !is_bare_ipv6 && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_matches_as_istio_writes_it() {
        for (pattern, text, matches) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc", "ABC", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "ab", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*", "a", true),
            ("*", "", false),
            ("*a*", "a*", true),
            ("*a*", "bab", false),
            ("a.c", "abc", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::text(pattern).matches(text), matches, "`{pattern}` on `{text}`");
        }
    }

    #[test]
    fn a_host_matches_whatever_its_case() {
        for (pattern, host, matches) in [
            ("Shop.Example", "shop.eXample", true),
            ("*.EXAMPLE", "shop.example", true),
            ("Shop*", "sHOP.example", true),
            ("shop.example", "shop", false),
            ("*shop.example", "example", false),
            ("*", "x", true),
            ("*", "", false),
            ("é*", "e", false),
        ] {
            assert_eq!(
                Pattern::text(pattern).matches_ignoring_case(host),
                matches,
                "`{pattern}` on `{host}`"
            );
        }
    }

    #[test]
    fn a_path_template_matches_whole_segments() {
        for (template, path, matches) in [
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{*}", "/foo/bar/baz", false),
            ("/foo/{*}/bar", "/foo/x/bar", true),
            ("/foo/{*}/bar", "/foo/x/y/bar", false),
            ("/{*}/{*}", "/a/b", true),
            ("/foo/{**}", "/foo/bar/baz", true),
            ("/foo/{**}", "/foo/", true),
            ("/foo/{**}", "/foobar", false),
            ("/foo/{*}/x/{**}/z", "/foo/a/x/b/c/z", true),
            ("/foo/{*}/x/{**}/z", "/foo/a/x/b/c", false),
            ("/foo/{*}", "/foo/{}", false),
        ] {
            assert_eq!(Pattern::path(template).unwrap().matches(path), matches, "`{template}` on `{path}`");
        }
    }

    #[test]
    fn a_wrong_path_template_is_none() {
        for template in ["/{**}/a/{**}", "/{**}/{*}", "/foo{*}", "/{*}bar", "/{*}/b*", "/{*}/{a}"] {
            assert_eq!(Pattern::path(template), None, "{template}");
        }
    }

    #[test]
    fn a_star_of_a_glob_stands_for_anything() {
        for (glob, text, matches) in [
            ("*/ns/shop/*", "td/ns/shop/sa/web", true),
            ("*/ns/shop/*", "td/ns/shopping/sa/web", false),
            ("*/ns/shop/*", "td/ns/shop", false),
            ("*/ns/a*b/*", "td/ns/a-b/sa/web", true),
            ("*/ns/a*b/*", "td/ns/ab/sa/web", true),
            ("*/ns/a*b/*", "td/ns/a-c/sa/web", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*", "", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*b*a", "aba", true),
            ("a*b*a", "ab", false),
        ] {
            assert_eq!(Pattern::glob(glob).matches(text), matches, "`{glob}` on `{text}`");
        }
    }

    #[test]
    fn the_values_of_a_header_are_compared_as_if_joined() {
        for (pattern, values, matches) in [
            ("a", &["a"][..], true),
            ("a", &["a", "a"], false),
            ("a,b", &["a", "b"], true),
            ("a*", &["ab", "c"], true),
            ("b*", &["ab", "c"], false),
            ("abcd*", &["ab"], false),
            ("*,c", &["ab", "c"], true),
            ("*c", &["c"], true),
            ("*dc", &["c"], false),
            ("*", &[""], true),
            ("", &[""], true),
        ] {
            let pieces = || values.iter().map(|value| value.as_bytes());
            assert_eq!(Pattern::text(pattern).matches_joined(pieces), matches, "`{pattern}` on {values:?}");
        }
    }

    #[test]
    fn the_port_of_a_host_is_told_from_the_host() {
        for (host, name) in [
            ("a.b", None),
            ("a.b:80", Some("a.b")),
            ("a.b:*", Some("a.b")),
            ("*:80", Some("*")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", None),
            ("::1", None),
            ("a:b", None),
            (":80", None),
        ] {
            assert_eq!(host_without_port(host), name, "{host}");
        }
    }
}
