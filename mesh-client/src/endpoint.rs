//! One attempt at one endpoint: a connection of its pool, the exchange on it, and what that says of the endpoint.

mod body;
mod exchange;
mod failure;
mod watched;

pub(crate) use body::EndpointBody;
pub(crate) use exchange::Exchange;

use crate::{Error, body::RequestBody, error::Cause, path::Path, plan::Plans, step::Step, wire};
use http::{Request, Response};
use mesh_core::{balance::Security, retry::Provenance};
use std::{sync::Arc, time::Duration};
use watched::Watched;

/// The step that sends.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) plans: Arc<Plans>,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) path: &'a Path<'a>,
    /// The endpoint chosen.
    pub(crate) index: usize,
    /// From 1.
    pub(crate) number: u32,
}

impl<'a> Step<Attempt<'a>> for Endpoint {
    type Body = EndpointBody;

    async fn run(
        &self,
        mut request: Request<RequestBody>,
        attempt: Attempt<'a>,
    ) -> Result<Response<EndpointBody>, Error> {
        let Attempt { path, index, number } = attempt;
        if path.https && path.cluster.endpoints.as_slice()[index].security == Security::Plaintext {
            return Err(plaintext_for_https(path));
        }
        let watched = Watched::begin(path, index);
        let connections = path.plan.connections(path.id);
        path.journal.on_endpoint(&connections.slot(index).label);
        wire::announce(request.headers_mut(), path, number);
        let exchange = Exchange {
            pool: path.plan.pool(path.id, index, request.version(), &self.plans.pools),
            terms: &connections.terms,
            authority: &path.authority,
            journal: &path.journal,
            per_try_timeout: per_try_timeout(path),
            hedged: path.retry.hedge.is_some(),
        };
        let answer = exchange.run(request).await;
        let in_flight = watched.on_end(&answer);
        let verified = matches!(path.cluster.endpoints.as_slice()[index].security, Security::Mutual(_));
        let answer = answer.map(|response| if verified { response } else { without_provenance(response) });
        answer.map(|response| response.map(|body| body.counted(in_flight)))
    }
}

/// Nobody vouches for what a server says whose identity is not verified.
fn without_provenance<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().remove(Provenance::HEADER);
    response
}

/// The caller asked for TLS, and the mesh was told of none.
fn plaintext_for_https(path: &Path<'_>) -> Error {
    let host = &path.cluster.host;
    let message = format!(
        "the call asks for https, and {host} is called in plaintext on port {}: call it with http://, or give its port \
         the protocol HTTPS, or write a DestinationRule for it with `tls: {{mode: SIMPLE}}`",
        path.cluster.port
    );
    Error::new(Cause::Request, message)
}

/// One that would not end before the whole call is ignored.
// spec: envoy configuration/http/http_filters/router_filter#x-envoy-upstream-rq-per-try-timeout-ms
fn per_try_timeout(path: &Path<'_>) -> Option<Duration> {
    let limit = path.retry.per_try_timeout?;
    path.bounds.timeout.is_none_or(|timeout| limit < timeout).then_some(limit)
}
