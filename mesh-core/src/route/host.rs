//! Which virtual host answers for an authority: exact name first, then the longest wildcard suffix, then `*`.
// spec: envoy config.route.v3.VirtualHost domains

mod names;

use super::VirtualHost;
use names::Names;
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// An authority, normalised once: lower case, no trailing dot, port apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host.
    pub host: Cow<'a, str>,
    /// The port, if one was sent.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; `None` if it is none of these.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = split_port(text)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() || host.contains('@') {
            return None;
        }
        let host = match host.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(host.to_ascii_lowercase()),
            false => Cow::Borrowed(host),
        };
        Some(Self { host, port })
    }

    /// Returns the port that the request means: the one sent, else the scheme's.
    pub fn port_or_default(&self, scheme: &str) -> u16 {
        self.port.unwrap_or(if scheme == "https" { 443 } else { 80 })
    }
}

fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let bracketed = text.starts_with('[');
    let end = if bracketed { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        Some(port) => Some((host, Some(parse_port(port)?))),
    }
}

// spec: rfc3986 3.2.3: port = *DIGIT. Rust's own parser takes a sign too, and what reads `+80` as 80 here may not there.
fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Every virtual host by the names it answers to. A clone shares with its original what neither changes.
#[derive(Clone, Debug, Default)]
pub struct HostTable {
    exact: Names,
    /// By suffix with its leading dot: `.example.com` for `*.example.com`.
    suffixes: Arc<HashMap<Box<str>, Ports>>,
    any: Option<Ports>,
    /// Whether an authority without a port means the scheme's port, and never the only one of a name.
    by_scheme: bool,
}

/// The virtual hosts of one name: one per service port, and perhaps one for every other port.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    by_port: Vec<(u16, Arc<VirtualHost>)>,
    any_port: Option<Arc<VirtualHost>>,
}

impl HostTable {
    /// Returns the table of an edge, where an authority without a port means the port of its scheme: what listens at
    /// the other ports is another server.
    pub fn of_edge() -> Self {
        Self { by_scheme: true, ..Self::default() }
    }

    /// Adds `host` under `name`: a full name, `*.suffix` or `*`. Without a `port` it answers for every port that has
    /// no virtual host of its own. The first one added under a name and port stays.
    pub fn insert(&mut self, name: &str, port: Option<u16>, host: &Arc<VirtualHost>) {
        let mut ports = self.named(name).cloned().unwrap_or_default();
        ports.insert(port, host);
        self.set(name, ports);
    }

    /// Makes `name` mean `ports`, whatever it meant before; nothing, if there is none.
    pub(crate) fn set(&mut self, name: &str, ports: Ports) {
        let ports = (!ports.is_empty()).then_some(ports);
        match (name.strip_prefix('*'), ports) {
            (Some(""), ports) => self.any = ports,
            (Some(suffix), Some(ports)) => {
                drop(Arc::make_mut(&mut self.suffixes).insert(suffix.into(), ports))
            }
            (Some(suffix), None) => drop(Arc::make_mut(&mut self.suffixes).remove(suffix)),
            (None, ports) => self.exact.set(name, ports),
        }
    }

    fn named(&self, name: &str) -> Option<&Ports> {
        match name.strip_prefix('*') {
            Some("") => self.any.as_ref(),
            Some(suffix) => self.suffixes.get(suffix),
            None => self.exact.get(name),
        }
    }

    /// Returns the virtual host for `authority` and the service port that is meant.
    ///
    /// An authority without a port means the only port of a service that has one port: `http://name/` is the service,
    /// whatever its number.
    pub fn find<'t>(
        &'t self,
        authority: &Authority<'_>,
        scheme: &str,
    ) -> Option<(&'t Arc<VirtualHost>, u16)> {
        self.candidates(&authority.host).find_map(|ports| ports.find(authority, scheme, self.by_scheme))
    }

    /// Returns every virtual host with a name and port it answers to, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<VirtualHost>> {
        let names = self.exact.iter().chain(self.suffixes.values()).chain(&self.any);
        names.flat_map(|ports| ports.by_port.iter().map(|(_, host)| host).chain(&ports.any_port))
    }

    /// The names that cover `host`, most specific first. A wildcard needs at least one character.
    fn candidates<'t>(&'t self, host: &str) -> impl Iterator<Item = &'t Ports> {
        let suffixes = host.match_indices('.').filter(|(at, _)| *at > 0);
        let suffixes = suffixes.filter_map(|(at, _)| self.suffixes.get(&host[at..]));
        self.exact.get(host).into_iter().chain(suffixes).chain(&self.any)
    }
}

