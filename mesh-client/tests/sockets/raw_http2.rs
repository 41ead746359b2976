//! A peer that speaks HTTP/2 frame by frame, for what no well-behaved server does.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One connection, from the server's side.
pub(crate) struct Frames {
    tcp: TcpStream,
}

/// A frame that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
}

impl Frames {
    /// Accepts a connection and begins to speak HTTP/2, with these settings.
    pub(crate) async fn accept(listener: &TcpListener, settings: &[(u16, u32)]) -> Self {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut this = Self { tcp };
        this.tcp.read_exact(&mut [0; PREFACE]).await.unwrap();
        this.settings(settings).await;
        this
    }

    pub(crate) async fn settings(&mut self, settings: &[(u16, u32)]) {
        let pair = |&(id, value): &(u16, u32)| id.to_be_bytes().into_iter().chain(value.to_be_bytes());
        self.send(SETTINGS, 0, 0, &settings.iter().flat_map(pair).collect::<Vec<u8>>()).await;
    }

    /// Returns the next frame of this kind; `None` if the connection ends before it.
    pub(crate) async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.tcp.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            self.tcp.read_exact(&mut vec![0; length as usize]).await.ok()?;
            if head[3] == kind {
                return Some(Frame { stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) });
            }
        }
    }

    /// Returns the stream of the next request.
    pub(crate) async fn request(&mut self) -> u32 {
        self.next(HEADERS).await.unwrap().stream
    }

    /// Answers a request with status 200 and no body.
    pub(crate) async fn answer(&mut self, stream: u32) {
        const STATUS_200: u8 = 0x88;
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &[STATUS_200]).await;
    }

    pub(crate) async fn go_away(&mut self, last: u32, reason: u32) {
        self.send(GO_AWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat()).await;
    }

    pub(crate) async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A client that is gone is what some tests are about.
        let _ = self.tcp.write_all(&frame).await;
    }
}

const PREFACE: usize = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

// spec: rfc9113 6, 7
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
