//! Where the control endpoint is, parsed once from the URL in `MESH_CONTROL`.

use http::{Uri, uri::Scheme};
use std::{fmt, net::IpAddr};

/// The place of a control endpoint. Displays as the URL it was given as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    plain: bool,
}

/// Why a text is no place a control endpoint can be at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("`{0}` is no URL of a control endpoint; write `https://HOST:PORT`")]
    Malformed(String),
    #[error(
        "`{0}` is plain HTTP beyond loopback, where anybody could answer and listen; write `https://HOST:PORT`"
    )]
    Plain(String),
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError::Malformed(text.to_owned());
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| malformed())?;
        let plain = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => false,
            Some(scheme) if *scheme == Scheme::HTTP => true,
            _ => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        let bare =
            matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => Some(if plain { 80 } else { 443 }),
            _ => authority.port_u16().filter(|&port| port != 0),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let endpoint = Self { host, port: port.ok_or_else(malformed)?, plain };
        if !bare || endpoint.host.is_empty() {
            return Err(malformed());
        }
        if plain && !endpoint.is_loopback() {
            return Err(EndpointError::Plain(text.to_owned()));
        }
        Ok(endpoint)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }

    /// Returns the value of `Host`.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http{}://{}", if self.plain { "" } else { "s" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_displayed_as_the_url_it_was_given_as() {
        for (text, shown) in [
            ("https://control.mesh:15010", "https://control.mesh:15010"),
            ("https://control.mesh", "https://control.mesh:443"),
            ("https://10.0.0.1:1/", "https://10.0.0.1:1"),
            ("https://[fd00::1]:15010", "https://[fd00::1]:15010"),
            ("http://127.0.0.1:15010", "http://127.0.0.1:15010"),
            ("http://127.9.9.9:1", "http://127.9.9.9:1"),
            ("http://localhost:1", "http://localhost:1"),
            ("http://[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn plain_http_beyond_loopback_is_refused() {
        for text in
            ["http://10.0.0.1:1", "http://control.mesh:1", "http://localhost.evil.org:1", "http://0.0.0.0:1"]
        {
            assert_eq!(Endpoint::parse(text), Err(EndpointError::Plain(text.to_owned())));
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "control.mesh:15010",
            "ftp://h:1",
            "https://",
            "https://h:1/path",
            "https://h:1?query",
            "https://user@h:1",
            "https://h:0",
            "https://h:99999",
            "https://h:",
            "https://a b",
        ] {
            assert_eq!(Endpoint::parse(text), Err(EndpointError::Malformed(text.to_owned())), "{text}");
        }
    }
}
