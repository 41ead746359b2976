//! What a connection speaks, told by its first bytes.
//!
//! It reads no more than it must: one byte for TLS, four for the preface of HTTP/2.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// A TLS handshake record.
    Tls,
    /// Something else.
    Plaintext,
}

/// The content type of a TLS handshake record; no HTTP begins with it.
// spec: RFC 8446 5.1
const TLS_HANDSHAKE: u8 = 0x16;

/// How the preface of HTTP/2 begins, and no HTTP/1.1 method does; the rest of the preface is for the HTTP/2 code to
/// judge.
// spec: RFC 9113 3.4
const PREFACE: &[u8; 4] = b"PRI ";

/// Waits for the first byte and leaves it where it is.
///
/// # Errors
///
/// Returns that the connection ended or broke before it.
pub(crate) async fn first(stream: &TcpStream) -> io::Result<First> {
    let mut byte = [0];
    match stream.peek(&mut byte).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if byte[0] == TLS_HANDSHAKE => Ok(First::Tls),
        _ => Ok(First::Plaintext),
    }
}

/// Returns whether a plaintext connection speaks HTTP/2 by prior knowledge, and the connection with nothing lost.
///
/// # Errors
///
/// Returns that the connection broke meanwhile.
pub(crate) async fn is_http2(mut stream: TcpStream) -> io::Result<(bool, Opened)> {
    let (mut read, mut read_len) = ([0; PREFACE.len()], 0);
    while read_len < read.len() && read[..read_len] == PREFACE[..read_len] {
        match stream.read(&mut read[read_len..]).await? {
            0 => break,
            more => read_len += more,
        }
    }
    let http2 = read_len == PREFACE.len() && read == *PREFACE;
    Ok((http2, Opened { read, unread: (0, read_len), stream }))
}

/// A connection of which the first bytes have been read and come again.
#[derive(Debug)]
pub(crate) struct Opened {
    read: [u8; PREFACE.len()],
    /// The range of `read` that is still to come.
    unread: (usize, usize),
    stream: TcpStream,
}

impl AsyncRead for Opened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (from, to) = self.unread;
        if from == to {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let taken = (to - from).min(buffer.remaining());
        buffer.put_slice(&self.read[from..from + taken]);
        self.unread.0 += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
