//! A SPIFFE Workload API in this process, that says whatever it is told to, the wrong things too.

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};
use tokio::{
    net::UnixListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// An agent that listens until it is stopped or dropped.
pub(crate) struct Agent {
    says: watch::Sender<Says>,
    calls: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

/// What every call is told, and is told again when it changes.
#[derive(Clone)]
pub(crate) enum Says {
    Nothing,
    Answer(Answer),
    Denied,
    /// Ends the call in good order.
    Bye,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(message, repeated, tag = "1")]
    pub(crate) svids: Vec<Entry>,
    #[prost(map = "string, bytes", tag = "3")]
    pub(crate) federated: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) chain: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(crate) hint: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ask {}

/// Returns the answer with these SVIDs.
pub(crate) fn answer(svids: impl IntoIterator<Item = Entry>) -> Answer {
    Answer { svids: svids.into_iter().collect(), federated: HashMap::new() }
}

impl Agent {
    pub(crate) fn start(socket: &Path, says: impl Into<Says>) -> Self {
        // What an agent that was killed leaves behind.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (says, calls) = (watch::channel(says.into()).0, Arc::default());
        let listening = tokio::spawn(listen(listener, says.clone(), Arc::clone(&calls)));
        Self { says, calls, listening }
    }

    pub(crate) fn say(&self, says: impl Into<Says>) {
        self.says.send_replace(says.into());
    }

    /// Returns how many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    /// Returns when the connections are gone, too.
    pub(crate) async fn stop(mut self) {
        self.listening.abort();
        let _ = (&mut self.listening).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl From<Answer> for Says {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

async fn listen(listener: UnixListener, says: watch::Sender<Says>, calls: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (says, calls) = (says.clone(), Arc::clone(&calls));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let fetch = Fetch { says: says.subscribe(), calls: Arc::clone(&calls) };
            async move {
                assert_eq!(request.uri().path(), "/SpiffeWorkloadAPI/FetchX509SVID");
                let mut grpc = tonic::server::Grpc::new(ProstCodec::<Answer, Ask>::default());
                Ok::<_, Infallible>(grpc.server_streaming(fetch, request).await)
            }
        });
        connections.spawn(async move {
            let http = http2::Builder::new(TokioExecutor::new());
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Fetch {
    says: watch::Receiver<Says>,
    calls: Arc<AtomicUsize>,
}

impl tower_service::Service<Request<Ask>> for Fetch {
    type Response = Response<BoxStream<'static, Result<Answer, Status>>>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Ask>) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        if request.metadata().get("workload.spiffe.io").is_none_or(|value| value != "true") {
            return ready(Err(Status::invalid_argument("security header missing from request")));
        }
        let mut says = self.says.clone();
        says.mark_changed();
        ready(Ok(Response::new(unfold(Some(says), next).boxed())))
    }
}

async fn next(
    says: Option<watch::Receiver<Says>>,
) -> Option<(Result<Answer, Status>, Option<watch::Receiver<Says>>)> {
    let mut says = says?;
    loop {
        says.changed().await.ok()?;
        let said = says.borrow_and_update().clone();
        match said {
            Says::Nothing => {}
            Says::Answer(answer) => return Some((Ok(answer), Some(says))),
            Says::Denied => return Some((Err(Status::permission_denied("no identity issued")), None)),
            Says::Bye => return None,
        }
    }
}
