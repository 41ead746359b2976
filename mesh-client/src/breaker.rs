//! Refuses a request when its cluster has as many under way as its limits allow.
//!
//! Connections and those waiting for one are limited where they are made: in the pool.
// spec: envoy intro/arch_overview/upstream/circuit_breaking

use crate::{
    Error,
    body::{Held, RequestBody},
    error::Cause,
    step::Step,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::health::{ClusterState, Limits, Overflow, Permit};
use std::sync::Arc;

/// Where the limits for a call come from.
pub(crate) trait Limited {
    /// Returns the limits.
    fn limits(&self) -> &Limits;

    /// Returns what is in use of them.
    fn in_use(&self) -> &Arc<ClusterState>;

    /// Returns whose they are, for people.
    fn name(&self) -> &str;
}

/// The step that keeps the requests of a cluster within their limit. The permit lives until the answer's body ends.
#[derive(Clone, Debug)]
pub(crate) struct Breaker<S> {
    pub(crate) inner: S,
}

impl<'a, D, S> Step<&'a D> for Breaker<S>
where
    D: Limited + Sync,
    S: Step<&'a D>,
    S::Body: Body<Data = Bytes>,
{
    type Body = Held<S::Body, Permit>;

    async fn run(&self, request: Request<RequestBody>, beside: &'a D) -> Result<Response<Self::Body>, Error> {
        let permit = beside
            .in_use()
            .admit(Overflow::Requests, beside.limits())
            .map_err(|limit| overflow(limit, beside.name(), beside.limits()))?;
        let response = self.inner.run(request, beside).await?;
        Ok(response.map(|body| Held::new(body, permit)))
    }
}

/// Returns the error for a limit that is reached, in the words of a DestinationRule.
pub(crate) fn overflow(limit: Overflow, name: &str, limits: &Limits) -> Error {
    let (field, max) = match limit {
        Overflow::Connections => ("connectionPool.tcp.maxConnections", limits.connections_max),
        Overflow::Pending => ("connectionPool.http.http1MaxPendingRequests", limits.pending_max),
        Overflow::Requests => ("connectionPool.http.http2MaxRequests", limits.requests_max),
        Overflow::Retries => ("connectionPool.http.maxRetries", limits.retries_max),
    };
    Error::new(Cause::Overflow(limit), format!("{name} is at its limit (UO): {field} is {max}"))
}
