//! How long and how much a client may take; safe without being set.

use std::time::Duration;

/// The bounds of a server. [`crate::Server::limits`] changes them.
///
/// Every wait for a client has an end, because the usual defaults (none at all) let a handful of silent sockets hold a
/// server for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// From accepting a connection to its first byte, and from the end of the TLS handshake to the first byte of HTTP
    /// (HTTP/2: to its SETTINGS). Default 10 s: a client connects because it has something to say.
    pub first_byte: Duration,
    /// The whole TLS handshake. Default 10 s: three round trips over the worst link, and a busy peer.
    pub handshake: Duration,
    /// From the first byte of a request's head to its end (HTTP/1.1). Default 10 s: a head is one packet or two.
    pub head: Duration,
    /// Between two pieces of a request body that the handler waits for. Default 30 s. gRPC streams are exempt: silence
    /// is part of their life, and HTTP/2 pings find the dead among them.
    pub body_gap: Duration,
    /// How long a client may take nothing of what is sent to it: no byte of the connection, or on HTTP/2 no window for
    /// the stream. Default 30 s.
    pub write_stall: Duration,
    /// How long a connection without a request in flight is kept. Default 1 h, Envoy's; callers' pools close earlier.
    pub idle: Duration,
    /// Silence after which an HTTP/2 peer is pinged, and then the time it has to answer. Default 10 s: a peer that
    /// vanished is found within 20 s.
    pub ping: Duration,
    /// Connections at one time; those above it are closed at once. Default 10,000, which is about 300 MiB of TLS
    /// connections. A process with fewer file descriptors than that stops accepting when they run out.
    pub connections_max: usize,
    /// Connections of one peer (an IPv4 address, or a network of IPv6 with a prefix of 64 bits) at one time; those above it
    /// are closed at once. Default 5,000, half of all: one peer never locks the others out, and a gateway that stands
    /// before everybody is not bounded by what one client would need.
    pub connections_per_peer_max: usize,
    /// Connections that have not sent a byte yet, at one time; above it, the longest silent one makes room. Default
    /// 4,096.
    pub silent_max: usize,
    /// TLS handshakes at one time; above it, one that has taken longer than [`Limits::handshake_patience`] makes room,
    /// and if there is none the new one is closed at once. Default 512, which is about half a second of work for one
    /// core: what waits longer in that queue has been given up by its caller.
    pub handshakes_max: usize,
    /// The age from which a handshake may be ended to make room for another one. Default 1 s.
    pub handshake_patience: Duration,
    /// Bytes of a request's head. Default 60 KiB, Envoy's; above it the answer is 431.
    pub head_bytes_max: usize,
    /// Header fields of a request. Default 100, Envoy's; above it the answer is 431.
    pub headers_max: usize,
    /// Requests in flight on one HTTP/2 connection. Default 256: callers open a second connection before that.
    pub streams_max: u32,
    /// From the shutdown signal (or from the withdrawal of the registration, if that takes longer) to the last
    /// connection accepted. Default 1 s: time in which callers learn that this endpoint leaves.
    pub drain_delay: Duration,
    /// How long requests in flight may take to finish when a connection must end. Default 15 s; with
    /// [`Limits::drain_delay`] and the withdrawal a server is gone 18 s after the signal, before Kubernetes kills it.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body_gap: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            idle: Duration::from_secs(3600),
            ping: Duration::from_secs(10),
            connections_max: 10_000,
            connections_per_peer_max: 5_000,
            silent_max: 4_096,
            handshakes_max: 512,
            handshake_patience: Duration::from_secs(1),
            head_bytes_max: 60 * 1024,
            headers_max: 100,
            streams_max: 256,
            drain_delay: Duration::from_secs(1),
            drain: Duration::from_secs(15),
        }
    }
}
