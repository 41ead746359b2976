//! Header operations, compiled: names and values are valid before a request comes.
//!
//! Most values are the same for every request. Those that cite the request are resolved before anything is written, so
//! that no operation reads what another one of its level wrote.

mod value;

use super::Head;
use crate::config::istio::HeaderOperations;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, uri::PathAndQuery};
use std::net::IpAddr;
use value::Value;

/// `remove`, `set` and `add`, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOps {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
}

/// What a header's value may cite.
#[derive(Clone, Copy, Debug)]
pub struct Cited<'a> {
    /// The request.
    pub head: Head<'a>,
    /// The version of HTTP in which its caller made it.
    pub version: Version,
    /// Its caller's address.
    pub remote: IpAddr,
}

/// What a request does not say of itself.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The authority as sent, with any port.
    pub authority: &'a str,
    /// The caller's address.
    pub remote: IpAddr,
}

/// The values that operations have for one request, in the order of the operations that cite it; empty for most.
#[derive(Clone, Debug, Default)]
pub struct CitedValues(Vec<Option<HeaderValue>>);

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
        "the value of header {name:?} holds the command {command:?}; write %% for a percent sign: of Envoy's commands \
         %REQ(name)%, %PROTOCOL% and %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% are supported"
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
            let pairs = plain.filter_map(|(key, value)| keep(pair(key, value)));
            // spec: envoy config.core.v3.HeaderValueOption.keep_empty_value
            pairs.filter(|(_, value): &(_, Value)| !value.is_empty()).collect::<Vec<_>>()
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

    /// Returns the values for a request. Allocates nothing if no operation cites it.
    pub fn values(&self, cited: &Cited<'_>) -> CitedValues {
        let pieces = self.set.iter().chain(&self.add).filter_map(|(_, value)| match value {
            Value::Plain(_) => None,
            Value::Cites(pieces) => Some(pieces),
        });
        CitedValues(pieces.map(|pieces| value::resolve(pieces, cited)).collect())
    }

    /// Applies the operations to `headers`, with the values they have for this request.
    pub fn apply(&self, headers: &mut HeaderMap, values: CitedValues) {
        self.remove_from(headers);
        self.write_to(headers, values);
    }

    /// Applies the operations to a request. What they remove, they do not cite.
    // spec: envoy source/common/router/header_parser.cc HeaderParser::evaluateHeaders
    pub fn apply_to_request<B>(&self, request: &mut Request<B>, caller: Caller<'_>) {
        self.remove_from(request.headers_mut());
        let values = self.values(&Cited::of(request, caller));
        self.write_to(request.headers_mut(), values);
    }

    fn remove_from(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
    }

    fn write_to(&self, headers: &mut HeaderMap, values: CitedValues) {
        let mut cited = values.0.into_iter();
        let mut value = |value: &Value| match value {
            Value::Plain(value) => Some(value.clone()),
            Value::Cites(_) => cited.next().flatten(),
        };
        for (name, written) in &self.set {
            if let Some(value) = value(written) {
                headers.insert(name, value);
            }
        }
        for (name, written) in &self.add {
            if let Some(value) = value(written) {
                headers.append(name, value);
            }
        }
    }
}

impl<'a> Cited<'a> {
    /// Returns what may be cited of `request`.
    pub fn of<B>(request: &'a Request<B>, caller: Caller<'a>) -> Self {
        let head = Head {
            method: request.method(),
            scheme: caller.scheme,
            authority: caller.authority,
            path_and_query: request.uri().path_and_query().map_or("/", PathAndQuery::as_str),
            headers: request.headers(),
        };
        Self { head, version: request.version(), remote: caller.remote }
    }
}

/// Returns the authority that `operations` set, if they do; `set` wins over `add`.
// spec: istio pilot/pkg/networking/core/route/route.go TranslateHeadersOperations: `host`/`:authority` in set or add is an authority rewrite
pub fn authority_of(operations: &HeaderOperations) -> Option<&str> {
    let mut all = operations.set.iter().chain(&operations.add);
    all.find(|(key, _)| is_authority(key)).map(|(_, value)| value.as_str())
}

/// Checks that `written` can be the value of header `name`.
///
/// # Errors
///
/// Returns why not.
pub fn check_header_value(name: &str, written: &str) -> Result<(), HeaderOpError> {
    Value::parse(name, written).map(drop)
}

fn is_authority(key: &str) -> bool {
    key.eq_ignore_ascii_case("host") || key.eq_ignore_ascii_case(":authority")
}

fn is_pseudo(key: &str) -> bool {
    is_authority(key) || key.starts_with(':')
}

fn pair(key: &str, value: &str) -> Result<(HeaderName, Value), HeaderOpError> {
    let value = Value::parse(key, value)?;
    Ok((name(key)?, value))
}

fn name(key: &str) -> Result<HeaderName, HeaderOpError> {
    HeaderName::from_bytes(key.as_bytes()).map_err(|_| HeaderOpError::Name(key.to_owned()))
}

#[cfg(test)]
mod tests;
