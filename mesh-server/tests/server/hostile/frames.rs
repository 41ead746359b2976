//! HTTP/2 frame by frame, as an attacker with a good certificate writes them.

use crate::support::*;
use mesh_runtime::identity::Alpn;
use std::collections::BTreeMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

// spec: RFC 9113 6
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The error of whoever is asked for too much.
// spec: RFC 9113 7
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// Returns a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the head `GET /` or `POST /` for the host `payment`, compressed.
// spec: RFC 7541 appendix A
pub(crate) fn head(post: bool) -> Vec<u8> {
    let method = if post { 0x83 } else { 0x82 };
    [&[method, 0x86, 0x84, 0x41, 7][..], b"payment"].concat()
}

/// Returns a field that is put into no table.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// What the server said to an attacker.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The error of its GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// The errors of the streams that it reset.
    pub(crate) resets: BTreeMap<u32, u32>,
    /// The first bytes of the heads of its answers, compressed.
    pub(crate) heads: BTreeMap<u32, Vec<u8>>,
    /// Whether it answered the last ping, so that the connection has survived.
    pub(crate) survived: bool,
}

impl Said {
    /// Returns whether the head of `stream` was refused: with 431, by a reset, or with the connection.
    pub(crate) fn is_refused(&self, stream: u32) -> bool {
        self.is_too_large(stream) || self.resets.contains_key(&stream) || !self.survived
    }

    /// Returns whether `stream` was answered with 431.
    fn is_too_large(&self, stream: u32) -> bool {
        // `:status` is the 8th of the static table; 431 follows in Huffman's code.
        // spec: RFC 7541 6.2.1, appendix B
        let coded = [0x48, 0x83, 0x69, 0x90, 0xff];
        self.heads.get(&stream).is_some_and(|head| head.windows(coded.len()).any(|bytes| bytes == coded))
    }
}

/// What every client of HTTP/2 begins with.
pub(crate) fn opening() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Sends `frames` after the opening of a connection, and then a ping; returns what the server said until it answered that
/// ping or closed the connection.
pub(crate) async fn attack(server: &Running, frames: impl Iterator<Item = Vec<u8>>) -> Said {
    converse(server, frames, None).await
}

/// Sends the first stream, in `frames`; returns what the server said until it had answered that, too.
pub(crate) async fn ask(server: &Running, frames: impl Iterator<Item = Vec<u8>>) -> Said {
    converse(server, frames, Some(1)).await
}

async fn converse(server: &Running, frames: impl Iterator<Item = Vec<u8>>, awaited: Option<u32>) -> Said {
    let (read, mut write) = tokio::io::split(server.mtls(Alpn::Http2).await);
    let listening = tokio::spawn(listen(read, awaited));
    let last = frame(PING, 0, 0, b"the last");
    for frame in [opening()].into_iter().chain(frames).chain([last]) {
        // A server that has had enough takes no more.
        if write.write_all(&frame).await.is_err() {
            break;
        }
    }
    let _ = write.flush().await;
    soon(listening).await.unwrap()
}

async fn listen(mut read: impl AsyncRead + Unpin, awaited: Option<u32>) -> Said {
    let mut said = Said::default();
    let mut opening = [0; 9];
    while read.read_exact(&mut opening).await.is_ok() {
        let length = u32::from_be_bytes([0, opening[0], opening[1], opening[2]]) as usize;
        let stream = u32::from_be_bytes([opening[5], opening[6], opening[7], opening[8]]);
        let mut payload = vec![0; length];
        if read.read_exact(&mut payload).await.is_err() {
            break;
        }
        match opening[3] {
            GOAWAY => said.goaway = Some(number(&payload[4..8])),
            RST_STREAM => {
                said.resets.insert(stream, number(&payload));
            }
            HEADERS => {
                said.heads.insert(stream, payload);
            }
            PING if opening[4] == ACK && payload == b"the last" => {
                said.survived = true;
            }
            _ => {}
        }
        let answered = |stream| said.heads.contains_key(stream) || said.resets.contains_key(stream);
        if said.survived && awaited.as_ref().is_none_or(answered) {
            break;
        }
    }
    said
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes[..4].try_into().unwrap())
}
