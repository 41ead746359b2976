//! One connection's requests: the steps, then the handler, or an answer in its place.
//!
//! hyper calls this; a request whose caller goes away is dropped by hyper, and everything here with it.

use crate::{
    activity::Activity,
    answer::{AnswerBody, Answered, Ending, Overdue},
    authorize::{Authorize, Calls},
    body::RequestBody,
    connection::{Ends, Manners, Shared},
    context::{ReadContext, Scoped},
    edge::Arrive,
    handler::{Call, Handler},
    hygiene::StripSpoofable,
    normalise::NormaliseInForce,
    overload::{Entered, RateLimiter, Waiting},
    peer::{Identify, Peer},
    provenance,
    reply::Reply,
    stall,
    step::Step,
};
use http::{Request, Response, Version, request::Parts};
use mesh_core::{grpc::is_grpc, identity::Admitted};
use mesh_runtime::Context;
use pin_project_lite::pin_project;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

/// The steps before the handler, in their order. The deadline is read before its header may be stripped, and policy
/// judges what is left: the handler's very bytes. What policy forbids uses up nobody's rate.
type Steps =
    (Identify, HeadersMax, NormaliseInForce, ReadContext, StripSpoofable, Arrive, Authorize, RateLimiter);

/// A handler behind the steps, for the requests of one admitted connection.
#[derive(Clone)]
pub(crate) struct Inbound<H> {
    handler: H,
    steps: Steps,
    shared: Arc<Shared>,
    activity: Arc<Activity>,
}

impl<H> Inbound<H> {
    /// Takes the proof that the peer may be served: without it no request is ever read.
    pub(crate) fn new(
        handler: H,
        admitted: &Admitted,
        ends: Ends,
        shared: Arc<Shared>,
        activity: Arc<Activity>,
    ) -> Self {
        let Ends { address, destination, sni, caller, certificate, door } = ends;
        let Manners { normalise, trusted_hops, .. } = shared.manners.clone();
        let peer = admitted.peer().map(|id| Peer::new(id.clone(), address));
        let config = Arc::clone(shared.workload.config());
        let edge_config = Arc::clone(&config);
        let authorize = Authorize::new(Arc::clone(&config), Some(address), shared.port);
        let steps = (
            Identify(peer),
            HeadersMax(shared.limits.headers_max),
            NormaliseInForce { own: normalise, config },
            ReadContext::new(shared.workload.clock()),
            StripSpoofable::new(trusted_hops.clone()).naming(certificate),
            Arrive { door, remote: address.ip(), trusted: trusted_hops.includes(None), config: edge_config },
            authorize
                .reached_at(destination, sni)
                .clock(shared.workload.identity().clock().clone())
                .recorded(Arc::clone(&shared.record))
                .noted(Calls { callers: Arc::clone(shared.workload.callers()), caller }),
            shared.rate_limiter.clone(),
        );
        Self { handler, steps, shared, activity }
    }
}

/// Policy forbids the peer since this connection was admitted: no HTTP for it, not even a refusal.
#[derive(Debug, thiserror::Error)]
#[error("policy forbids the peer since its connection was admitted")]
pub(crate) struct Forbidden;

impl<H: Handler> hyper::service::Service<Request<hyper::body::Incoming>> for Inbound<H> {
    type Response = Response<AnswerBody<H::Body>>;
    type Error = Forbidden;
    type Future = Answer<H>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Answer<H> {
        if self.activity.is_forbidden() {
            return Answer { kind: Kind::Forbidden, ending: None };
        }
        let mut ending = Ending {
            in_flight: self.activity.on_request(),
            shared: Arc::clone(&self.shared),
            http1: request.version() < Version::HTTP_2,
            grpc: is_grpc(request.headers()),
        };
        Answer { kind: self.kind(request, &mut ending), ending: Some(ending) }
    }
}

impl<H: Handler> Inbound<H> {
    fn kind(&self, request: Request<hyper::body::Incoming>, ending: &mut Ending) -> Kind<H> {
        let (mut head, body) = request.into_parts();
        if let Some(keys) = self.shared.workload.config().keys_awaited(&head, self.shared.port) {
            let later = Later { inbound: self.clone(), request: Request::from_parts(head, body) };
            return Kind::Awaiting { keys: Box::pin(keys), later: Some(Box::new(later)) };
        }
        if let Err(reply) = self.steps.on_request(&mut head) {
            return Kind::Reply { reply };
        }
        let context = head.extensions.get::<Context>().cloned().unwrap_or_default();
        let waiting = match self.shared.limiter.enter(context.deadline()) {
            Entered::Admitted(permit) => {
                ending.in_flight.on_place(permit);
                None
            }
            Entered::Waiting(waiting) => Some(waiting),
            Entered::Refused => return Kind::Reply { reply: Reply::Overloaded },
        };
        let overdue = Overdue::new(&context, self.shared.workload.clock());
        let body = RequestBody::new(body, (!ending.grpc).then_some(self.shared.limits.body_gap));
        let call = Call::new(self.handler.clone(), Request::from_parts(head, body));
        Kind::Handler {
            waiting,
            call: Scoped::new(call, context),
            overdue,
            verified: self.steps.0.0.is_some(),
        }
    }
}

