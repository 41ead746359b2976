//! The value of a header operation: plain text, or text with format commands that cite the request.
// spec: envoy configuration/http/http_conn_man/headers#custom-request-response-headers

use super::{Cited, HeaderOpError};
use http::{HeaderName, HeaderValue, Version};

/// A value, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The same for every request.
    Plain(HeaderValue),
    /// Put together for each request.
    Cites(Box<[Piece]>),
}

/// A piece of a value that cites the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// `%REQ(name?other):bytes%`: the first value of a header, or of the other one.
    Header {
        name: Part,
        other: Option<Part>,
        bytes_max: Option<usize>,
    },
    /// `%PROTOCOL%`.
    Protocol,
    /// `%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%`.
    RemoteAddress,
}

/// A part of a request's head that `%REQ()%` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

impl Value {
    /// Compiles the value of header `name`.
    pub(super) fn parse(name: &str, written: &str) -> Result<Self, HeaderOpError> {
        let pieces = pieces(written).map_err(|command| HeaderOpError::Format {
            name: name.to_owned(),
            command: command.to_owned(),
        })?;
        let invalid = || HeaderOpError::Value(name.to_owned());
        let text = |text: &String| HeaderValue::from_str(text).map_err(|_| invalid());
        match &pieces[..] {
            [] => Ok(Self::Plain(HeaderValue::from_static(""))),
            [Piece::Text(only)] => text(only).map(Self::Plain),
            _ => {
                for piece in &pieces {
                    if let Piece::Text(part) = piece {
                        text(part)?;
                    }
                }
                Ok(Self::Cites(pieces.into()))
            }
        }
    }

    /// Returns whether it is the same text for every request, and that text is empty.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Plain(value) if value.is_empty())
    }
}

/// Returns the value that `pieces` have for one request; `None` if nothing of what they cite is there.
// spec: envoy config.core.v3.HeaderValueOption.keep_empty_value: a header whose value comes out empty is not written
pub(super) fn resolve(pieces: &[Piece], cited: &Cited<'_>) -> Option<HeaderValue> {
    if let [Piece::Header { name: Part::Header(name), other: None, bytes_max: None }] = pieces {
        return cited.head.headers.get(name).filter(|value| !value.is_empty()).cloned();
    }
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            Piece::Header { name, other, bytes_max } => {
                let value = name.of(cited).or_else(|| other.as_ref()?.of(cited)).unwrap_or_default();
                bytes.extend_from_slice(&value[..value.len().min(bytes_max.unwrap_or(usize::MAX))]);
            }
            Piece::Protocol => bytes.extend_from_slice(protocol(cited.version).as_bytes()),
            Piece::RemoteAddress => bytes.extend_from_slice(cited.remote.to_string().as_bytes()),
        }
    }
    HeaderValue::from_bytes(&bytes).ok().filter(|value| !value.is_empty())
}

impl Part {
    /// Reads the name of a header, or of a pseudo header.
    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            ":method" => Self::Method,
            ":scheme" => Self::Scheme,
            ":authority" | "host" => Self::Authority,
            ":path" => Self::Path,
            name => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        })
    }

    fn of<'a>(&self, cited: &Cited<'a>) -> Option<&'a [u8]> {
        let head = &cited.head;
        match self {
            Self::Method => Some(head.method.as_str().as_bytes()),
            Self::Scheme => Some(head.scheme.as_bytes()),
            Self::Authority => Some(head.authority.as_bytes()),
            Self::Path => Some(head.path_and_query.as_bytes()),
            Self::Header(name) => head.headers.get(name).map(HeaderValue::as_bytes),
        }
    }
}

/// Splits a value into its pieces; `%%` is a percent sign.
///
/// # Errors
///
/// Returns the command that is not supported, or the rest of the value if it does not end.
fn pieces(written: &str) -> Result<Vec<Piece>, &str> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = written;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        rest = match after.strip_prefix('%') {
            Some(after) => {
                text.push('%');
                after
            }
            None => {
                let (command, after) = after.split_once('%').ok_or(&rest[before.len()..])?;
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::parse(command).ok_or(command)?);
                after
            }
        };
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

impl Piece {
    fn parse(command: &str) -> Option<Self> {
        match command {
            "PROTOCOL" => return Some(Self::Protocol),
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => return Some(Self::RemoteAddress),
            _ => {}
        }
        let (names, length) = command.strip_prefix("REQ(")?.split_once(')')?;
        let (name, other) = match names.split_once('?') {
            Some((name, other)) => (name, Some(Part::parse(other)?)),
            None => (names, None),
        };
        let bytes_max = match length.strip_prefix(':') {
            Some(length) => Some(length.parse().ok()?),
            None if length.is_empty() => None,
            None => return None,
        };
        Some(Self::Header { name: Part::parse(name)?, other, bytes_max })
    }
}

/// Returns the word that Envoy has for a version of HTTP.
// spec: envoy configuration/observability/access_log/usage#config-access-log-format-protocol
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 | Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
