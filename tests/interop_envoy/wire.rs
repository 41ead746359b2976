//! HTTP/1.1 byte by byte: a request goes out exactly as it is written.

use crate::harness::{PATIENCE, Reply};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// A connection on which requests follow each other.
pub(crate) struct Wire<S> {
    stream: BufReader<S>,
}

/// An answer, and whether the connection ends with it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) closes: bool,
}

impl<S: Read + Write> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends `request` and reads the answer.
    ///
    /// # Errors
    ///
    /// Returns that the connection ended first, or that what came is no HTTP.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.get_mut().write_all(request)?;
        self.stream.get_mut().flush()?;
        let Head { status, framing, closes } = self.head()?;
        let body = match framing {
            Framing::Length(length) => self.read(length)?,
            Framing::Chunks => self.chunks()?,
            Framing::Close => {
                let mut body = Vec::new();
                self.stream.read_to_end(&mut body)?;
                body
            }
        };
        let reply = Reply { status, body: String::from_utf8_lossy(&body).into_owned() };
        Ok(Answer { reply, closes })
    }

    fn head(&mut self) -> io::Result<Head> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut head = Head { status, framing: Framing::Close, closes: false };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(": ") {
                None => return Ok(head),
                Some(("content-length", length)) => {
                    head.framing = Framing::Length(length.parse().map_err(io::Error::other)?);
                }
                Some(("transfer-encoding", "chunked")) => head.framing = Framing::Chunks,
                Some(("connection", "close")) => head.closes = true,
                Some(_) => {}
            }
        }
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            body.extend(self.read(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches("\r\n").to_owned())
    }
}

struct Head {
    status: u16,
    framing: Framing,
    closes: bool,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunks,
    Close,
}

/// Sends a GET for `target` on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str) -> Reply {
    let request = format!("GET {target} HTTP/1.1\r\nhost: echo\r\n\r\n");
    let answer = connect(address).and_then(|stream| Wire::new(stream).ask(request.as_bytes()));
    answer.unwrap_or_else(|error| panic!("GET http://{address}{target}: {error}")).reply
}

/// Connects, with an end to every wait.
///
/// # Errors
///
/// Returns why there is no connection.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}
