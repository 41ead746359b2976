//! What the servers of a workload let run, at the moment somebody looks.

use super::text::{Labels, Text};
use std::{
    fmt,
    sync::{Mutex, PoisonError, Weak},
};

/// The gate of one server, before its handlers.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Returns how things stand.
    fn reading(&self) -> GateReading;
}

/// How things stand at a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateReading {
    /// The port of the server.
    pub port: u16,
    /// How many requests run.
    pub running: u32,
    /// How many wait for a place.
    pub waiting: u32,
    /// How many may run; `None` is as many as come.
    pub limit: Option<u32>,
    /// How many were refused, by reason: words of the code.
    pub refused: Vec<(&'static str, u64)>,
}

/// The gates of a workload, for as long as their servers are there.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<Vec<Weak<dyn Gate>>>);

impl Gates {
    pub(super) fn add(&self, gate: Weak<dyn Gate>) {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(gate);
    }

    pub(super) fn render(&self, text: &mut Text) {
        let readings: Vec<GateReading> = self.readings();
        let mut gauge = |name, help, value: fn(&GateReading) -> Option<u32>| {
            text.family(name, "gauge", help);
            for reading in &readings {
                if let Some(value) = value(reading) {
                    text.sample(&named(reading), value);
                }
            }
        };
        gauge("mesh_server_requests_running", "Requests whose handler runs.", |it| Some(it.running));
        gauge("mesh_server_requests_waiting", "Requests that wait for a place.", |it| Some(it.waiting));
        gauge("mesh_server_requests_limit", "How many may run, where that is limited.", |it| it.limit);
        text.family("mesh_server_requests_refused_total", "counter", "Requests refused for overload.");
        for reading in &readings {
            for &(reason, count) in &reading.refused {
                text.sample(&named(reading).with("reason", reason), count);
            }
        }
    }

    fn readings(&self) -> Vec<GateReading> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().filter_map(Weak::upgrade).map(|gate| gate.reading()).collect()
    }
}

fn named(reading: &GateReading) -> Labels {
    Labels::new().with("port", &reading.port.to_string())
}
