//! Makes the TCP connection: to an address, or to the first that answers of those a name stands for.
// spec: rfc8305 happy eyeballs

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use mesh_core::{config::istio::TcpKeepalive, registry::Address};
use socket2::SockRef;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Connects, and says to whom. The system probes the peer as `keepalive` says, else so that one that vanished is found
/// within 20 s.
pub(super) async fn open(
    address: &Address,
    keepalive: Option<TcpKeepalive>,
) -> io::Result<(TcpStream, SocketAddr)> {
    let stream = match address {
        Address::Ip(address) => TcpStream::connect(address).await?,
        Address::Name(name, port) => {
            first(lookup_host((&**name, *port)).await?.collect(), TcpStream::connect).await?
        }
    };
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&probes(keepalive.unwrap_or(TCP_KEEPALIVE)))?;
    if keepalive.is_none() {
        bound_silence(&socket)?;
    }
    let peer = stream.peer_addr()?;
    Ok((stream, peer))
}

/// Returns the first connection that is made; the other attempts are dropped. Each begins when the one before it has failed,
/// or has had [`HEAD_START`].
async fn first<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut left = alternating(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        attempts.extend(left.next().map(&connect));
        let ended = match left.len() {
            0 => attempts.next().await,
            _ => match timeout(HEAD_START, attempts.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(failed)) => error = failed,
            None => return Err(error),
        }
    }
}

/// Returns `addresses` with the families taking turns, that of the first one first; within a family in their order.
// spec: rfc8305 4, with a First Address Family Count of 1
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == begins);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let turns = std::iter::from_fn(|| match (one.next(), other.next()) {
        (None, None) => None,
        turn => Some([turn.0, turn.1]),
    });
    turns.flatten().flatten().collect()
}

/// Returns what to ask of the system. It counts in whole seconds, and takes no larger numbers than these.
// spec: linux net/ipv4/tcp.c MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT
fn probes(keepalive: TcpKeepalive) -> socket2::TcpKeepalive {
    let whole = |time: Duration| time.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
    let mut probes = socket2::TcpKeepalive::new();
    if let Some(time) = keepalive.time {
        probes = probes.with_time(whole(time));
    }
    if let Some(interval) = keepalive.interval {
        probes = probes.with_interval(whole(interval));
    }
    if let Some(count) = keepalive.probes {
        probes = probes.with_retries(count.min(127));
    }
    probes
}

/// Probes are sent only while nothing is on the way; this is for what is.
// spec: linux tcp(7) TCP_USER_TIMEOUT
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_silence(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_silence(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

/// How long an attempt has before the next one begins beside it.
// spec: rfc8305 5, Connection Attempt Delay
const HEAD_START: Duration = Duration::from_millis(250);

/// A peer that vanished without a word would otherwise be waited for until TCP gives up, some 15 minutes, and on an idle
/// connection for ever. HTTP/2 has pings besides.
const TCP_KEEPALIVE: TcpKeepalive = TcpKeepalive {
    time: Some(Duration::from_secs(10)),
    interval: Some(Duration::from_secs(5)),
    probes: Some(2),
};

/// How long what is sent may go unacknowledged, or untaken by the application at the other end. A server of the mesh gives
/// its callers 30 s for the latter.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SILENCE_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        cell::RefCell,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
    };
    use tokio::time::{Instant, sleep};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn families_take_turns_and_the_resolvers_first_one_begins() {
        for (addresses, order) in [
            (&["6a", "6b", "4a", "4b"][..], &["6a", "4a", "6b", "4b"][..]),
            (&["4a", "4b", "4c", "6a"], &["4a", "6a", "4b", "4c"]),
            (&["4a", "4b"], &["4a", "4b"]),
            (&["6a", "4a", "4b", "4c"], &["6a", "4a", "4b", "4c"]),
            (&[], &[]),
        ] {
            let order: Vec<_> = order.iter().map(|name| address(name)).collect();
            assert_eq!(alternating(addresses.iter().map(|name| address(name)).collect()), order);
        }
    }

    /// Rows: what each address does and after how many ms; which one is connected to, when, and who was tried when.
    #[tokio::test(start_paused = true)]
    async fn the_first_connection_wins_and_the_next_address_is_tried_after_a_failure_or_a_head_start() {
        let (connects, fails, hangs) = (true, false, u64::MAX);
        for (network, won, began) in [
            (&[("6a", connects, 10), ("4a", connects, 1)][..], Some(("6a", 10)), &[0][..]),
            (&[("6a", connects, hangs), ("4a", connects, 5)], Some(("4a", 255)), &[0, 250]),
            (&[("6a", connects, 300), ("4a", connects, 100)], Some(("6a", 300)), &[0, 250]),
            (&[("6a", fails, 20), ("4a", connects, 5)], Some(("4a", 25)), &[0, 20]),
            (
                &[("6a", connects, hangs), ("4a", fails, 30), ("6b", connects, 1)],
                Some(("6b", 281)),
                &[0, 250, 280],
            ),
            (&[("6a", fails, 20), ("4a", fails, 5)], None, &[0, 20]),
            (&[], None, &[]),
        ] {
            let start = Instant::now();
            let (began_at, dropped) = (RefCell::new(Vec::new()), Arc::new(AtomicUsize::new(0)));
            let connect = |to: SocketAddr| {
                began_at.borrow_mut().push(start.elapsed().as_millis() as u64);
                let &(_, connects, after) = network.iter().find(|it| address(it.0) == to).unwrap();
                let dropped = Dropped(Arc::clone(&dropped));
                async move {
                    let _dropped = dropped;
                    sleep(MS * u32::try_from(after).unwrap_or(u32::MAX)).await;
                    if connects { Ok(to) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
                }
            };
            let addresses = network.iter().map(|it| address(it.0)).collect();
            let ended = first(addresses, connect).await;
            let ended = ended.ok().map(|to| (to, start.elapsed()));
            assert_eq!(ended, won.map(|(name, ms)| (address(name), ms * MS)), "{network:?}");
            assert_eq!(*began_at.borrow(), began, "{network:?}");
            assert_eq!(dropped.load(SeqCst), began.len(), "{network:?}: no attempt goes on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_says_so_and_a_name_without_one_does_too() {
        let refuse = |_| async { Err::<(), _>(io::ErrorKind::ConnectionRefused.into()) };
        let error = first(vec![address("4a"), address("6a")], refuse).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first(Vec::new(), refuse).await.unwrap_err().to_string(), "the name has no address");
    }

    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// `4a` is 10.0.0.97, `6b` is fd00::98.
    fn address(name: &str) -> SocketAddr {
        let last = name.as_bytes()[1];
        match name.as_bytes()[0] {
            b'4' => ([10, 0, 0, last], 80).into(),
            _ => ([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)], 80).into(),
        }
    }
}
