//! The edge of the mesh: a server that lets the world in, by the servers of a Gateway.
//!
//! Which server takes a connection is `mesh_core`'s to say and its certificate `mesh_runtime::edge`'s; where requests go is
//! the handler's business. Whoever comes in here is nobody: no certificate of a client makes a [`Peer`](crate::Peer).

use crate::{
    connection::Shared,
    entrance::{Entered, Standing},
    normalise,
    reply::Reply,
    step::Step,
    stream::Transport,
    trusted_hops::X_FORWARDED_FOR,
    turned_away::TurnedAway,
};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use mesh_core::{
    config::istio::{Gateway, Server as GatewayServer},
    route::Authority,
};
use mesh_runtime::{Arrival, config::ConfigStore, edge::EdgeCertificates};
use std::{net::IpAddr, sync::Arc};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{LazyConfigAcceptor, rustls::server::Acceptor, server::TlsStream};

/// One port of a Gateway.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) certificates: Arc<EdgeCertificates>,
    /// As the Gateway numbers it.
    pub(crate) port: u16,
}

/// How a connection came in.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    port: u16,
    /// The server of the Gateway that ended its TLS; `None` in plain.
    server: Option<Arc<GatewayServer>>,
}

impl Edge {
    pub(crate) fn plain_door(&self) -> Door {
        Door { port: self.port, server: None }
    }

    /// Returns whether TLS is spoken at this port.
    pub(crate) fn takes_tls(&self, shared: &Shared) -> bool {
        let config = shared.workload.config().current();
        let mut servers = config.gateway().into_iter().flat_map(|gateway| &gateway.servers);
        servers.any(|server| server.port.number == self.port && server.ends_tls().is_some())
    }

    /// Ends TLS as the server that the name asked for belongs to.
    pub(crate) async fn enter_tls(&self, shared: &Shared, stream: TcpStream) -> Result<Entered, TurnedAway> {
        let seat = shared.handshakes.enter().ok_or(TurnedAway::Crowded)?;
        let handshake = timeout(shared.limits.handshake, self.handshake(shared, stream));
        let handshaken = seat.hold(handshake).await.ok_or(TurnedAway::Crowded)?;
        let (stream, server) = handshaken.map_err(|_| TurnedAway::HandshakeTimeout)??;
        let tls = stream.get_ref().1;
        let (http2, sni) = (tls.alpn_protocol() == Some(b"h2"), tls.server_name().map(Arc::from));
        let standing = Standing::Anonymous;
        let admitted = standing.judge(shared)?;
        let (transport, certificate) = (Transport::Tls(Box::new(stream)), None);
        let door = Some(Door { port: self.port, server: Some(server) });
        Ok(Entered { transport, http2, standing, admitted, sni, certificate, door })
    }

    async fn handshake(
        &self,
        shared: &Shared,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, Arc<GatewayServer>), TurnedAway> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let hello = hello.map_err(TurnedAway::of_handshake)?;
        // Who asks for no name gets what answers for every host.
        let name = hello.client_hello().server_name().unwrap_or_default().to_owned();
        let config = shared.workload.config().current();
        let server = config.gateway().and_then(|gateway| gateway.server(self.port, &name));
        let Some(server) = server.filter(|server| server.ends_tls().is_some()) else {
            return Err(TurnedAway::NoServer(name));
        };
        let tls = self.certificates.config(server).ok_or(TurnedAway::NoCertificate(name))?;
        let stream = hello.into_stream(tls).await.map_err(TurnedAway::of_handshake)?;
        Ok((stream, Arc::new(server.clone())))
    }
}

impl Door {
    /// Returns whether a request for `host` may come through: what another server demands of its clients was not asked
    /// here. A host that no server has is nobody's, and answered as such.
    fn leads_to(&self, gateway: &Gateway, host: &str) -> bool {
        let Some(meant) = gateway.server(self.port, host) else { return true };
        match (&self.server, meant.ends_tls()) {
            (None, meant) => meant.is_none(),
            (Some(_), None) => false,
            (Some(entered), Some(meant_tls)) => {
                let entered_tls = entered.ends_tls();
                entered.port.name == meant.port.name && entered_tls.is_some_and(|tls| tls.is_like(meant_tls))
            }
        }
    }
}

/// The step that makes a request one that arrived from outside, and answers 421 to one that came in by another server's
/// door; elsewhere than at an edge it does nothing.
// spec: envoy configuration/http/http_conn_man/headers#x-forwarded-for and #x-request-id, with use_remote_address, which Istio sets for gateways
#[derive(Clone, Debug)]
pub(crate) struct Arrive {
    pub(crate) door: Option<Door>,
    pub(crate) remote: IpAddr,
    /// Whether what it says of where it came from is believed.
    pub(crate) trusted: bool,
    pub(crate) config: Arc<ConfigStore>,
}

impl Step for Arrive {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        let Some(door) = &self.door else { return Ok(()) };
        let config = self.config.current();
        let host = Authority::parse(normalise::host(head)).ok_or(Reply::BadHost)?.host.into_owned();
        if config.gateway().is_some_and(|gateway| !door.leads_to(gateway, &host)) {
            return Err(Reply::Misdirected);
        }
        let (port, https, remote) = (door.port, door.server.is_some(), self.remote.to_canonical());
        head.extensions.insert(Arrival { port, https, remote });
        if !self.trusted {
            head.headers.remove(X_REQUEST_ID);
        }
        forwarded_for(&mut head.headers, remote);
        Ok(())
    }
}

/// Adds `remote` behind whom trusted hops have seen.
fn forwarded_for(headers: &mut HeaderMap, remote: IpAddr) {
    let mut seen: Vec<u8> = Vec::new();
    for value in headers.get_all(X_FORWARDED_FOR) {
        seen.extend_from_slice(value.as_bytes());
        seen.push(b',');
    }
    seen.extend_from_slice(remote.to_string().as_bytes());
    if let Ok(seen) = HeaderValue::from_bytes(&seen) {
        headers.insert(X_FORWARDED_FOR, seen);
    }
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
