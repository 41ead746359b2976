//! Decides where a request goes, once, and makes it what the route wants it to be.
//!
//! Redirects and direct responses are answered here. The decision itself is `mesh_core::route`'s.

mod asked;
mod call;
mod unroutable;

use crate::{
    Error,
    affinity::{Affinity, SourceAddress},
    balance::Balance,
    body::{RequestBody, ResponseBody},
    breaker::Breaker,
    error::Cause,
    fault,
    journal::Journal,
    local,
    mirror::{Mirrors, Origin},
    outside::{self, Exit, Outside},
    path::Path,
    plan::{Plan, Plans},
    record::Record,
    retry::Retry,
    step::Step,
    timeout::{Bounds, Timeout},
};
pub use asked::CallPolicy;
pub(crate) use call::Call;
use http::{Request, Response};
use mesh_core::{
    deadline,
    retry::{Provenance, RetryPolicy},
    route::{ClusterId, Decision, Forward, Route as RouteRule, Target},
    time::Time,
};
use mesh_runtime::{Context, Readiness, ThreadDice, Workload};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The steps below the route, in their order.
pub(crate) type Below = Timeout<Retry<Breaker<Balance>>>;

/// The step that decides where a request goes.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) plans: Arc<Plans>,
    pub(crate) workload: Workload,
    pub(crate) below: Below,
    pub(crate) mirrors: Mirrors,
    pub(crate) outside: Timeout<Outside>,
    pub(crate) source: SourceAddress,
    /// Whether calls may ask for a policy in Envoy's headers.
    pub(crate) obeys_headers: bool,
}

/// A route that forwards, and which of its destinations was drawn.
#[derive(Clone, Copy)]
pub(crate) struct Chosen<'a> {
    pub(crate) route: &'a RouteRule,
    pub(crate) forward: &'a Forward,
    pub(crate) target: &'a Target,
}

/// The policy of one call: its route's, and what the call itself asks for.
#[derive(Clone, Copy)]
struct Policy<'a> {
    timeout: Option<Duration>,
    retry: &'a RetryPolicy,
}

impl Step<()> for Route {
    type Body = ResponseBody;

    async fn run(&self, request: Request<RequestBody>, (): ()) -> Result<Response<ResponseBody>, Error> {
        let call = Call::read(request)?;
        let plan = self.plans.current();
        match call.decide(plan.snapshot()) {
            Decision::Forward { route, forward, target, .. } => {
                self.forward(&plan, call, Chosen { route, forward, target }).await
            }
            Decision::Answer { route, .. } => self.answer(call, route).await,
            Decision::NoRoute { host } => {
                Err(self.unroutable(&plan, &call, Journal::default(), call.no_route(host)))
            }
            Decision::Passthrough => self.pass_through(call).await,
            Decision::Blocked => Err(self.unroutable(&plan, &call, Journal::default(), call.blocked())),
        }
    }
}

impl Route {
    async fn forward(
        &self,
        plan: &Arc<Plan>,
        mut call: Call,
        chosen: Chosen<'_>,
    ) -> Result<Response<ResponseBody>, Error> {
        let journal = Journal::of(Some(Arc::clone(&chosen.target.name)));
        let Some(id) = chosen.target.cluster else {
            return Err(self.unroutable(plan, &call, journal, call.no_cluster(chosen.target)));
        };
        let clock = self.workload.clock();
        let begun = clock.now();
        let mut record = Record::begin(&plan.connections(id).metrics, clock, begun);
        if let Err(error) = self.prepare(&mut call, chosen, &journal).await {
            return Err(record.end_with(error.settle(journal.account(), call.grpc)));
        }
        // An injected delay is over before the timeout begins.
        let started = if chosen.forward.fault.is_some() { clock.now() } else { begun };
        let asked = call.asked.take();
        let retries = asked.as_ref().map(|asked| Box::new(asked.retries(&chosen.forward.retry)));
        let policy = Policy {
            timeout: match &asked {
                Some(asked) => asked.timeout_or(call.timeout(chosen.forward.timeout)),
                None => call.timeout(chosen.forward.timeout),
            },
            retry: retries.as_deref().unwrap_or(&chosen.forward.retry),
        };
        let path = self.path(plan, id, policy, &call, journal, started);
        let on_answer =
            chosen.forward.in_order(&chosen.route.response_headers, &chosen.target.response_headers);
        let on_answer = on_answer.map(|operations| (operations, operations.values(&call.cited())));
        let request = self.mirror(plan, chosen.forward, call.request, &path);
        let mut answer = self.below.run(request, &path).await;
        let account = path.journal.account();
        note_provenance(&mut answer, account.provenance);
        let mut response = match answer {
            Ok(response) => response,
            Err(error) => return Err(record.end_with(error.settle(account, call.grpc))),
        };
        path.affinity.on_answer(response.headers_mut());
        for (operations, values) in on_answer {
            operations.apply(response.headers_mut(), values);
        }
        record.on_head(response.status(), account.info.flags);
        Ok(response.map(|body| ResponseBody::upstream(body, account.info, record)))
    }

