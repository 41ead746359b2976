//! Connections: accepted in one task, each served in its own, within bounds of time, size and number.

mod paced;

use crate::{
    api,
    caller::Caller,
    plane::Plane,
    tls::{PeerSvid, Tls},
};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_runtime::room::{Room, Seat};
use paced::Paced;
use std::{
    convert::Infallible,
    future::pending,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all.
    pub(crate) connections_max: usize,
    /// Of callers who have not proven who they are: of these, the longest connected makes place for another one.
    pub(crate) unproven_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, unproven_max: UNPROVEN_MAX }
    }
}

/// Serves `plane` on `listener` until it is stopped; then lets requests in flight end, for a moment.
///
/// Without `tls` it speaks plain HTTP.
pub(crate) async fn run(listener: TcpListener, plane: Arc<Plane>, tls: Option<Arc<Tls>>, limits: Limits) {
    let room = Arc::new(Semaphore::new(limits.connections_max));
    // A plain cap would let silent sockets shut out joins and renewals.
    let unproven = Room::new(limits.unproven_max, Duration::ZERO);
    let mut connections = JoinSet::new();
    let mut stopped = pin!(plane.stopped());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let permit = Arc::clone(&room).try_acquire_owned().ok();
                if let (Some(permit), Some(seat)) = (permit, unproven.enter()) {
                    connections.spawn(connection(stream, Arc::clone(&plane), tls.clone(), seat, permit));
                } else {
                    // Closed at once: who waits for room that others hold learns nothing.
                    tracing::debug!("{} connections stand; one more is closed", limits.connections_max);
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: to ask again at once would only burn the CPU.
                tracing::debug!("accept: {error}");
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(DRAIN_LIMIT, all_ended).await;
}

async fn connection(
    stream: TcpStream,
    plane: Arc<Plane>,
    tls: Option<Arc<Tls>>,
    seat: Seat,
    _permit: OwnedSemaphorePermit,
) {
    let proven = Notify::new();
    let evicted = async {
        if seat.hold(proven.notified()).await.is_some() {
            pending::<()>().await;
        }
    };
    tokio::select! {
        () = life(stream, &plane, tls, &proven) => {}
        () = evicted => tracing::debug!("closed to make place: it has not said who it is"),
    }
}

/// Serves one connection to its end, and notifies `proven` of each request of a caller who is known.
async fn life(stream: TcpStream, plane: &Arc<Plane>, tls: Option<Arc<Tls>>, proven: &Notify) {
    let _ = stream.set_nodelay(true);
    let stream = Paced::new(stream, WRITE_STALL_MAX);
    plane.metrics.connections.fetch_add(1, Relaxed);
    let _counted = Counted(plane);
    match tls {
        None => serve(stream, plane, None, proven).await,
        Some(tls) => match handshake(stream, &tls).await {
            Ok((stream, peer)) => serve(stream, plane, peer, proven).await,
            Err(why) => {
                plane.metrics.handshakes_failed.fetch_add(1, Relaxed);
                tracing::debug!("TLS handshake: {why}");
            }
        },
    }
}

async fn handshake(
    stream: Paced<TcpStream>,
    tls: &Tls,
) -> Result<(tokio_rustls::server::TlsStream<Paced<TcpStream>>, Option<PeerSvid>), String> {
    let config = tls.config(SystemTime::now()).map_err(|error| error.to_string())?;
    let accept = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    let accepted = timeout(HANDSHAKE_LIMIT, accept).await.map_err(|_| "it took too long".to_owned())?;
    let stream = accepted.map_err(|error| error.to_string())?;
    let peer = match stream.get_ref().1.peer_certificates() {
        None => None,
        // Verified a moment ago; that it should not read now must not make it anonymous.
        Some(chain) => Some(Tls::peer(chain).ok_or("the caller's certificate does not read")?),
    };
    Ok((stream, peer))
}

async fn serve<T>(stream: T, plane: &Arc<Plane>, peer: Option<PeerSvid>, proven: &Notify)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let peer = peer.as_ref();
    let service = service_fn(async |request: Request<Incoming>| {
        if Caller::prove(request.headers(), peer, &plane.judge(SystemTime::now())).is_ok() {
            proven.notify_one();
        }
        Ok::<_, Infallible>(api::answer(plane, peer, request).await.into_response())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(BUFFER_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = plane.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection: {error}");
    }
}

/// A connection that is counted while it stands.
struct Counted<'a>(&'a Plane);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Relaxed);
    }
}

/// A tenth of what the memory of a small machine holds, and twenty times its workloads.
const CONNECTIONS_MAX: usize = 4096;
/// A fleet that joins at once, five times; and three quarters of all stay for callers who are known.
const UNPROVEN_MAX: usize = 1024;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Also how long a connection may stand idle: six times the heartbeat of a lease.
const HEADER_LIMIT: Duration = Duration::from_secs(30);
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Two requests go out in that time, or the caller is gone.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
const BUFFER_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests;
