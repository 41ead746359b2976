use super::*;
use crate::ErrorKind;
use mesh_core::{balance::Security, config::istio::TcpKeepalive};
use mesh_runtime::{Clock, Settings, Sparing, identity::IdentityStore, telemetry::Telemetry};
use socket2::SockRef;
use std::{
    future::poll_fn,
    net::{TcpListener, TcpStream},
    pin::{Pin, pin},
    task::Poll,
};
use tokio::task::yield_now;

#[tokio::test]
async fn a_connection_that_was_idle_is_kept_though_it_carried_no_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let listener = listener();
        let (pool, terms) = (pool(&listener, protocol), Terms::outside());
        let _peer = {
            let gone = pin!(pool.checkout(&terms));
            dialled(gone, &listener, |peer| peer).await
        };
        while pool.lock().connecting > 0 {
            yield_now().await;
        }
        let lease = pool.checkout(&terms).await.unwrap();
        assert!(lease.is_kept(), "{protocol:?}");
        assert!(pool.take(&terms).is_none_or(|_| protocol == Protocol::Http2), "it is the only one");
    }
}

#[tokio::test]
async fn a_connection_made_for_the_one_who_waits_is_not_a_kept_one() {
    let listener = listener();
    let (pool, terms) = (pool(&listener, Protocol::Http1), Terms::outside());
    assert!(!pool.checkout(&terms).await.unwrap().is_kept());
    assert!(!pool.checkout_fresh(&terms).await.unwrap().is_kept());
    assert!(pool.checkout(&terms).await.unwrap().is_kept(), "both lie idle now");
}

#[tokio::test]
async fn a_peer_that_closes_every_connection_at_once_is_dialled_once_and_is_an_error() {
    for fresh in [false, true] {
        let listener = listener();
        let (pool, terms) = (pool(&listener, Protocol::Http1), Terms::outside());
        let checkout =
            async { if fresh { pool.checkout_fresh(&terms).await } else { pool.checkout(&terms).await } };
        let mut checkout = pin!(checkout);
        dialled(checkout.as_mut(), &listener, drop).await;
        let error = checkout.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(!error.may_have_been_sent());
        assert!(error.to_string().contains(&listener.local_addr().unwrap().to_string()), "{error}");
        assert!(listener.accept().is_err(), "nobody dialled again");
    }
}

#[tokio::test]
async fn a_connection_is_probed_as_the_rule_says_within_what_the_system_takes() {
    let listener = listener();
    let address = Address::Ip(listener.local_addr().unwrap());
    let (day, seconds) = (Duration::from_secs(24 * 3600), Duration::from_secs);
    for (probes, time, interval, set) in [
        (4, seconds(7), seconds(3), (4, seconds(7), seconds(3))),
        (1_000, day, Duration::from_millis(1), (127, seconds(32_767), seconds(1))),
    ] {
        let rule = TcpKeepalive { probes: Some(probes), time: Some(time), interval: Some(interval) };
        let (tcp, _) = dial::open(&address, Some(rule)).await.unwrap();
        let socket = SockRef::from(&tcp);
        let (count, idle) = (socket.tcp_keepalive_retries().unwrap(), socket.tcp_keepalive_time().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!((count, idle, socket.tcp_keepalive_interval().unwrap()), set);
    }
    let (tcp, _) = dial::open(&address, Some(TcpKeepalive::default())).await.unwrap();
    assert!(SockRef::from(&tcp).keepalive().unwrap(), "with the times of the system");
}

/// Linux gives a peer up when it was silent for the user timeout, and probes it to know.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn where_no_rule_says_otherwise_a_peer_that_vanished_is_found_within_twenty_seconds() {
    let listener = listener();
    let address = Address::Ip(listener.local_addr().unwrap());
    let (tcp, _) = dial::open(&address, None).await.unwrap();
    let socket = SockRef::from(&tcp);
    assert!(socket.keepalive().unwrap());
    let idle = socket.tcp_keepalive_time().unwrap();
    let probed = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
    assert_eq!(idle + probed, Duration::from_secs(20));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(20)));
    let (tcp, _) = dial::open(&address, Some(TcpKeepalive::default())).await.unwrap();
    assert_eq!(SockRef::from(&tcp).tcp_user_timeout().unwrap(), None, "the rule says how");
}

/// Lets `checkout` dial, and does `then` with the other end before the client learns that it is connected.
async fn dialled<T: Send + 'static>(
    checkout: Pin<&mut impl Future>,
    listener: &TcpListener,
    then: fn(TcpStream) -> T,
) -> T {
    let mut checkout = checkout;
    assert!(poll_fn(|cx| Poll::Ready(checkout.as_mut().poll(cx).is_pending())).await);
    let listener = listener.try_clone().unwrap();
    // In line behind the task that dials, and before the runtime looks at the sockets again.
    tokio::spawn(async move { then(listener.accept().unwrap().0) }).await.unwrap()
}

/// Accepts only when asked, so that what the client does before and after is in the test's hand.
fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn pool(listener: &TcpListener, protocol: Protocol) -> Arc<Pool> {
    let connector = Connector {
        identity: Arc::new(IdentityStore::empty()),
        clock: Clock::start(),
        refusals: Sparing::new(Clock::start()),
        protocol,
        telemetry: Arc::new(Telemetry::new(&Settings::for_service("client"))),
        originations: Arc::default(),
    };
    let key = Key {
        cluster: "outbound|80||reviews".into(),
        address: Address::Ip(listener.local_addr().unwrap()),
        security: Security::Plaintext,
        protocol,
    };
    Arc::new(Pool::new(key, Arc::new(connector)))
}
