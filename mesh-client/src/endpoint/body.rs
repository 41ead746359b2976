//! The body of an answer, which gives the connection back when it ends.

use super::failure::error_of;
use crate::{Error, pool::Lease};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use mesh_core::health::InFlight;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The body of an answer, and the connection it comes from.
#[derive(Debug)]
pub(crate) struct EndpointBody {
    body: Incoming,
    held: Option<Holding>,
}

/// Dropped in this order when the body ends.
#[derive(Debug)]
struct Holding {
    in_flight: Option<InFlight>,
    lease: Lease,
    had_body: bool,
}

impl EndpointBody {
    pub(super) fn new(body: Incoming, lease: Lease, had_body: bool) -> Self {
        let mut this = Self { body, held: Some(Holding { in_flight: None, lease, had_body }) };
        if this.body.is_end_stream() {
            this.on_end();
        }
        this
    }

    /// Counts the request as in flight for as long as the body lasts.
    pub(super) fn counted(mut self, in_flight: Option<InFlight>) -> Self {
        if let Some(held) = &mut self.held {
            held.in_flight = in_flight;
        }
        self
    }

    fn on_end(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.lease.on_end(!held.had_body);
        }
    }

    fn on_error(&mut self, error: hyper::Error) -> Error {
        let held = self.held.take();
        let error = error_of(held.as_ref().and_then(|held| held.lease.label()), error);
        error.after_sending(true, false)
    }
}

impl Body for EndpointBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Err(error)) => Some(Err(self.on_error(error))),
            Some(Ok(frame)) => {
                if self.body.is_end_stream() {
                    self.on_end();
                }
                Some(Ok(frame))
            }
            None => {
                self.on_end();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
