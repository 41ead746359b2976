//! Decides where a request goes, once, and makes it what the route wants it to be.
//!
//! Redirects and direct responses are answered here. The decision itself is `mesh_core::route`'s.

use crate::{
    Error,
    balance::Balance,
    body::{RequestBody, ResponseBody},
    breaker::Breaker,
    error::Cause,
    journal::Journal,
    local, outside,
    path::Path,
    plan::{Plan, Plans},
    retry::Retry,
    step::Step,
    timeout::{Bounds, Timeout},
    wire,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri::Authority};
use http_body::Body;
use mesh_core::{
    deadline,
    route::{Decision, Forward, Head, HeaderOps, Rewrite, Route as RouteRule, Target},
    time::Time,
};
use mesh_runtime::{Context, Readiness, ThreadDice, Workload};
use std::{sync::Arc, time::Duration};

/// The steps below the route, in their order.
pub(crate) type Below = Timeout<Retry<Breaker<Balance>>>;

/// The step that decides where a request goes.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) plans: Arc<Plans>,
    pub(crate) workload: Workload,
    pub(crate) below: Below,
}

/// A request that is under way, and what was found out about it.
struct Incoming {
    request: Request<RequestBody>,
    authority: Authority,
    grpc: bool,
    context: Context,
}

impl Step<()> for Route {
    type Body = ResponseBody;

    async fn run(&self, request: Request<RequestBody>, (): ()) -> Result<Response<ResponseBody>, Error> {
        let grpc = is_grpc(request.headers());
        let refuse = |error: Error| error.settle(Journal::default().account(), grpc);
        let incoming = Incoming::read(request, grpc).map_err(refuse)?;
        let plan = self.plans.current();
        match plan.snapshot().route(&incoming.head(), &mut ThreadDice) {
            Decision::Forward { route, forward, target, .. } => {
                self.forward(&plan, incoming, route, forward, target).await
            }
            Decision::Answer { route, .. } => Ok(local::answer(&incoming.head(), route)),
            Decision::NoRoute { host } => {
                let path = incoming.request.uri().path();
                let message = format!("no route of {} matches {path:?} (NR)", host.name);
                Err(refuse(self.unroutable(Cause::NoRoute, message)))
            }
            Decision::Passthrough => {
                let Incoming { mut request, authority, .. } = incoming;
                wire::introduce(request.headers_mut(), &incoming.context, "http");
                outside::send(&self.plans, request, &authority, &self.workload, &incoming.context)
                    .await
                    .map_err(|error| error.in_grpc(grpc))
            }
            Decision::Blocked => {
                let message = format!(
                    "no service {} is known, and policy forbids calls to hosts outside of the mesh",
                    incoming.authority
                );
                Err(refuse(self.unroutable(Cause::Blocked, message)))
            }
        }
    }
}

impl Route {
    async fn forward<'a>(
        &self,
        plan: &'a Plan,
        mut incoming: Incoming,
        route: &'a RouteRule,
        forward: &'a Forward,
        target: &'a Target,
    ) -> Result<Response<ResponseBody>, Error> {
        let journal = Journal::of(Some(Arc::clone(&target.name)));
        let Some(id) = target.cluster else {
            let message = format!("{} does not exist: see `meshctl analyze` (NC)", target.name);
            let error = self.unroutable(Cause::NoCluster, message);
            return Err(error.settle(journal.account(), incoming.grpc));
        };
        incoming.become_what(route, forward, target)?;
        let path =
            incoming.path(plan, plan.snapshot().cluster(id), id, forward, journal, self.workload.clock());
        let answer = self.below.run(incoming.request, &path).await;
        let account = path.journal.account();
        match answer {
            Ok(mut response) => {
                let (first, second) = order(forward, &route.response_headers, &target.response_headers);
                first.apply(response.headers_mut());
                second.apply(response.headers_mut());
                Ok(response.map(|body| ResponseBody::upstream(body, account.info)))
            }
            Err(error) => Err(error.settle(account, path.grpc)),
        }
    }

    /// What the snapshot cannot route is an error of the call only once there is a snapshot.
    fn unroutable(&self, cause: Cause, message: String) -> Error {
        match self.not_ready() {
            Some(reason) => Error::new(Cause::NotReady, format!("this workload is not ready: {reason}")),
            None => Error::new(cause, message),
        }
    }

    fn not_ready(&self) -> Option<Arc<str>> {
        match self.workload.readiness() {
            Readiness::Ready => None,
            Readiness::NotReady(reason) => Some(reason),
        }
    }
}

