//! Which virtual host answers for an authority.

/// An authority, normalised once: lower case, no trailing dot, port apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: std::borrow::Cow<'a, str>,
    /// The port, if one was sent.
    pub port: Option<u16>,
}

/// Every virtual host by the names it answers to.
#[derive(Debug, Default)]
pub struct HostTable {}
