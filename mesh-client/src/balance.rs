//! Chooses the endpoint of one attempt.

use crate::{
    Error,
    body::RequestBody,
    endpoint::{Attempt, Endpoint, EndpointBody},
    error::Cause,
    path::Path,
    step::Step,
};
use http::{Request, Response};
use mesh_core::{
    balance::{self, Tried},
    time::Time,
};
use mesh_runtime::ThreadDice;

/// The step that chooses an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    pub(crate) inner: Endpoint,
}

impl<'a> Step<&'a Path<'_>> for Balance {
    type Body = EndpointBody;

    async fn run(
        &self,
        request: Request<RequestBody>,
        path: &'a Path<'_>,
    ) -> Result<Response<EndpointBody>, Error> {
        let now = path.clock.now();
        let (index, number) = choose(path, now).ok_or_else(|| no_endpoint(path, now))?;
        self.inner.run(request, Attempt { path, index, number }).await
    }
}

fn choose(path: &Path<'_>, now: Time) -> Option<(usize, u32)> {
    let cluster = path.cluster;
    let fresh = Tried::default();
    path.journal.on_attempt(|tried| {
        let tried = if path.retry.avoid_previous_hosts { tried } else { &fresh };
        balance::pick(&cluster.endpoints, cluster.balance, tried, now, &mut ThreadDice)
    })
}

fn no_endpoint(path: &Path<'_>, now: Time) -> Error {
    let cluster = path.cluster;
    let endpoints = cluster.endpoints.as_slice();
    let ejections: Vec<_> = endpoints.iter().filter_map(|it| it.state.ejected_until(now)).collect();
    let next = ejections.iter().min().map_or_else(String::new, |&until| {
        format!(", the next is back in {} s", now.until(until).as_secs_f32().round())
    });
    let subset = if cluster.subset.is_empty() { String::new() } else { format!("/{}", cluster.subset) };
    let message = format!(
        "no healthy endpoint for {}{subset} (UH): {} endpoints, {} ejected{next}",
        cluster.host,
        endpoints.len(),
        ejections.len(),
    );
    Error::new(Cause::NoEndpoints, message)
}