impl Incoming {
    /// # Errors
    ///
    /// Returns that there is no host to call.
    fn read(mut request: Request<RequestBody>, grpc: bool) -> Result<Self, Error> {
        let authority = authority(&request)?;
        wire::strip_hop(request.headers_mut());
        Ok(Self { request, authority, grpc, context: Context::current() })
    }

    fn head(&self) -> Head<'_> {
        let uri = self.request.uri();
        Head {
            method: self.request.method(),
            scheme: uri.scheme_str().unwrap_or("http"),
            authority: self.authority.as_str(),
            path_and_query: path_and_query(uri),
            headers: self.request.headers(),
        }
    }

    /// Rewrites it as the route says, and adds what the mesh adds.
    fn become_what(&mut self, route: &RouteRule, forward: &Forward, target: &Target) -> Result<(), Error> {
        let _ = route;
        let scheme = self.request.uri().scheme_str().unwrap_or("http").to_owned();
        wire::introduce(self.request.headers_mut(), &self.context, &scheme);
        if let Some(rewrite) = &forward.rewrite {
            self.rewrite(rewrite)?;
        }
        let (first, second) = order(forward, &forward.request_headers, &target.request_headers);
        first.apply(self.request.headers_mut());
        second.apply(self.request.headers_mut());
        Ok(())
    }

    // spec: istio-semantics 2.1, "rewrite.uri" and "rewrite.authority"
    fn rewrite(&mut self, rewrite: &Rewrite) -> Result<(), Error> {
        if let Some(path) = &rewrite.path {
            let original = path_and_query(self.request.uri()).to_owned();
            let rewritten = path.apply(&original);
            *self.request.uri_mut() = Uri::try_from(&rewritten).map_err(|error| {
                Error::new(Cause::Request, format!("the path is rewritten to {rewritten:?}: {error}"))
            })?;
            if let Ok(original) = HeaderValue::try_from(original) {
                self.request.headers_mut().insert(ORIGINAL_PATH, original);
            }
        }
        if let Some(authority) = &rewrite.authority {
            self.authority = Authority::try_from(authority.as_bytes()).map_err(|error| {
                Error::new(Cause::Request, format!("the authority is rewritten to {authority:?}: {error}"))
            })?;
        }
        Ok(())
    }

    fn path<'a>(
        &self,
        plan: &'a Plan,
        cluster: &'a mesh_core::snapshot::Cluster,
        id: mesh_core::route::ClusterId,
        forward: &'a Forward,
        journal: Journal,
        clock: mesh_runtime::Clock,
    ) -> Path<'a> {
        let timeout = self.timeout(forward.timeout);
        let caller = self.context.deadline();
        let now = clock.now();
        let until = deadline::shorten(caller.unwrap_or(Time::MAX), now, timeout);
        // While the body is still to come nobody knows when the timeout begins.
        let known = self.request.body().is_end_stream();
        Path {
            plan,
            id,
            cluster,
            forward,
            authority: self.authority.clone(),
            journal,
            clock,
            bounds: Bounds { timeout, deadline: caller.map(|deadline| clock.instant(deadline)) },
            until,
            deadline: if known { until } else { caller.unwrap_or(Time::MAX) },
            grpc: self.grpc,
        }
    }

    /// A gRPC request brings its own, which the route's caps.
    // spec: istio-semantics 3, "Deadlines"
    fn timeout(&self, route: Option<Duration>) -> Option<Duration> {
        let own =
            || self.request.headers().get(deadline::GRPC_TIMEOUT).and_then(deadline::parse_grpc_timeout);
        let own = if self.grpc { own() } else { None };
        own.into_iter().chain(route).min()
    }
}

/// With one destination the route's operations come first, so that the destination's win; with several it is the
/// other way round.
// spec: istio-semantics 2.1, "route[].headers / http.headers"
fn order<'a>(
    forward: &Forward,
    route: &'a HeaderOps,
    target: &'a HeaderOps,
) -> (&'a HeaderOps, &'a HeaderOps) {
    if forward.destinations.iter().nth(1).is_none() { (route, target) } else { (target, route) }
}

/// Returns the authority of the URI, else the host header.
fn authority(request: &Request<RequestBody>) -> Result<Authority, Error> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let host = request.headers().get(header::HOST).ok_or_else(|| {
        let message = format!(
            "the request for {:?} names no host: give it a URI like http://service/path, or a host header",
            request.uri()
        );
        Error::new(Cause::Request, message)
    })?;
    Authority::try_from(host.as_bytes()).map_err(|error| {
        Error::new(Cause::Request, format!("the host header {host:?} is no authority: {error}"))
    })
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
