//! One spelling of path and host, made once, so that policy and handler judge the same bytes.
//!
//! It does not decode what is not plainly the same character (`%2f` is not `/`), and it cannot see a fragment:
//! `http::Uri` cuts `#…` off before anybody sees it, policy and handler alike.
// spec: istio meshConfig.pathNormalization BASE; RFC 3986 6.2.2; CVE-2021-31920, CVE-2021-39155, CVE-2021-39156

use crate::{reply::Reply, step::Step};
use http::{
    HeaderValue, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery},
};
use mesh_core::config::istio::PathNormalization;
use mesh_runtime::config::ConfigStore;
use std::{borrow::Cow, sync::Arc};

/// The step that gives path and host their one spelling.
///
/// The path: dot segments resolved, `\` read as `/`, unreserved characters unescaped; 400 for `%2f`, `%5c`, `%00` and
/// `/..;`, which two parsers never read alike, and for escapes that spell another escape (`%%32f`). The host: lower case,
/// no trailing dot; 400 for none (but in HTTP/1.0), for two, and for a `Host` that differs from the request's authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalise {
    merge_slashes: bool,
    keep_escaped: bool,
}

impl Normalise {
    /// Also reads several slashes as one (Istio's MERGE_SLASHES). Default no: `//` is a path of its own in RFC 3986. A
    /// MeshConfig can ask for it too.
    #[must_use]
    pub fn merge_slashes(self) -> Self {
        Self { merge_slashes: true, ..self }
    }

    /// Passes `%2f`, `%5c`, `%00` and `/..;` on as they are instead of answering 400 (Istio's BASE). Default no: a handler
    /// that decodes before it compares would see another path than policy did.
    #[must_use]
    pub fn keep_escaped_slashes(self) -> Self {
        Self { keep_escaped: true, ..self }
    }
}

/// [`Normalise`] as the server is set to, and as the MeshConfig in force says besides.
// spec: istio mesh/v1alpha1/config.proto ProxyPathNormalization
#[derive(Clone, Debug)]
pub(crate) struct NormaliseInForce {
    pub(crate) own: Normalise,
    pub(crate) config: Arc<ConfigStore>,
}

impl NormaliseInForce {
    fn is_merging_in_force(&self) -> bool {
        use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, Unchanged};
        match self.config.current().inbound().path_normalization {
            MergeSlashes | DecodeAndMergeSlashes => true,
            Base | Unchanged => false,
        }
    }
}

/// Returns whether slashes stand beside each other once `\` is read as one. No escape becomes a slash.
fn has_adjacent_slashes(path: &str) -> bool {
    path.as_bytes().windows(2).any(|pair| pair.iter().all(|byte| matches!(byte, b'/' | b'\\')))
}

impl Step for NormaliseInForce {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        // Almost no path has slashes to merge, and then nobody asks what is in force.
        let merges = has_adjacent_slashes(head.uri.path()) && self.is_merging_in_force();
        if merges { self.own.merge_slashes() } else { self.own }.on_request(head)
    }
}

impl Step for Normalise {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        self.normalise_path(&mut head.uri)?;
        normalise_host(head)
    }
}

