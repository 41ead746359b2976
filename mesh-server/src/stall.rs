//! Ends HTTP/2 streams whose client takes nothing of what is sent to it.
//!
//! hyper runs every stream as a task of its own and lets a response wait for the client's window without end; a client
//! that opens streams and never grants a window would hold their bodies for ever. HTTP/1.1 needs none of this: there
//! the socket itself stalls, see [`crate::stream`].
//!
//! hyper also takes whatever piece of a body it is given once there is window for its first byte. So it is given small
//! [`Pieces`]: what a stalled client can make the connection hold is [`PIECE_MAX`] a stream, until the connection ends.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Sleep;

/// What the stream that is being polled on this thread did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing yet in this poll.
    Nothing,
    /// Asked the handler and got nothing: the handler's turn.
    Asked,
    /// Got a piece of the response from the handler: if the poll ends now, it is the client's turn.
    Got,
}

thread_local! {
    static LAST: Cell<Last> = const { Cell::new(Last::Nothing) };
}

/// Notes, from inside the handler's future or body, whether it had something to give.
pub(crate) fn note<T>(polled: &Poll<T>) {
    LAST.set(if polled.is_ready() { Last::Got } else { Last::Asked });
}

/// Spawns the streams of an HTTP/2 connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams {
    /// How long a client may take nothing.
    pub(crate) write_stall: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Unstalled { stream, limit: self.write_stall, stalled: None });
    }
}

pin_project! {
    /// A stream that is dropped, and so reset, when its client has taken nothing for too long.
    struct Unstalled<F> {
        #[pin]
        stream: F,
        limit: Duration,
        stalled: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Unstalled<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        LAST.set(Last::Nothing);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match LAST.get() {
            Last::Asked => *this.stalled = None,
            Last::Got => *this.stalled = Some(Box::pin(tokio::time::sleep(*this.limit))),
            Last::Nothing => {}
        }
        this.stalled.as_mut().map_or(Poll::Pending, |stalled| stalled.as_mut().poll(cx))
    }
}

/// One frame of HTTP/2 at the size every client accepts: larger pieces would be cut there anyway.
const PIECE_MAX: usize = 16 * 1024;

pin_project! {
    /// A body that gives itself away in pieces, without a copy.
    #[derive(Debug)]
    pub(crate) struct Pieces<B> {
        #[pin]
        body: B,
        piece_max: usize,
        // What the body gave and nobody has taken yet.
        rest: Bytes,
    }
}

impl<B> Pieces<B> {
    /// Returns `body` in pieces if it goes over HTTP/2, else as it is.
    pub(crate) fn new(body: B, http2: bool) -> Self {
        Self { body, piece_max: if http2 { PIECE_MAX } else { usize::MAX }, rest: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes>> Body for Pieces<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if this.rest.is_empty() {
            match ready!(this.body.poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => *this.rest = data,
                Some(Err(other)) => return Poll::Ready(Some(Ok(other))),
                None => return Poll::Ready(None),
            }
        }
        let piece_len = this.rest.len().min(*this.piece_max);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(piece_len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn a_body_in_pieces_is_the_same_body_and_knows_its_length() {
        for len in [0, 1, PIECE_MAX, PIECE_MAX + 1, 5 * PIECE_MAX] {
            let whole: Bytes = (0..len).map(|n| n as u8).collect();
            let mut body = Pieces::new(Full::new(whole.clone()), true);
            let mut got = Vec::new();
            while !body.is_end_stream() {
                assert_eq!(body.size_hint().exact(), Some((len - got.len()) as u64));
                let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE_MAX);
                got.extend_from_slice(&piece);
            }
            assert_eq!(got, whole);
        }
    }
}
