//! The lease: this workload as an endpoint in the registry, renewed three times per life, given back at the end.

use super::{Link, Talk, jitter};
use crate::{
    control::{
        backoff::LONGEST,
        http::{Ask, CallError},
        wire::Lease,
    },
    settings::Advertise,
    task::Task,
};
use http::Method;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UdpSocket, lookup_host},
    sync::oneshot,
    time::timeout,
};

/// A lease that is being kept. Dropped, it runs out by itself; withdrawn, it is gone at once.
#[derive(Debug)]
pub(crate) struct Registered {
    leave: oneshot::Sender<()>,
    task: Task,
}

impl Registered {
    pub(super) fn start(link: Arc<Link>, listening: SocketAddr, instance: String) -> Self {
        let (leave, left) = oneshot::channel();
        let keeper = Keeper { talk: Talk::new(link), listening, instance, last: Last::Unasked };
        Self { leave, task: Task::spawn(keeper.run(left)) }
    }

    /// Takes the endpoint out of the registry, as far as the control endpoint answers in good time.
    pub(crate) async fn withdraw(self) {
        let _ = self.leave.send(());
        if timeout(WITHDRAW_LIMIT, self.task.finish()).await.is_err() {
            tracing::warn!(
                "the control endpoint does not answer; the lease runs out in {TTL_SECONDS} s by itself"
            );
        }
    }
}

#[derive(Debug)]
struct Keeper {
    talk: Talk,
    listening: SocketAddr,
    instance: String,
    last: Last,
}

/// How the last renewal went, so that a change is logged and a state is not.
#[derive(Debug, PartialEq, Eq)]
enum Last {
    /// Nothing has been asked for, so there is nothing to give back.
    Unasked,
    Asked,
    Registered(SocketAddr),
    Failed(String),
}

impl Keeper {
    async fn run(mut self, left: oneshot::Receiver<()>) {
        tokio::select! {
            () = self.keep() => {}
            _ = left => {}
        }
        self.withdraw().await;
    }

    /// Renews for ever. An endpoint that came back without its leases gets this one with the next renewal, which its
    /// return brings about: every renewal carries the whole lease.
    async fn keep(&mut self) {
        let link = Arc::clone(&self.talk.link);
        // Nobody is to be sent here before policy is known.
        link.progress.ready().await;
        loop {
            link.identified().await;
            link.reached().await;
            match self.renew().await {
                Ok(()) => {
                    self.talk.backoff.on_answer();
                    link.pause(HEARTBEAT - jitter(HEARTBEAT / 10)).await;
                }
                Err(error) => self.on_failure(&error).await,
            }
        }
    }

    async fn renew(&mut self) -> Result<(), CallError> {
        let address = self.address().await.map_err(CallError::Unaskable)?;
        let settings = &self.talk.link.settings;
        let lease = Lease {
            address: address.ip().to_string(),
            ports: BTreeMap::from([("http".to_owned(), address.port())]),
            labels: settings.labels.clone(),
            locality: settings.locality.clone(),
            ttl_seconds: TTL_SECONDS,
            service_port: settings.service_port,
        };
        let path = self.path();
        if self.last == Last::Unasked {
            self.last = Last::Asked;
        }
        self.talk.ask(&Ask::send(Method::PUT, &path, &lease)).await?;
        if self.last != Last::Registered(address) {
            tracing::info!(%address, instance = %self.instance, "registered");
            self.last = Last::Registered(address);
            self.talk.link.progress.on_registered();
        }
        Ok(())
    }

    /// Returns where others reach this workload: what it is told to advertise, else where it listens, else (it listens
    /// everywhere) the address from which it reaches the control endpoint.
    async fn address(&self) -> Result<SocketAddr, String> {
        let (link, listening) = (&self.talk.link, self.listening);
        let advertise = link.settings.advertise.as_deref().map(Advertise::parse).transpose();
        if let Some(Advertise { ip, port }) = advertise.map_err(|e| e.to_string())? {
            return Ok(SocketAddr::new(ip, port.unwrap_or(listening.port())));
        }
        if !listening.ip().is_unspecified() {
            return Ok(listening);
        }
        let ip = source_address(link.endpoint.host(), link.endpoint.port(), listening.ip()).await;
        let ip = ip.map_err(|e| format!("nobody can dial {listening}, and {e}; set MESH_ADVERTISE"))?;
        Ok(SocketAddr::new(ip, listening.port()))
    }

    fn path(&self) -> String {
        let settings = &self.talk.link.settings;
        format!("/v1/workloads/{}/{}/{}", settings.namespace, settings.service, self.instance)
    }

    async fn on_failure(&mut self, error: &CallError) {
        let failed = Last::Failed(self.talk.describe(error));
        if let (Last::Failed(trouble), true) = (&failed, self.last != failed) {
            tracing::warn!(instance = %self.instance, "lease not renewed: {trouble}");
            self.last = failed;
        }
        // Refused is not away: a lease that is wanted back is asked for within its heartbeat.
        let most = if error.is_unreachable() { LONGEST } else { HEARTBEAT };
        self.talk.back_off(error, most).await;
    }

    async fn withdraw(&mut self) {
        if self.last == Last::Unasked {
            return;
        }
        let path = self.path();
        let ask = Ask { method: Method::DELETE, ..Ask::get(&path) };
        match self.talk.ask(&ask).await {
            Ok(_) => tracing::info!(instance = %self.instance, "withdrawn"),
            Err(error) => tracing::warn!("lease not given back: {}", self.talk.describe(&error)),
        }
    }
}

/// Returns the address that packets to `host` leave from. Connecting a datagram socket sends nothing.
async fn source_address(host: &str, port: u16, listening: IpAddr) -> Result<IpAddr, String> {
    let why = |e: std::io::Error| format!("no address leads to {host}: {e}");
    let fits = |peer: &SocketAddr| listening.is_ipv6() || peer.is_ipv4();
    let peer = lookup_host((host, port)).await.map_err(why)?.find(fits);
    let peer = peer.ok_or_else(|| format!("{host} has no IPv4 address"))?;
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(why)?;
    socket.connect(peer).await.map_err(why)?;
    socket.local_addr().map(|address| address.ip()).map_err(why)
}

/// Long enough for a busy process to miss a heartbeat or two, short enough for a dead one to be forgotten soon.
const TTL_SECONDS: u32 = 15;
const HEARTBEAT: Duration = Duration::from_secs(TTL_SECONDS as u64 / 3);
/// A drain does not wait for a control endpoint that is gone.
const WITHDRAW_LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_listens_everywhere_advertises_the_address_it_reaches_the_endpoint_from() {
        for listening in ["0.0.0.0", "::"] {
            let source = source_address("127.0.0.1", 9, listening.parse().unwrap()).await.unwrap();
            assert_eq!(source, IpAddr::from(Ipv4Addr::LOCALHOST), "{listening}");
        }
    }

    #[tokio::test]
    async fn who_listens_on_ipv4_only_does_not_advertise_ipv6() {
        let error = source_address("::1", 9, "0.0.0.0".parse().unwrap()).await.unwrap_err();
        assert!(error.contains("no IPv4 address"), "{error}");
    }
}