/// Returns the host of a request that passed [`Normalise`], with its port if it names one; empty if it has none.
pub(crate) fn host(head: &Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

impl Normalise {
    fn normalise_path(self, uri: &mut Uri) -> Result<(), Reply> {
        let path = match self.path(uri.path())? {
            Cow::Borrowed(_) => return Ok(()),
            Cow::Owned(path) => path,
        };
        let path_and_query = match uri.query() {
            Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
            None => PathAndQuery::try_from(path),
        };
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path_and_query.map_err(|_| Reply::BadPath)?);
        *uri = Uri::from_parts(parts).map_err(|_| Reply::BadPath)?;
        Ok(())
    }

    /// Returns the one spelling of `path`, borrowed if it has it already.
    fn path(self, path: &str) -> Result<Cow<'_, str>, Reply> {
        if !path.starts_with('/') || !self.is_suspicious(path.as_bytes()) {
            return Ok(Cow::Borrowed(path));
        }
        let plain = self.unescape(path)?;
        // `%%32f` spells `%2f` once `%32` is read: a new escape, which policy would compare and a handler decode.
        if self.unescape(&plain)? != plain {
            return Err(Reply::BadPath);
        }
        if !self.keep_escaped && plain.split('/').any(is_dots_with_parameters) {
            return Err(Reply::BadPath);
        }
        Ok(Cow::Owned(self.resolve(&plain)))
    }

    /// Returns whether there may be something to do: false positives cost a copy, there are no false negatives.
    fn is_suspicious(self, path: &[u8]) -> bool {
        let mut last = 0;
        path.iter().any(|&byte| {
            let pair = last == b'/' && (byte == b'.' || (byte == b'/' && self.merge_slashes));
            last = byte;
            pair || byte == b'%' || byte == b'\\'
        })
    }

    /// Reads `\` as `/` and unescapes what needs no escape.
    fn unescape(self, path: &str) -> Result<String, Reply> {
        let mut plain = String::with_capacity(path.len());
        let mut rest = path;
        while let Some(at) = rest.find(['%', '\\']) {
            plain.push_str(&rest[..at]);
            let (escape, character) = match escaped(&rest.as_bytes()[at..]) {
                _ if rest.as_bytes()[at] == b'\\' => (1, '/'),
                Some(b'/' | b'\\' | 0) if !self.keep_escaped => return Err(Reply::BadPath),
                Some(byte) if is_unreserved(byte) => (3, char::from(byte)),
                // Another escape, or a stray percent sign: nobody's slash or dot.
                _ => (1, '%'),
            };
            plain.push(character);
            rest = &rest[at + escape..];
        }
        plain.push_str(rest);
        Ok(plain)
    }

    /// Takes out dot segments, and empty segments if slashes merge.
    // spec: RFC 3986 5.2.4
    fn resolve(self, path: &str) -> String {
        let mut kept: Vec<&str> = Vec::new();
        let segments = path.strip_prefix('/').unwrap_or(path);
        let mut open = false;
        for segment in segments.split('/') {
            open = false;
            match segment {
                "." => open = true,
                ".." => {
                    kept.pop();
                    open = true;
                }
                "" if self.merge_slashes => open = true,
                segment => kept.push(segment),
            }
        }
        if open {
            // `/a/.` and `/a/..` name a directory: the slash at the end stays.
            kept.push("");
        }
        kept.iter().fold(String::with_capacity(path.len()), |path, segment| path + "/" + segment)
    }
}

/// Returns the byte that a percent escape at the start of `text` stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*high)? * 16 + digit(*low)?)
}

/// Returns whether `segment` is `..;` or `.;` with anything behind: a name to some, and to others a dot segment.
// spec: envoy 1.40 reads `/..;/admin` as `/admin`, istio tests/integration/security/normalization_test.go as it stands
fn is_dots_with_parameters(segment: &str) -> bool {
    segment.split_once(';').is_some_and(|(name, _)| matches!(name, "." | ".."))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn normalise_host(head: &mut Parts) -> Result<(), Reply> {
    let mut named = head.headers.get_all(header::HOST).iter();
    let (first, second) = (named.next().cloned(), named.next());
    if second.is_some() {
        return Err(Reply::BadHost);
    }
    let authority = head.uri.authority().map(|authority| spelling(authority.as_str())).transpose()?;
    let Some(host) = first else {
        let known = authority.is_some() || head.version < Version::HTTP_11;
        return if known { rewrite_authority(head) } else { Err(Reply::BadHost) };
    };
    let host = host.to_str().map_err(|_| Reply::BadHost).and_then(spelling).map(Cow::into_owned);
    let host = host?;
    if authority.is_some_and(|authority| authority != host) {
        return Err(Reply::BadHost);
    }
    if head.headers.get(header::HOST).is_none_or(|old| old != host.as_str()) {
        let host = HeaderValue::try_from(host).map_err(|_| Reply::BadHost)?;
        head.headers.insert(header::HOST, host);
    }
    rewrite_authority(head)
}

fn rewrite_authority(head: &mut Parts) -> Result<(), Reply> {
    let Some(authority) = head.uri.authority() else { return Ok(()) };
    let Cow::Owned(authority) = spelling(authority.as_str())? else { return Ok(()) };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.authority = Some(Authority::try_from(authority).map_err(|_| Reply::BadHost)?);
    head.uri = Uri::from_parts(parts).map_err(|_| Reply::BadHost)?;
    Ok(())
}

/// Returns the one spelling of `host[:port]`, borrowed if it has it already.
fn spelling(authority: &str) -> Result<Cow<'_, str>, Reply> {
    let (host, port) = split_port(authority);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let port_reads = port.is_none_or(|port| port.parse::<u16>().is_ok());
    if host.is_empty() || !port_reads {
        return Err(Reply::BadHost);
    }
    if !host.ends_with('.') && host.bytes().all(plain) {
        return Ok(Cow::Borrowed(authority));
    }
    // The parser of `http` decides what is a host at all; user info is no part of one.
    if host.contains('@') || Authority::try_from(host).is_err() {
        return Err(Reply::BadHost);
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.is_empty() || host.ends_with('.') {
        return Err(Reply::BadHost);
    }
    Ok(Cow::Owned(match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }))
}

/// Splits `host[:port]`; the colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests;
