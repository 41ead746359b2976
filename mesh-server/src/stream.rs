//! The bytes of an admitted connection, with an end to every wait for its client.
//!
//! The wait for the handler is not among them, nor the pause between two requests: that is
//! [`crate::connection`]'s, which can end it with a GOAWAY.

use crate::{activity::Activity, limits::Limits, sniff::Opened};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

/// A connection, with or without TLS.
#[derive(Debug)]
pub(crate) enum Transport {
    /// No TLS; the bytes that were read to find that out come first.
    Plain(Opened),
    /// TLS. Boxed: it is two kilobytes, and every future around it would carry them.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A [`Transport`] that gives up a client that lets it wait.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: Transport,
    activity: Arc<Activity>,
    first_byte: Duration,
    /// Bound of a request's head; `None` on HTTP/2, which has no such phase.
    head: Option<Duration>,
    write_stall: Duration,
    reading: Reading,
    stalled: Option<Pin<Box<Sleep>>>,
}

/// What the next byte of the client is waited for.
//  Opening --bytes--> Head --request--> Between --bytes--> Head ...
#[derive(Debug)]
enum Reading {
    /// This many bytes, the first of all.
    Opening(usize, Option<Pin<Box<Sleep>>>),
    /// The rest of a head that began when this many requests had been served.
    Head(u64, Option<Pin<Box<Sleep>>>),
    /// The first byte of the next head, or a body.
    Between,
}

/// The preface of HTTP/2 and the head of the SETTINGS frame that must follow it.
// spec: RFC 9113 3.4
const HTTP2_OPENING: usize = 24 + 9;

impl Stream {
    pub(crate) fn new(transport: Transport, http2: bool, activity: Arc<Activity>, limits: &Limits) -> Self {
        Self {
            transport,
            activity,
            first_byte: limits.first_byte,
            head: (!http2).then_some(limits.head),
            write_stall: limits.write_stall,
            reading: Reading::Opening(if http2 { HTTP2_OPENING } else { 1 }, None),
            stalled: None,
        }
    }

    fn on_bytes(&mut self, count: usize) {
        let started = self.activity.started();
        self.reading = match std::mem::replace(&mut self.reading, Reading::Between) {
            Reading::Opening(missing, timer) if count < missing => Reading::Opening(missing - count, timer),
            Reading::Head(at, timer) if at == started => Reading::Head(at, timer),
            _ if self.head.is_some() && !self.activity.is_busy() => Reading::Head(started, None),
            _ => Reading::Between,
        };
    }

    /// Returns the error of a client that has used up its time.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let started = self.activity.started();
        let (timer, limit, awaited) = match (&mut self.reading, self.head) {
            (Reading::Opening(_, timer), _) => (timer, self.first_byte, "no request came"),
            (Reading::Head(at, timer), Some(head)) if *at == started => (timer, head, "its head did not end"),
            _ => return Poll::Pending,
        };
        ready!(timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, format!("{awaited} within {limit:?}")))
    }

    /// Passes on what a write came to, unless the client has taken nothing for too long.
    fn watched<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.write_stall;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx));
        let error = format!("the client took nothing for {limit:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)))
    }
}

macro_rules! on_transport {
    ($self:expr, $stream:ident => $call:expr) => {
        match &mut $self.transport {
            Transport::Plain($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match on_transport!(self, stream => Pin::new(stream).poll_read(cx, buffer)) {
            Poll::Ready(read) => {
                let count = buffer.filled().len() - before;
                if count > 0 {
                    self.on_bytes(count);
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_overdue(cx).map(Err),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = on_transport!(self, stream => Pin::new(stream).poll_write(cx, bytes));
        self.watched(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_transport!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices));
        self.watched(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on_transport!(self, stream => Pin::new(stream).poll_flush(cx));
        self.watched(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = on_transport!(self, stream => Pin::new(stream).poll_shutdown(cx));
        self.watched(shut, cx)
    }
}
