//! The accept loop: takes connections in, never waits for one of them, and sees them out.

use crate::{
    connection::{self, Notice, Shared},
    crowd::{Crowd, Place},
    handler::Handler,
    turned_away::TurnedAway,
};
use std::{future::poll_fn, io, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

/// Where connections come in. When dropped, every connection ends.
pub(crate) struct Reception<H> {
    listener: TcpListener,
    shared: Arc<Shared>,
    handler: H,
    notices: watch::Sender<Notice>,
    configurations: watch::Receiver<u64>,
    identities: watch::Receiver<u64>,
    connections: JoinSet<()>,
    crowd: Arc<Crowd>,
    /// Until when nothing is accepted because there was no room for it.
    resume: Instant,
}

/// The pause when file descriptors or memory run out: short enough to recover within a second, long enough to cost
/// nothing.
const BACK_OFF: Duration = Duration::from_millis(100);

impl<H: Handler> Reception<H> {
    pub(crate) fn new(listener: TcpListener, shared: Arc<Shared>, handler: H) -> Self {
        Self {
            listener,
            handler,
            notices: watch::channel(Notice::default()).0,
            configurations: shared.workload.config().subscribe(),
            identities: shared.workload.identity().subscribe(),
            connections: JoinSet::new(),
            crowd: Crowd::new(shared.limits.connections_per_peer_max),
            resume: Instant::now(),
            shared,
        }
    }

    /// Takes connections in until `end` is done.
    pub(crate) async fn admit_until<F: Future>(&mut self, end: F) -> F::Output {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                output = end.as_mut() => return output,
                accepted = accept(&self.listener, self.resume) => self.on_accepted(accepted),
                Some(_) = self.connections.join_next() => {}
                Ok(()) = self.configurations.changed() => {
                    self.shared.on_configuration();
                    self.notices.send_modify(|notice| notice.configurations += 1);
                }
                Ok(()) = self.identities.changed() => self.notices.send_modify(|notice| notice.identities += 1),
            }
        }
    }

    /// Takes in what has already connected, then nothing more, and waits for what is in flight, up to the limit.
    pub(crate) async fn close(mut self) {
        while let Poll::Ready(accepted) = poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))).await {
            let failed = accepted.is_err();
            self.on_accepted(accepted);
            if failed {
                break;
            }
        }
        drop(self.listener);
        self.notices.send_modify(|notice| notice.closing = true);
        let limit = self.shared.limits.drain;
        let all = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            let aborted = self.connections.len();
            tracing::warn!(aborted, "connections with requests still in flight after {limit:?} are aborted");
        }
    }

    fn place(&self, address: SocketAddr) -> Result<Place, TurnedAway> {
        if self.connections.len() >= self.shared.limits.connections_max {
            return Err(TurnedAway::Full);
        }
        self.crowd.enter(address.ip()).ok_or(TurnedAway::PeerFull)
    }

    fn on_accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, address)) => {
                let place = match self.place(address) {
                    Ok(place) => place,
                    Err(why) => {
                        drop(stream);
                        return self.shared.turn_away(&why, address);
                    }
                };
                // An answer is one write; waiting for more to fill a packet helps nobody. Failing is harmless.
                let _ = stream.set_nodelay(true);
                let (shared, handler) = (Arc::clone(&self.shared), self.handler.clone());
                let notices = self.notices.subscribe();
                self.connections.spawn(async move {
                    let _place = place;
                    connection::run(shared, stream, address, handler, notices).await;
                });
            }
            // The client left before it was its turn.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                self.shared.log.on_exhausted(&error, self.connections.len());
                self.resume = Instant::now() + BACK_OFF;
            }
        }
    }
}

/// Accepts a connection, not before `resume`.
async fn accept(listener: &TcpListener, resume: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    if Instant::now() < resume {
        tokio::time::sleep_until(resume).await;
    }
    listener.accept().await
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
