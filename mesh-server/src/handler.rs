//! The user's service: any clonable Tower service that cannot fail, under one short name.

use crate::body::RequestBody;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// What `serve` takes; implemented for every service that fits, and for nothing else.
pub(crate) trait Handler: Clone + Send + 'static {
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static;
    type Future: Future<Output = Result<Response<Self::Body>, Infallible>> + Send + 'static;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    fn call(&mut self, request: Request<RequestBody>) -> Self::Future;
}

impl<S, B> Handler for S
where
    S: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Body = B;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Service::poll_ready(self, cx).map(|Ok(())| ())
    }

    fn call(&mut self, request: Request<RequestBody>) -> S::Future {
        Service::call(self, request)
    }
}

pin_project! {
    /// One call of a handler: waits until it is ready, then for its answer.
    #[project = CallProjected]
    pub(crate) enum Call<H: Handler> {
        Readying { handler: H, request: Option<Request<RequestBody>> },
        Handling { #[pin] future: H::Future },
    }
}

impl<H: Handler> Call<H> {
    pub(crate) fn new(handler: H, request: Request<RequestBody>) -> Self {
        Self::Readying { handler, request: Some(request) }
    }
}

impl<H: Handler> Future for Call<H> {
    type Output = Response<H::Body>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<H::Body>> {
        loop {
            match self.as_mut().project() {
                CallProjected::Readying { handler, request } => {
                    ready!(handler.poll_ready(cx));
                    let Some(request) = request.take() else { return Poll::Pending };
                    let future = handler.call(request);
                    self.set(Self::Handling { future });
                }
                CallProjected::Handling { future } => return future.poll(cx).map(|Ok(response)| response),
            }
        }
    }
}
