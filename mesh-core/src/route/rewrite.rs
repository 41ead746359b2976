//! Rewrites of path and authority.

use super::matcher::path;
use http::HeaderValue;
use regex::Regex;

/// A rewrite, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new path, if it changes.
    pub path: Option<PathRewrite>,
    /// The new authority, if it changes.
    pub authority: Option<HeaderValue>,
}

/// What becomes of the path. The query stays.
// spec: istio networking/v1alpha3/virtual_service.proto HTTPRewrite.uri
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// The matched prefix is replaced.
    Prefix {
        /// Its length in bytes.
        matched: usize,
        /// What stands there instead.
        with: String,
    },
    /// The whole path is replaced.
    Whole(String),
    /// Every part that a regular expression matches is replaced.
    Regex(Substitution),
}

/// What takes the place of every match of a regular expression.
// spec: envoy type.matcher.v3.RegexMatchAndSubstitute; re2 RE2::GlobalReplace
#[derive(Clone, Debug)]
pub struct Substitution {
    pattern: Regex,
    /// In the words of `regex`: `${1}` for RE2's `\1`, `$$` for a dollar sign.
    with: String,
}

/// A rewrite that RE2 would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    /// It names a group that the expression does not have.
    #[error("`\\{group}` names a group that the expression does not have: it has {groups}")]
    NoGroup {
        /// The group named.
        group: usize,
        /// How many the expression has.
        groups: usize,
    },
    /// A backslash that is followed neither by a digit nor by a backslash.
    #[error("a backslash is followed by a digit, or by another one for itself")]
    Backslash,
}

impl PathRewrite {
    /// Returns `path_and_query` rewritten. It always begins with `/`.
    pub fn apply(&self, path_and_query: &str) -> String {
        let (path, query) = path_and_query.split_at(path(path_and_query).len());
        let rewritten = match self {
            Self::Prefix { matched, with } => {
                format!("{with}{}{query}", path.get(*matched..).unwrap_or_default())
            }
            Self::Whole(with) => format!("{with}{query}"),
            Self::Regex(substitution) => {
                let replaced = substitution.pattern.replace_all(path, substitution.with.as_str());
                format!("{replaced}{query}")
            }
        };
        if rewritten.starts_with('/') { rewritten } else { format!("/{rewritten}") }
    }
}

impl Substitution {
    /// Returns the substitution of every match of `pattern` by `rewrite`, in which `\1` is the first group, `\0` the
    /// whole match and `\\` a backslash.
    ///
    /// # Errors
    ///
    /// Returns why RE2 would refuse it.
    pub fn new(pattern: Regex, rewrite: &str) -> Result<Self, SubstitutionError> {
        let mut with = String::with_capacity(rewrite.len());
        let mut chars = rewrite.chars();
        while let Some(c) = chars.next() {
            match c {
                '$' => with.push_str("$$"),
                '\\' => match chars.next().ok_or(SubstitutionError::Backslash)? {
                    '\\' => with.push('\\'),
                    digit => with.push_str(&group(&pattern, digit)?),
                },
                c => with.push(c),
            }
        }
        Ok(Self { pattern, with })
    }
}

/// Two are equal if they are written the same.
impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.pattern.as_str() == other.pattern.as_str() && self.with == other.with
    }
}

impl Eq for Substitution {}

fn group(pattern: &Regex, digit: char) -> Result<String, SubstitutionError> {
    let group = digit.to_digit(10).ok_or(SubstitutionError::Backslash)? as usize;
    // The whole match counts as a group, number 0.
    let groups = pattern.captures_len() - 1;
    if group > groups {
        Err(SubstitutionError::NoGroup { group, groups })
    } else {
        Ok(format!("${{{group}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_keeps_the_query_and_what_follows_the_prefix() {
        let prefix = |matched, with: &str| PathRewrite::Prefix { matched, with: with.to_owned() };
        assert_eq!(prefix(4, "/b").apply("/api/v1?x=/api"), "/b/v1?x=/api");
        assert_eq!(prefix(5, "/").apply("/api/v1"), "/v1");
        assert_eq!(prefix(4, "").apply("/api"), "/");
        assert_eq!(PathRewrite::Whole("/new".to_owned()).apply("/old/path?q"), "/new?q");
    }

    #[test]
    fn a_regex_replaces_every_match_in_the_path_and_none_in_the_query() {
        for (pattern, rewrite, path, expected) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz?one", "/xxx/two/yyy/two/zzz?one"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("a", r"<\0>", "/a", "/<a>"),
            ("a", r"\\$1", "/a", r"/\$1"),
            ("^/", "", "/a", "/a"),
            ("z", "y", "/a?z", "/a?z"),
        ] {
            let substitution = Substitution::new(Regex::new(pattern).unwrap(), rewrite).unwrap();
            assert_eq!(PathRewrite::Regex(substitution).apply(path), expected, "{pattern} {rewrite}");
        }
    }

    #[test]
    fn a_rewrite_that_names_no_group_of_its_expression_is_refused() {
        let pattern = Regex::new("(a)").unwrap();
        for (rewrite, error) in [
            (r"\2", SubstitutionError::NoGroup { group: 2, groups: 1 }),
            (r"a\", SubstitutionError::Backslash),
            (r"\n", SubstitutionError::Backslash),
        ] {
            assert_eq!(Substitution::new(pattern.clone(), rewrite), Err(error), "{rewrite}");
        }
    }
}
