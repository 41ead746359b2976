//! What an attempt says of its endpoint's health.

use super::EndpointBody;
use crate::{Error, path::Path};
use http::Response;
use mesh_core::{
    balance::Policy,
    health::{Change, InFlight},
    retry::Outcome,
    snapshot::Cluster,
    time::Time,
};

/// An attempt as the outlier detection sees it.
pub(super) struct Watched<'a> {
    path: &'a Path<'a>,
    in_flight: Option<InFlight>,
}

impl<'a> Watched<'a> {
    /// An attempt begins; it counts as in flight from here on.
    pub(super) fn begin(path: &'a Path<'a>, index: usize) -> Self {
        let endpoint = &path.cluster.endpoints.as_slice()[index];
        Self { path, in_flight: Some(endpoint.state.begin(path.clock.now())) }
    }

    /// The attempt has ended by itself. Returns the count, which goes on until the body ends.
    pub(super) fn on_end(mut self, answer: &Result<Response<EndpointBody>, Error>) -> Option<InFlight> {
        let in_flight = self.in_flight.take();
        match answer {
            Ok(response) => {
                self.time(&in_flight, response);
                self.report(&in_flight, Outcome::of_head(response.status(), response.headers()));
            }
            // That an idle connection was closed is no failure of who closed it.
            Err(error) if error.is_stale() => {}
            Err(error) => self.report(&in_flight, error.outcome()),
        }
        in_flight
    }

    /// A failure that comes fast must not make its endpoint look fast.
    fn time(&self, in_flight: &Option<InFlight>, response: &Response<EndpointBody>) {
        let is_timed = self.path.cluster.endpoints.policy() == Policy::PeakEwma;
        if let (true, Some(in_flight)) = (is_timed && !response.status().is_server_error(), in_flight) {
            in_flight.on_head(self.path.clock.now());
        }
    }

    fn report(&self, in_flight: &Option<InFlight>, outcome: Outcome) {
        let cluster = self.path.cluster;
        let (Some(policy), Some(in_flight), Some(verdict)) = (&cluster.outlier, in_flight, outcome.verdict())
        else {
            return;
        };
        let now = self.path.clock.now();
        for (index, change) in cluster.state.on_time(policy, &cluster.endpoints, now) {
            let address = cluster.endpoints.as_slice().get(index).map(|endpoint| &endpoint.address);
            tell(cluster, address.map(ToString::to_string).as_deref(), change, now);
        }
        let change = cluster.state.on_answer(in_flight, verdict, policy, &cluster.endpoints, now);
        if change != Change::None {
            tell(cluster, self.path.journal.account().info.endpoint.as_deref(), change, now);
        }
    }
}

fn tell(cluster: &Cluster, endpoint: Option<&str>, change: Change, now: Time) {
    match change {
        Change::Ejected { until, cause } => tracing::info!(
            cluster = %cluster.name,
            endpoint,
            cause = cause.as_str(),
            seconds = now.until(until).as_secs(),
            "endpoint ejected"
        ),
        Change::Spared { cause } => tracing::debug!(
            cluster = %cluster.name,
            endpoint,
            cause = cause.as_str(),
            "endpoint not ejected: as many are as maxEjectionPercent allows"
        ),
        Change::None => {}
    }
}

impl Drop for Watched<'_> {
    /// Cancelled: by the timeout of the call, which is held against the endpoint, or by a caller that went away.
    fn drop(&mut self) {
        let in_flight = self.in_flight.take();
        if in_flight.is_some() && self.path.journal.is_elapsed() {
            self.report(&in_flight, Outcome::Timeout);
        }
    }
}
