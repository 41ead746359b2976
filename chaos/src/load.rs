//! Requests at a given rate, and what became of each.
//!
//! The rate is the caller's: a request is sent when it is due, whether or not others are answered, and its time counts
//! from when it was due. A slow server so cannot hide behind callers that wait for it.

mod calls;

pub(crate) use calls::{Call, Calls, End, millis, percent};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use mesh::{Context, Mesh};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// What is asked for, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: Method,
    url: Uri,
    /// The deadline of the caller.
    timeout: Option<Duration>,
    /// What to keep of an answer's body.
    keep: fn(&[u8]) -> Option<String>,
}

impl Ask {
    /// Returns a GET of `url`.
    pub(crate) fn get(url: &'static str) -> Self {
        Self { method: Method::GET, url: Uri::from_static(url), timeout: None, keep: |_| None }
    }

    /// Makes it a POST.
    pub(crate) fn post(mut self) -> Self {
        self.method = Method::POST;
        self
    }

    /// Gives up after `timeout`.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Keeps what `keep` makes of an answer's body.
    pub(crate) fn keeping(mut self, keep: fn(&[u8]) -> Option<String>) -> Self {
        self.keep = keep;
        self
    }

    /// Makes one call, which is due now.
    pub(crate) async fn once(&self, caller: &Mesh) -> End {
        let deadline = self.timeout.map(|timeout| caller.workload().clock().now() + timeout);
        Context::new(deadline, None).scope(self.exchange(caller)).await
    }

    async fn exchange(&self, caller: &Mesh) -> End {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        let response = match caller.client().send(request).await {
            Ok(response) => response,
            Err(error) => return End::Error(error.into()),
        };
        let (head, body) = response.into_parts();
        let endpoint = body.call_info().endpoint.clone();
        match body.collect().await {
            Ok(body) => End::Answer { status: head.status, endpoint, kept: (self.keep)(&body.to_bytes()) },
            Err(error) => End::Error(error.into()),
        }
    }
}

/// How requests follow one another.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// So many a second, evenly.
    Even(f64),
    /// So many a second, with gaps of chance, as strangers come.
    Chance(f64, fastrand::Rng),
}

impl Pace {
    /// Returns so many a second, with gaps of chance that are the same in every run.
    pub(crate) fn of_strangers(rate: f64) -> Self {
        Self::Chance(rate, fastrand::Rng::with_seed(7))
    }

    fn gap(&mut self) -> Duration {
        let seconds = match self {
            Self::Even(rate) => 1.0 / *rate,
            Self::Chance(rate, dice) => -(1.0 - dice.f64()).ln() / *rate,
        };
        Duration::from_secs_f64(seconds)
    }
}

/// A load that goes on until it is ended.
pub(crate) struct Load {
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts asking.
    pub(crate) fn start(caller: &Mesh, ask: Ask, pace: Pace) -> Self {
        let (begun, calls, stop) =
            (Instant::now(), Arc::<Mutex<Vec<Call>>>::default(), watch::Sender::new(false));
        let offering = Offering { caller: caller.clone(), ask, begun, calls: Arc::clone(&calls) };
        let task = tokio::spawn(offering.run(pace, stop.subscribe()));
        Self { begun, calls, stop, task }
    }

    /// Returns how long it has been going on: the time that calls are marked with.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the calls that have ended since the last time.
    pub(crate) fn take(&self) -> Calls {
        Calls::of(std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Sends no more, waits for what is under way, and returns every call that was not taken.
    pub(crate) async fn end(self) -> Calls {
        self.stop.send_replace(true);
        // It ends when its calls have; one that panicked is counted there.
        let _ = self.task.await;
        Calls::of(std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

struct Offering {
    caller: Mesh,
    ask: Ask,
    begun: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Offering {
    async fn run(self, mut pace: Pace, mut stop: watch::Receiver<bool>) {
        let mut due = self.begun;
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep_until(due) => {}
            }
            while under_way.try_join_next().is_some() {}
            if under_way.len() < UNDER_WAY_MAX {
                under_way.spawn(self.call(due));
            } else {
                self.note(due, End::Unsent);
            }
            due += pace.gap();
        }
        while under_way.join_next().await.is_some() {}
    }

    fn call(&self, due: Instant) -> impl Future<Output = ()> + Send + 'static {
        let it = Self {
            caller: self.caller.clone(),
            ask: self.ask.clone(),
            begun: self.begun,
            calls: Arc::clone(&self.calls),
        };
        async move {
            let end = it.ask.once(&it.caller).await;
            it.note(due, end);
        }
    }

    fn note(&self, due: Instant, end: End) {
        let call = Call { due: due - self.begun, took: due.elapsed(), end };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// More than any experiment has under way unless nothing is answered any more.
const UNDER_WAY_MAX: usize = 10_000;
