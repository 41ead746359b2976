//! What the endpoint counts, as Prometheus text. Every label is from a closed list.

use crate::locked;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Certificates issued.
    pub(crate) certificates: AtomicU64,
    /// Connections that stand.
    pub(crate) connections: AtomicU64,
    /// Handshakes that failed or took too long.
    pub(crate) handshakes_failed: AtomicU64,
    /// Times that the disk refused.
    pub(crate) writes_failed: AtomicU64,
}

/// What stands now, beside the counters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    pub(crate) leases: usize,
    pub(crate) workloads: usize,
    pub(crate) objects: usize,
    pub(crate) rejected: usize,
}

impl Metrics {
    /// Counts an answer to `route`, one of the API's own names.
    pub(crate) fn on_answer(&self, route: &'static str, status: u16) {
        *locked(&self.requests).entry((route, status)).or_default() += 1;
    }

    /// Returns everything in the Prometheus text format.
    pub(crate) fn text(&self, gauges: Gauges) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        };
        family("mesh_control_leases", "gauge", "Leases held.", gauges.leases as u64);
        family("mesh_control_workloads", "gauge", "Workloads heard of lately.", gauges.workloads as u64);
        family("mesh_control_objects", "gauge", "Objects served.", gauges.objects as u64);
        family("mesh_control_rejected", "gauge", "Findings that keep an object out.", gauges.rejected as u64);
        family("mesh_control_connections", "gauge", "Connections.", self.connections.load(Relaxed));
        let counters = [
            ("mesh_control_certificates_total", "Certificates issued.", &self.certificates),
            ("mesh_control_handshake_failures_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("mesh_control_write_failures_total", "Writes that the disk refused.", &self.writes_failed),
        ];
        for (name, help, counter) in counters {
            family(name, "counter", help, counter.load(Relaxed));
        }
        text.push_str("# HELP mesh_control_requests_total Answers by route and status.\n");
        text.push_str("# TYPE mesh_control_requests_total counter\n");
        for ((route, code), count) in locked(&self.requests).iter() {
            let _ =
                writeln!(text, "mesh_control_requests_total{{route=\"{route}\",code=\"{code}\"}} {count}");
        }
        text
    }
}
