//! The service itself: a shelf that several servers sell from. Nothing here knows of the mesh.

use crate::warehouse::{Item, Stock};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

/// What one server sells. Clones, and servers of other names, share what is left.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    server: String,
    left: watch::Sender<u32>,
    refusals: Arc<AtomicU32>,
}

type Answer<T> = Ready<Result<Response<T>, Status>>;
type Stocks = BoxStream<'static, Result<Stock, Status>>;

impl Shelf {
    /// Returns a shelf with `pieces` on it.
    pub(crate) fn with(pieces: u32) -> Self {
        Self { server: String::new(), left: watch::channel(pieces).0, refusals: Arc::default() }
    }

    /// Returns the same shelf as the server `name` sells it.
    pub(crate) fn of_server(&self, name: &str) -> Self {
        Self { server: name.to_owned(), ..self.clone() }
    }

    /// Takes `pieces` away, or all there are.
    pub(crate) fn take(&self, pieces: u32) {
        self.left.send_modify(|left| *left = left.saturating_sub(pieces));
    }

    /// Refuses the next `calls` to count, because the servers are busy.
    pub(crate) fn refuse(&self, calls: u32) {
        self.refusals.store(calls, SeqCst);
    }

    /// Ends when nobody watches any more.
    pub(crate) async fn is_left_alone(&self) {
        self.left.closed().await;
    }

    pub(crate) fn count(&self, request: Request<Item>) -> Answer<Stock> {
        let refused = self.refusals.fetch_update(SeqCst, SeqCst, |calls| calls.checked_sub(1)).is_ok();
        ready(if refused {
            Err(Status::resource_exhausted("somebody else is counting"))
        } else {
            Ok(Response::new(self.stock(attempt(&request))))
        })
    }

    pub(crate) fn watch(&self, request: Request<Item>) -> Answer<Stocks> {
        let (shelf, attempt) = (self.clone(), attempt(&request));
        let mut changes = self.left.subscribe();
        // What there is now is the first change.
        changes.mark_changed();
        let stocks = unfold((changes, false), move |(mut changes, sold_out)| {
            let shelf = shelf.clone();
            async move {
                if sold_out || changes.changed().await.is_err() {
                    return None;
                }
                let left = *changes.borrow_and_update();
                Some((Ok(Stock { left, ..shelf.stock(attempt) }), (changes, left == 0)))
            }
        });
        ready(Ok(Response::new(stocks.boxed())))
    }

    pub(crate) fn pack(&self, request: Request<Streaming<Item>>) -> Answer<Stocks> {
        let (shelf, attempt) = (self.clone(), attempt(&request));
        let stocks = request.into_inner().map(move |item| {
            shelf.take(item?.pieces);
            Ok(shelf.stock(attempt))
        });
        ready(Ok(Response::new(stocks.boxed())))
    }

    fn stock(&self, attempt: u32) -> Stock {
        Stock { left: *self.left.borrow(), server: self.server.clone(), attempt }
    }
}

/// Returns which attempt of its call this is; the mesh tells every server.
fn attempt<T>(request: &Request<T>) -> u32 {
    let told = request.metadata().get("x-envoy-attempt-count").and_then(|value| value.to_str().ok());
    told.and_then(|count| count.parse().ok()).unwrap_or_default()
}
