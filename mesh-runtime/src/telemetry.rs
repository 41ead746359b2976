//! Counters and histograms with handles resolved before a request comes; Prometheus text on the admin listener.

/// The recorder of one workload.
#[derive(Debug, Default)]
pub struct Telemetry {}
