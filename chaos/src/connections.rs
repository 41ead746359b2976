//! The connections that stand, as /proc/net/tcp tells it, and whether one outlasts the certificate it was made with.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

/// A connection: the caller's port and the server's.
type Ports = (u16, u16);

/// The connections to some ports, looked at again and again.
pub(crate) struct Connections {
    servers: Vec<u16>,
    /// Those that stand, and when the certificate ends that the caller had when each was first seen.
    standing: BTreeMap<Ports, SystemTime>,
    seen: usize,
    late: BTreeSet<(Ports, SystemTime)>,
}

impl Connections {
    /// Returns a watch over the connections to the ports `servers`.
    pub(crate) fn to(servers: Vec<u16>) -> Self {
        Self { servers, standing: BTreeMap::new(), seen: 0, late: BTreeSet::new() }
    }

    /// Looks; `not_after` is when the certificate ends that the caller uses now.
    pub(crate) fn look(&mut self, not_after: SystemTime) {
        self.on_table(
            &std::fs::read_to_string("/proc/net/tcp").unwrap_or_default(),
            not_after,
            SystemTime::now(),
        );
    }

    fn on_table(&mut self, table: &str, not_after: SystemTime, now: SystemTime) {
        let found: BTreeSet<Ports> =
            table.lines().filter_map(established).filter(|ports| self.servers.contains(&ports.1)).collect();
        self.standing.retain(|ports, _| found.contains(ports));
        for ports in found {
            let known = self.standing.len();
            let end = *self.standing.entry(ports).or_insert(not_after);
            self.seen += self.standing.len() - known;
            if now > end + GRACE {
                self.late.insert((ports, end));
            }
        }
    }

    /// Returns how many there were.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Returns how many stood for more than [`GRACE`] after the certificate's end.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }
}

/// Nothing is sent on a connection whose certificate has ended; it is closed when the pool is next looked at, every second.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// Returns the ports of a line of the table, if its connection stands.
fn established(line: &str) -> Option<Ports> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
    let ports = (port()?, port()?);
    (fields.next()? == "01").then_some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1
   1: 0100007F:C000 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  0 0 2
   2: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000  0 0 3
   3: 0100007F:C001 0100007F:1F90 06 00000000:00000000 00:00000000 00000000  0 0 4
";

    #[test]
    fn a_connection_is_late_if_it_stands_after_the_certificate_it_began_with() {
        let second = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        let mut connections = Connections::to(vec![8080]);
        connections.on_table(TABLE, second(10), second(5));
        connections.on_table(TABLE, second(20), second(11));
        assert_eq!((connections.seen(), connections.late()), (1, 0));
        connections.on_table(TABLE, second(20), second(13));
        assert_eq!((connections.seen(), connections.late()), (1, 1));
    }

    #[test]
    fn a_connection_that_was_gone_is_another_one_when_it_is_there_again() {
        let second = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
        let mut connections = Connections::to(vec![8080]);
        connections.on_table(TABLE, second(10), second(5));
        connections.on_table("", second(20), second(11));
        connections.on_table(TABLE, second(20), second(13));
        assert_eq!((connections.seen(), connections.late()), (2, 0));
    }
}
