//! Fault injection on any service.

use super::{Answer, AnswerBody, Below};
use crate::{Error, RequestBody, body::BoxError, fault, step::Step as _};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_core::route::Fault;
use mesh_runtime::ThreadDice;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Delays calls, or answers them itself, as often as a [`Fault`] says.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use http_body_util::Full;
/// use mesh_client::{RequestBody, layer::FaultLayer};
/// use mesh_core::route::{Abort, AbortAnswer, Chance, Fault};
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let service = service_fn(|_: Request<RequestBody>| async {
///     Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::new())))
/// });
/// let answer = AbortAnswer::Status(StatusCode::IM_A_TEAPOT);
/// let fault = Fault { delay: None, abort: Some(Abort { chance: Chance::ALWAYS, answer }) };
/// let error = FaultLayer::new(fault).layer(service).oneshot(Request::new(RequestBody::empty())).await.unwrap_err();
/// assert_eq!(error.into_response().status(), 418);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FaultLayer {
    fault: Fault,
}

/// The service of [`FaultLayer`].
#[derive(Clone, Debug)]
pub struct FaultService<S> {
    inner: Below<S>,
    fault: Fault,
}

impl FaultLayer {
    /// Returns a layer that injects `fault`.
    pub const fn new(fault: Fault) -> Self {
        Self { fault }
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService { inner: Below(inner), fault: self.fault.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for FaultService<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody<R>>;
    type Error = Error;
    type Future = Answer<AnswerBody<R>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, fault } = self.clone();
        let request = request.map(RequestBody::new);
        Answer(Box::pin(async move {
            fault::inject(&fault, None, &mut ThreadDice, |_| ()).await?;
            inner.run(request, ()).await
        }))
    }
}
