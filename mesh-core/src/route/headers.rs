//! Header operations, compiled: names and values are valid before a request comes.

use crate::config::istio::HeaderOperations;
use http::{HeaderMap, HeaderName, HeaderValue};

/// `remove`, `set` and `add`, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// An operation that cannot be compiled, for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderOpError {
    /// The name is no header name.
    #[error("{0:?} is no header name")]
    Name(String),
    /// The value is no header value.
    #[error("the value of header {0:?} holds a character that headers cannot carry")]
    Value(String),
    /// The value holds a format command that is not supported.
    #[error(
        "the value of header {name:?} holds {command:?}; write %% for a percent sign, other commands are not supported"
    )]
    Format {
        /// The header.
        name: String,
        /// The command.
        command: String,
    },
}

impl HeaderOps {
    /// Compiles `operations`. What cannot be compiled is left out and returned beside; `host` and `:authority` are
    /// left out too, as they are a rewrite of the authority ([`authority_of`]), and other `:` keys, as Istio drops them.
    pub fn compile(operations: &HeaderOperations) -> (Self, Vec<HeaderOpError>) {
        let mut errors = Vec::new();
        let mut keep = |result: Result<_, HeaderOpError>| result.map_err(|error| errors.push(error)).ok();
        let pairs = |pairs: &[(String, String)], keep: &mut dyn FnMut(_) -> Option<_>| {
            let plain = pairs.iter().filter(|(key, _)| !is_pseudo(key));
            plain.filter_map(|(key, value)| keep(pair(key, value))).collect::<Vec<_>>()
        };
        let (set, add) = (pairs(&operations.set, &mut keep), pairs(&operations.add, &mut keep));
        let removed = operations.remove.iter().filter(|key| !is_pseudo(key));
        let remove = removed.filter_map(|key| name(key).map_err(|error| errors.push(error)).ok()).collect();
        (Self { remove, set, add }, errors)
    }

    /// Returns whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Applies the operations to `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

/// Returns the authority that `operations` set, if they do.
// spec: istio pilot/pkg/networking/core/route/route.go TranslateHeadersOperations: `host`/`:authority` in set or add is an authority rewrite
pub fn authority_of(operations: &HeaderOperations) -> Option<&str> {
    let mut all = operations.set.iter().chain(&operations.add);
    all.find(|(key, _)| is_authority(key)).map(|(_, value)| value.as_str())
}

fn is_authority(key: &str) -> bool {
    key.eq_ignore_ascii_case("host") || key.eq_ignore_ascii_case(":authority")
}

fn is_pseudo(key: &str) -> bool {
    is_authority(key) || key.starts_with(':')
}

fn pair(key: &str, value: &str) -> Result<(HeaderName, HeaderValue), HeaderOpError> {
    let literal = literal(key, value)?;
    let value = HeaderValue::from_str(&literal).map_err(|_| HeaderOpError::Value(key.to_owned()))?;
    Ok((name(key)?, value))
}

fn name(key: &str) -> Result<HeaderName, HeaderOpError> {
    HeaderName::from_bytes(key.as_bytes()).map_err(|_| HeaderOpError::Name(key.to_owned()))
}

fn literal(key: &str, value: &str) -> Result<String, HeaderOpError> {
    let mut pieces = value.split("%%");
    match pieces.find(|piece| piece.contains('%')) {
        None => Ok(value.replace("%%", "%")),
        Some(piece) => Err(HeaderOpError::Format { name: key.to_owned(), command: piece.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_applied_as_remove_then_set_then_add() {
        let operations = HeaderOperations {
            set: vec![("a".into(), "new".into())],
            add: vec![("a".into(), "more".into()), ("p".into(), "100%%".into())],
            remove: vec!["a".into(), "gone".into()],
        };
        let (ops, errors) = HeaderOps::compile(&operations);
        assert_eq!(errors, []);
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_static("old"));
        headers.insert("gone", HeaderValue::from_static("x"));
        ops.apply(&mut headers);
        let values: Vec<_> = headers.get_all("a").iter().collect();
        assert_eq!(values, ["new", "more"]);
        assert_eq!(headers["p"], "100%");
        assert!(!headers.contains_key("gone"));
    }

    #[test]
    fn what_cannot_be_compiled_is_named_and_left_out() {
        let operations = HeaderOperations {
            set: vec![
                ("bad name".into(), "x".into()),
                ("a".into(), "%REQ(x)%".into()),
                ("b".into(), "ok".into()),
            ],
            add: vec![("c".into(), "line\nbreak".into())],
            remove: vec![String::new()],
        };
        let (ops, errors) = HeaderOps::compile(&operations);
        assert_eq!(errors.len(), 4, "{errors:?}");
        let mut headers = HeaderMap::new();
        ops.apply(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn setting_the_host_is_a_rewrite_of_the_authority() {
        let operations =
            HeaderOperations { set: vec![("Host".into(), "other".into())], ..Default::default() };
        assert_eq!(authority_of(&operations), Some("other"));
        assert!(HeaderOps::compile(&operations).0.is_empty());
    }
}
