//! Mirroring of requests to any service.

use super::{Answer, AnswerBody, Below};
use crate::{
    Error, RequestBody,
    body::{BoxError, tee},
    mirror::{TIMEOUT, UNDER_WAY_MAX, discard},
    step::Step as _,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::route::Chance;
use mesh_runtime::ThreadDice;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{sync::Semaphore, time::timeout};
use tower_layer::Layer;
use tower_service::Service;

/// Sends copies of requests to a second service too, and throws its answers away. No call waits for a copy; one is given
/// up after 15 s, and none is made while 1,024 are under way.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use mesh_client::{RequestBody, layer::MirrorLayer};
/// use mesh_core::route::Chance;
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (seen, mut copies) = tokio::sync::mpsc::unbounded_channel();
/// let canary = service_fn(move |request: Request<RequestBody>| {
///     let seen = seen.clone();
///     async move {
///         let body = request.into_body().collect().await.unwrap().to_bytes();
///         seen.send(body).unwrap();
///         Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from("thrown away"))))
///     }
/// });
/// let service = service_fn(|request: Request<RequestBody>| async move {
///     Ok::<_, Infallible>(Response::new(request.into_body()))
/// });
/// let service = MirrorLayer::new(canary, Chance::ALWAYS).layer(service);
/// let answer = service.oneshot(Request::new(Full::new(bytes::Bytes::from("order 7")))).await.unwrap();
/// assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "order 7");
/// assert_eq!(copies.recv().await.unwrap(), "order 7");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MirrorLayer<M> {
    mirror: M,
    chance: Chance,
    room: Arc<Semaphore>,
}

/// The service of [`MirrorLayer`].
#[derive(Clone, Debug)]
pub struct MirrorService<S, M> {
    inner: Below<S>,
    mirror: Below<M>,
    chance: Chance,
    room: Arc<Semaphore>,
}

impl<M> MirrorLayer<M> {
    /// Returns a layer that sends copies to `mirror`, as often as `chance` says.
    pub fn new(mirror: M, chance: Chance) -> Self {
        Self { mirror, chance, room: Arc::new(Semaphore::new(UNDER_WAY_MAX)) }
    }
}

impl<S, M: Clone> Layer<S> for MirrorLayer<M> {
    type Service = MirrorService<S, M>;

    fn layer(&self, inner: S) -> MirrorService<S, M> {
        let Self { mirror, chance, room } = self.clone();
        MirrorService { inner: Below(inner), mirror: Below(mirror), chance, room }
    }
}

impl<S, M, B, R, Q> Service<Request<B>> for MirrorService<S, M>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    M: Service<Request<RequestBody>, Response = Response<Q>> + Clone + Send + Sync + 'static,
    M::Future: Send,
    M::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    Q: Body<Data = Bytes> + Send + 'static,
    Q::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody<R>>;
    type Error = Error;
    type Future = Answer<AnswerBody<R>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, mirror, chance, room } = self.clone();
        let request = request.map(RequestBody::new);
        Answer(Box::pin(async move {
            let (head, body) = request.into_parts();
            let room = if chance.happens(&mut ThreadDice) { room.try_acquire_owned().ok() } else { None };
            let (body, mut copies) = tee(body, usize::from(room.is_some()));
            if let Some(copy) = copies.pop() {
                let copy = Request::from_parts(head.clone(), copy);
                let carry = async move {
                    if let Ok(answer) = mirror.run(copy, ()).await {
                        discard(answer.into_body()).await;
                    }
                    drop(room);
                };
                tokio::spawn(timeout(TIMEOUT, carry));
            }
            inner.run(Request::from_parts(head, body), ()).await
        }))
    }
}