/// The step that answers 431 to a head of very many fields.
///
/// HTTP/1.1 is bounded by hyper already; on HTTP/2 thousands of tiny fields fit the bytes allowed.
// spec: CVE-2019-15226
#[derive(Clone, Copy, Debug)]
struct HeadersMax(usize);

impl Step for HeadersMax {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        if head.headers.len() > self.0 { Err(Reply::TooManyHeaders) } else { Ok(()) }
    }
}

pin_project! {
    /// The answer to a request: the handler's, or the mesh's in its place.
    pub(crate) struct Answer<H: Handler> {
        #[pin]
        kind: Kind<H>,
        ending: Option<Ending>,
    }
}

pin_project! {
    #[project = KindProjected]
    enum Kind<H: Handler> {
        Forbidden,
        /// The keys of its token are being fetched for the first time.
        Awaiting { keys: Pin<Box<dyn Future<Output = ()> + Send>>, later: Option<Box<Later<H>>> },
        Reply { reply: Reply },
        Handler { waiting: Option<Waiting>, #[pin] call: Scoped<Call<H>>, overdue: Overdue, verified: bool },
    }
}

impl<H: Handler> Future for Answer<H> {
    type Output = Result<Response<AnswerBody<H::Body>>, Forbidden>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        ready!(poll_keys(this.kind.as_mut(), this.ending, cx));
        let answer = match this.kind.project() {
            KindProjected::Forbidden => return Poll::Ready(Err(Forbidden)),
            // `poll_keys` has left nothing to wait for.
            KindProjected::Awaiting { .. } => return Poll::Pending,
            KindProjected::Reply { reply } => Err(reply.clone()),
            KindProjected::Handler { waiting, call, overdue, verified } => {
                let polled = match ready!(poll_place(waiting, this.ending, cx)) {
                    Ok(()) => poll_handler(call, overdue, *verified, cx),
                    Err(reply) => Poll::Ready(Err(reply)),
                };
                stall::note(&polled);
                ready!(polled)
            }
        };
        // hyper polls no future again that was ready.
        let Some(ending) = this.ending.take() else { return Poll::Pending };
        Poll::Ready(Ok(ending.begin(answer)))
    }
}

/// A request that is judged later.
struct Later<H> {
    inbound: Inbound<H>,
    request: Request<hyper::body::Incoming>,
}

/// Waits until there is an answer about the keys of this request's token, if it must, and judges it then.
fn poll_keys<H: Handler>(
    mut kind: Pin<&mut Kind<H>>,
    ending: &mut Option<Ending>,
    cx: &mut task::Context<'_>,
) -> Poll<()> {
    while let KindProjected::Awaiting { keys, later } = kind.as_mut().project() {
        ready!(keys.as_mut().poll(cx));
        let (Some(later), Some(ending)) = (later.take(), ending.as_mut()) else { return Poll::Pending };
        let Later { inbound, request } = *later;
        // It was let in before policy changed, but nobody has begun to work on it.
        let judged =
            if inbound.activity.is_forbidden() { Kind::Forbidden } else { inbound.kind(request, ending) };
        kind.set(judged);
    }
    Poll::Ready(())
}

/// Waits for a place, if this request must.
fn poll_place(
    waiting: &mut Option<Waiting>,
    ending: &mut Option<Ending>,
    cx: &mut task::Context<'_>,
) -> Poll<Result<(), Reply>> {
    let Some(wait) = waiting else { return Poll::Ready(Ok(())) };
    let place = ready!(wait.poll(cx));
    *waiting = None;
    match (place, ending) {
        (Ok(permit), Some(ending)) => {
            ending.in_flight.on_place(permit);
            Poll::Ready(Ok(()))
        }
        _ => Poll::Ready(Err(Reply::Overloaded)),
    }
}

/// Polls the handler; the mesh answers for it if it panics or is overdue.
fn poll_handler<H: Handler>(
    mut call: Pin<&mut Scoped<Call<H>>>,
    overdue: &mut Overdue,
    verified: bool,
    cx: &mut task::Context<'_>,
) -> Poll<Answered<H::Body>> {
    // After a panic the call is not polled again, only dropped: nothing of it is seen half changed.
    match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(Poll::Ready(mut response)) => {
            provenance::tell(&mut response, call.provenance(), verified);
            let context = call.context().clone();
            Poll::Ready(Ok((response.map(|body| Scoped::new(body, context)), std::mem::take(overdue))))
        }
        Ok(Poll::Pending) => overdue.poll(cx).map(|()| Err(Reply::DeadlinePassed)),
        Err(panic) => {
            let panic = panic_text(&*panic);
            tracing::error!(panic, "a handler panicked; its caller gets a 500");
            Poll::Ready(Err(Reply::Panicked))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}
