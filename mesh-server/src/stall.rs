//! Ends HTTP/2 streams whose client takes nothing of what is sent to it.
//!
//! hyper runs every stream as a task of its own and lets a response wait for the client's window without end; a client
//! that opens streams and never grants a window would hold their bodies for ever. HTTP/1.1 needs none of this: there
//! the socket itself stalls, see [`crate::stream`].

use pin_project_lite::pin_project;
use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
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
