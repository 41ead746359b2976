//! HTTP/1.1 and HTTP/2 as hyper speaks them, under our limits.

use crate::{handler::Handler, inbound::Inbound, limits::Limits, stall::Streams, stream::Stream};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::Pin;

/// A connection that hyper serves: a future that is done when the connection has ended.
pub(crate) trait Conversation: Future {
    /// Reads no further request, finishes those in flight, and ends.
    fn close(self: Pin<&mut Self>);
}

type Http1<H> = http1::UpgradeableConnection<TokioIo<Stream>, Inbound<H>>;
type Http2<H> = http2::Connection<TokioIo<Stream>, Inbound<H>, Streams>;

impl<H: Handler> Conversation for Http1<H> {
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<H: Handler> Conversation for Http2<H> {
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Returns a conversation in HTTP/1.1.
pub(crate) fn http1<H: Handler>(stream: Stream, inbound: Inbound<H>, limits: &Limits) -> Http1<H> {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // `Stream` bounds the head. hyper's own timer runs between requests too, and costs an allocation for each.
        .header_read_timeout(None)
        .max_header_size(limits.head_bytes_max)
        // Read and written in pieces of at most this; a head must fit.
        .max_buf_size(limits.head_bytes_max.max(BUFFER_BYTES))
        // A client that closes its half is gone: that is how a caller of HTTP/1.1 cancels. Envoy reads it so, too.
        .half_close(false);
    http1.serve_connection(TokioIo::new(stream), inbound).with_upgrades()
}

/// Returns a conversation in HTTP/2.
pub(crate) fn http2<H: Handler>(stream: Stream, inbound: Inbound<H>, limits: &Limits) -> Http2<H> {
    let mut http2 = http2::Builder::new(Streams { write_stall: limits.write_stall });
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER_BYTES);
    http2.serve_connection(TokioIo::new(stream), inbound)
}

/// What one connection or stream may buffer: a few TLS records of 16 KiB, twice over for what is being copied.
const BUFFER_BYTES: usize = 128 * 1024;
