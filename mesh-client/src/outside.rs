//! Calls to hosts that the mesh does not know: plain HTTP to the host that is named, with no policy but the caller's
//! deadline.
// spec: istio-semantics 1, "Host header match": ALLOW_ANY passes through with no timeout and no retry

use crate::{
    Error,
    body::{RequestBody, ResponseBody},
    endpoint::Exchange,
    error::Cause,
    journal::Journal,
    plan::Plans,
    pool::{Key, Terms},
    timeout::{Alarm, Bounds},
};
use http::{Request, Response, uri::Authority};
use mesh_core::{balance::Security, registry::Address};
use mesh_runtime::{Context, Workload};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// Sends `request` to `authority` itself.
pub(crate) async fn send(
    plans: &Plans,
    request: Request<RequestBody>,
    authority: &Authority,
    workload: &Workload,
    context: &Context,
) -> Result<Response<ResponseBody>, Error> {
    let journal = Journal::of(Some(CLUSTER.into()));
    let sent = exchange(plans, request, authority, &journal, workload, context).await;
    let account = journal.account();
    match sent {
        Ok(response) => Ok(response.map(|body| ResponseBody::outside(body, account.info))),
        Err(error) => Err(error.settle(account, false)),
    }
}

async fn exchange(
    plans: &Plans,
    request: Request<RequestBody>,
    authority: &Authority,
    journal: &Journal,
    workload: &Workload,
    context: &Context,
) -> Result<Response<crate::endpoint::EndpointBody>, Error> {
    if request.uri().scheme_str() == Some("https") {
        return Err(no_https(authority));
    }
    let pool = plans.pools.outside(Key {
        cluster: CLUSTER.into(),
        address: address(authority),
        security: Security::Plaintext,
    });
    journal.on_attempt();
    let exchange = Exchange {
        pool: &pool,
        terms: plans.pools.outside_terms(),
        authority,
        journal,
        per_try_timeout: None,
    };
    let deadline = context.deadline().map(|deadline| workload.clock().instant(deadline));
    let (request, mut alarm) = Alarm::set(Bounds { timeout: None, deadline }, request);
    alarm.within(exchange.run(request)).await.unwrap_or_else(|_| {
        Err(Error::new(Cause::RouteTimeout, "no answer by the deadline of the caller (UT)"))
    })
}

fn address(authority: &Authority) -> Address {
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) => Address::Ip(SocketAddr::new(ip, port)),
        Err(_) => Address::Name(host.to_ascii_lowercase().into(), port),
    }
}

fn no_https(authority: &Authority) -> Error {
    let host = authority.host();
    let message = format!(
        "{host} is no service of the mesh, and this client speaks https to none: declare a ServiceEntry for {host} and \
         a DestinationRule with `trafficPolicy.tls.mode: SIMPLE`, and call http://{host}/"
    );
    Error::new(Cause::Request, message)
}

impl Terms {
    /// Returns the terms for hosts outside: Istio's defaults, with an end to idle connections that comes sooner.
    pub(crate) fn outside() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            requests_max: 0,
            limits: mesh_core::health::Limits::default(),
            state: Arc::default(),
        }
    }
}

/// The name that Istio gives to what is passed through.
const CLUSTER: &str = "PassthroughCluster";