impl Ports {
    /// Adds `host` for `port`, or for every port that has none; the first one stays.
    pub(crate) fn insert(&mut self, port: Option<u16>, host: &Arc<VirtualHost>) {
        match port {
            None => drop(self.any_port.get_or_insert_with(|| Arc::clone(host))),
            Some(port) if self.by_port.iter().any(|(known, _)| *known == port) => {}
            Some(port) => self.by_port.push((port, Arc::clone(host))),
        }
    }

    fn is_empty(&self) -> bool {
        self.by_port.is_empty() && self.any_port.is_none()
    }

    fn find<'t>(
        &'t self,
        authority: &Authority<'_>,
        scheme: &str,
        by_scheme: bool,
    ) -> Option<(&'t Arc<VirtualHost>, u16)> {
        let port = authority.port_or_default(scheme);
        let exact = self.by_port.iter().find(|(number, _)| *number == port);
        let only = match (&self.by_port[..], authority.port) {
            ([only], None) if !by_scheme => Some(only),
            _ => None,
        };
        exact
            .or(only)
            .map(|(number, host)| (host, *number))
            .or_else(|| self.any_port.as_ref().map(|host| (host, port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_normalised_once() {
        let table = [
            ("payment", "payment", None),
            ("Payment.Default:8080", "payment.default", Some(8080)),
            ("payment.", "payment", None),
            ("payment.:80", "payment", Some(80)),
            ("127.0.0.1:80", "127.0.0.1", Some(80)),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some(8080)),
        ];
        for (text, host, port) in table {
            assert_eq!(Authority::parse(text), Some(Authority { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:b",
            "a:99999",
            "a:-1",
            "a:+80",
            "[::1]:+80",
            "user@host",
            "[::1",
            "[::1]x",
            "a:80:80",
            ".",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_most_specific_name_wins() {
        let table = table(&[("a.b.com", None), ("*.b.com", None), ("*.com", None), ("*", None)]);
        let found = |host: &str| name_of(&table, host);
        assert_eq!(found("a.b.com").as_deref(), Some("a.b.com"));
        assert_eq!(found("x.b.com").as_deref(), Some("*.b.com"));
        assert_eq!(found("x.y.b.com").as_deref(), Some("*.b.com"));
        assert_eq!(found("b.com").as_deref(), Some("*.com"), "a wildcard does not cover its own suffix");
        assert_eq!(found("org").as_deref(), Some("*"));
    }

    #[test]
    fn a_wildcard_needs_at_least_one_character() {
        assert_eq!(name_of(&table(&[("*.com", None)]), ".com"), None);
        assert_eq!(name_of(&table(&[("*.com", None)]), "com"), None);
    }

    #[test]
    fn a_port_selects_among_the_virtual_hosts_of_a_name() {
        let table = table(&[("two", Some(80)), ("two", Some(81)), ("one", Some(9080))]);
        assert_eq!(name_of(&table, "two").as_deref(), Some("two:80"));
        assert_eq!(name_of(&table, "two:81").as_deref(), Some("two:81"));
        assert_eq!(name_of(&table, "two:82"), None);
        assert_eq!(name_of(&table, "one").as_deref(), Some("one:9080"), "the only port is the one meant");
        assert_eq!(name_of(&table, "one:80"), None, "a port that was said must exist");
    }

    fn table(names: &[(&str, Option<u16>)]) -> HostTable {
        let mut table = HostTable::default();
        for (name, port) in names {
            let shown = port.map_or((*name).to_owned(), |port| format!("{name}:{port}"));
            let host = VirtualHost { name: shown.into(), routes: Vec::new(), source: None };
            table.insert(name, *port, &Arc::new(host));
        }
        table
    }

    fn name_of(table: &HostTable, authority: &str) -> Option<String> {
        let authority = Authority::parse(authority)?;
        table.find(&authority, "http").map(|(host, _)| host.name.to_string())
    }
}
