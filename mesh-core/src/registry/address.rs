//! Where to dial.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Where to dial. Displays as `IP:PORT` or `name:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An address.
    Ip(SocketAddr),
    /// A name that is resolved when a connection is made.
    Name(Arc<str>, u16),
}

/// Where an instance is, whatever the port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At an address.
    Ip(IpAddr),
    /// Wherever this name is.
    Name(Arc<str>),
}

impl Address {
    /// Returns the address of port `number` at `host`, an IP address or a name.
    pub fn new(host: &str, number: u16) -> Self {
        Place::new(host).port(number)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Place {
    /// Returns the place of `host`, an IP address (perhaps in brackets) or a name.
    pub fn new(host: &str) -> Self {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or_else(|_| Self::Name(host.into()), Self::Ip)
    }

    /// Returns the address of port `number` there.
    pub fn port(&self, number: u16) -> Address {
        match self {
            Self::Ip(ip) => Address::Ip(SocketAddr::new(*ip, number)),
            Self::Name(name) => Address::Name(Arc::clone(name), number),
        }
    }
}
