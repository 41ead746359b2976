//! Calls to hosts that the mesh does not know: HTTP or HTTPS to the host that is named, as the caller says, with no
//! policy but the caller's deadline.
// spec: istio mesh/v1alpha1/config.proto OutboundTrafficPolicy: ALLOW_ANY passes through with no timeout and no retry

use crate::{
    Error,
    body::RequestBody,
    endpoint::{EndpointBody, Exchange},
    journal::Journal,
    plan::Plans,
    pool::{Key, Terms},
    step::Step,
    timeout::{Bounded, Bounds},
};
use http::{Request, Response, uri::Authority};
use mesh_core::{
    balance::{Security, TlsOrigination},
    registry::Address,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// The step that sends to the host itself.
#[derive(Clone, Debug)]
pub(crate) struct Outside {
    pub(crate) plans: Arc<Plans>,
}

/// The way of one call out of the mesh.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) authority: Authority,
    pub(crate) bounds: Bounds,
    pub(crate) journal: Journal,
    pub(crate) https: bool,
}

impl Bounded for Exit {
    fn bounds(&self) -> Bounds {
        self.bounds
    }
}

impl<'a> Step<&'a Exit> for Outside {
    type Body = EndpointBody;

    async fn run(
        &self,
        request: Request<RequestBody>,
        exit: &'a Exit,
    ) -> Result<Response<EndpointBody>, Error> {
        let pools = &self.plans.pools;
        let pool = pools.outside(Key {
            cluster: CLUSTER.into(),
            address: address(&exit.authority, exit.https),
            security: security(&exit.authority, exit.https),
            protocol: pools.connector.protocol,
        });
        exit.journal.on_attempt(|_| Some(0));
        let exchange = Exchange {
            pool: &pool,
            terms: pools.outside_terms(),
            authority: &exit.authority,
            journal: &exit.journal,
            per_try_timeout: None,
            hedged: false,
        };
        exchange.run(request).await
    }
}

fn address(authority: &Authority, https: bool) -> Address {
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let host = host(authority);
    match host.parse::<IpAddr>() {
        Ok(ip) => Address::Ip(SocketAddr::new(ip, port)),
        Err(_) => Address::Name(host.to_ascii_lowercase().into(), port),
    }
}

/// What the caller asks for is done: TLS with the authorities of the system, or plaintext.
fn security(authority: &Authority, https: bool) -> Security {
    match https {
        true => Security::Origination(Arc::new(TlsOrigination::simple(host(authority)))),
        false => Security::Plaintext,
    }
}

fn host(authority: &Authority) -> &str {
    authority.host().trim_matches(['[', ']'])
}

impl Terms {
    /// Returns the terms for hosts outside: Istio's defaults, with an end to idle connections that comes sooner.
    pub(crate) fn outside() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(90),
            requests_max: 0,
            connection: Arc::default(),
            limits: mesh_core::health::Limits::default(),
            state: Arc::default(),
        }
    }
}

/// The name that Istio gives to what is passed through.
pub(crate) const CLUSTER: &str = "PassthroughCluster";
