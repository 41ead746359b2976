//! Rewrites of path and authority.

use super::matcher::path;
use http::HeaderValue;

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
        };
        if rewritten.starts_with('/') { rewritten } else { format!("/{rewritten}") }
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
}