    fn path<'a>(
        &self,
        plan: &'a Plan,
        id: ClusterId,
        policy: Policy<'a>,
        call: &Call,
        journal: Journal,
        started: Time,
    ) -> Path<'a> {
        let Policy { timeout, retry } = policy;
        let clock = self.workload.clock();
        let caller = call.context.deadline();
        let until = deadline::shorten(caller.unwrap_or(Time::MAX), started, timeout);
        let cluster = plan.snapshot().cluster(id);
        Path {
            plan,
            id,
            cluster,
            retry,
            authority: call.authority.clone(),
            affinity: Affinity::of(cluster.hash.as_deref(), &call.request, self.source, &mut ThreadDice),
            journal,
            clock,
            bounds: Bounds { timeout, deadline: caller.map(|deadline| clock.instant(deadline)) },
            until,
            deadline: if call.is_complete() { until } else { caller.unwrap_or(Time::MAX) },
            upload: OnceLock::new(),
            grpc: call.grpc,
            https: call.https,
        }
    }

    /// Makes the request what the route wants it to be, and injects the route's faults: a delay counts against the
    /// caller's deadline, not against the route's timeout.
    async fn prepare(&self, call: &mut Call, chosen: Chosen<'_>, journal: &Journal) -> Result<(), Error> {
        call.ask(self.obeys_headers);
        call.introduce();
        call.become_what(chosen)?;
        self.inject(chosen.route, call.context.deadline(), journal).await
    }

    async fn inject(
        &self,
        route: &RouteRule,
        deadline: Option<Time>,
        journal: &Journal,
    ) -> Result<(), Error> {
        let Some(fault) = route.fault() else { return Ok(()) };
        let deadline = deadline.map(|deadline| self.workload.clock().instant(deadline));
        fault::inject(fault, deadline, &mut ThreadDice, |flag| journal.on_flag(flag)).await
    }

    /// The answer of the route itself, unless it injects a fault.
    async fn answer(&self, call: Call, route: &RouteRule) -> Result<Response<ResponseBody>, Error> {
        let journal = Journal::default();
        match self.inject(route, call.context.deadline(), &journal).await {
            Ok(()) => Ok(local::answer(&call.cited(), route)),
            Err(error) => Err(error.settle(journal.account(), call.grpc)),
        }
    }

    fn mirror(
        &self,
        plan: &Arc<Plan>,
        forward: &Forward,
        request: Request<RequestBody>,
        path: &Path<'_>,
    ) -> Request<RequestBody> {
        if forward.mirrors.is_empty() {
            return request;
        }
        let Path { authority, bounds, grpc, https, .. } = path;
        let origin = Origin {
            plan: Arc::clone(plan),
            authority: authority.clone(),
            timeout: bounds.timeout,
            grpc: *grpc,
            https: *https,
        };
        self.mirrors.send(&forward.mirrors, request, &origin)
    }

    async fn pass_through(&self, mut call: Call) -> Result<Response<ResponseBody>, Error> {
        call.ask(self.obeys_headers);
        call.introduce();
        let deadline = call.context.deadline().map(|deadline| self.workload.clock().instant(deadline));
        let exit = Exit {
            bounds: Bounds { timeout: call.asked.and_then(|asked| asked.timeout_or(None)), deadline },
            authority: call.authority,
            journal: Journal::of(Some(outside::CLUSTER.into())),
            https: call.https,
        };
        let answer = self.outside.run(call.request, &exit).await;
        let account = exit.journal.account();
        match answer {
            Ok(response) => Ok(response.map(|body| ResponseBody::outside(body, account.info))),
            Err(error) => Err(error.settle(account, call.grpc)),
        }
    }

    /// That there is no way is the answer only if there is a configuration that says so.
    fn unroutable(&self, plan: &Plan, call: &Call, journal: Journal, error: Error) -> Error {
        let error = match self.workload.readiness() {
            Readiness::NotReady(reason) if plan.snapshot().version().is_empty() => {
                Error::new(Cause::NotReady, format!("this workload is not ready: {reason}"))
            }
            _ => error,
        };
        error.settle(journal.account(), call.grpc)
    }
}

/// Leaves behind, for the answer to the request in whose course the call was made, why it is not worth another try.
fn note_provenance<B>(answer: &mut Result<Response<B>, Error>, retries: Provenance) {
    let deeper = answer.as_mut().map_or(Provenance::NONE, |response| {
        let deeper = Provenance::of_headers(response.headers());
        if !deeper.is_none() {
            response.headers_mut().remove(Provenance::HEADER);
        }
        deeper
    });
    let provenance = retries.and(deeper);
    if !provenance.is_none() {
        Context::note(provenance);
    }
}
