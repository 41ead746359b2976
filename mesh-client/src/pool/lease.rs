//! A connection lent to one request; dropping it gives the connection back, or closes it if it is in the middle of
//! something.

use super::{One, Pool, Terms, Two};
use crate::body::RequestBody;
use http::{Request, Response};
use hyper::body::Incoming;
use std::{fmt, sync::Arc};

/// A connection lent to one request.
///
/// Unused --send--> Sending --head--> Answered --end--> given back
///
/// A lease dropped while `Sending` closes its HTTP/1.1 connection, or resets its HTTP/2 stream.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    lent: Option<Lent>,
    progress: Progress,
    requests_max: u32,
}

/// What is lent.
#[derive(Debug)]
pub(crate) enum Lent {
    One(One),
    /// A stream on a shared connection, and whether that carried a request before or was found idle.
    Two(Arc<Two>, bool),
}

impl Lent {
    /// Returns it as one that was found idle, not made for who takes it.
    pub(super) fn found(self) -> Self {
        match self {
            Self::One(one) => Self::One(One { kept: true, ..one }),
            Self::Two(two, _) => Self::Two(two, true),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unused,
    Sending,
    /// The head is there; the body, or the rest of the request, may not be.
    Answered,
    /// Nothing more will pass in either direction.
    Ended,
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was written.
    pub(crate) unsent: Option<Request<RequestBody>>,
}

impl Lease {
    pub(crate) fn new(pool: Arc<Pool>, lent: Lent, terms: &Terms) -> Self {
        Self { pool, lent: Some(lent), progress: Progress::Unused, requests_max: terms.requests_max }
    }

    /// Returns whether it was not made for this request but kept for any: then the peer may be about to close it.
    pub(crate) fn is_kept(&self) -> bool {
        match &self.lent {
            Some(Lent::One(one)) => one.kept,
            Some(Lent::Two(_, kept)) => *kept,
            None => false,
        }
    }

    /// Returns whether it speaks HTTP/2.
    pub(crate) fn is_h2(&self) -> bool {
        matches!(self.lent, Some(Lent::Two(..)))
    }

    /// Returns the address at the other end.
    pub(crate) fn label(&self) -> Option<&Arc<str>> {
        match &self.lent {
            Some(Lent::One(one)) => Some(&one.meta.label),
            Some(Lent::Two(two, _)) => Some(&two.meta.label),
            None => None,
        }
    }

    /// Waits until the connection has come to the end of its last request, which is a matter of the next poll of its
    /// task. Returns whether it can be used.
    pub(crate) async fn is_ready(&mut self) -> bool {
        match &mut self.lent {
            Some(Lent::One(one)) => one.sender.ready().await.is_ok(),
            Some(Lent::Two(..)) => true,
            None => false,
        }
    }

    /// Sends `request` and returns the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Refused> {
        self.progress = Progress::Sending;
        let answer = match &mut self.lent {
            Some(Lent::One(one)) => {
                one.requests = one.requests.saturating_add(1);
                one.sender.try_send_request(request).await
            }
            Some(Lent::Two(two, _)) => two.sender().try_send_request(request).await,
            // Only a drop empties a lease.
            None => std::future::pending().await,
        };
        match answer {
            Ok(response) => {
                self.progress = Progress::Answered;
                Ok(response)
            }
            Err(mut failed) => {
                let unsent = failed.take_message();
                Err(Refused { error: failed.into_error(), unsent })
            }
        }
    }

    /// The answer has been read to its end, and so was the request if `upload_ended`.
    pub(crate) fn on_end(&mut self, upload_ended: bool) {
        if upload_ended {
            self.progress = Progress::Ended;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.lent.take() {
            Some(Lent::Two(two, _)) => self.pool.on_stream_end(&two),
            Some(Lent::One(one)) => give_back(&self.pool, one, self.progress, self.requests_max),
            None => {}
        }
    }
}

fn give_back(pool: &Arc<Pool>, mut one: One, progress: Progress, requests_max: u32) {
    if requests_max != 0 && one.requests >= requests_max {
        return;
    }
    match progress {
        Progress::Unused | Progress::Ended => pool.give_back(one),
        // hyper closes the connection.
        Progress::Sending => {}
        Progress::Answered if one.sender.is_ready() => pool.give_back(one),
        Progress::Answered => {
            // hyper reads the rest if it is there already, or closes. Somebody has to wait for which.
            let pool = Arc::downgrade(pool);
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    if one.sender.ready().await.is_ok()
                        && let Some(pool) = pool.upgrade()
                    {
                        pool.give_back(one);
                    }
                });
            }
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("lent", &self.lent)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}
