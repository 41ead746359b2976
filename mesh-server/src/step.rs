//! The way of a request to its handler, in steps: each looks at the head, changes it, or answers in the handler's place.
//!
//! The server walks them in the order of its tuple; each is also a Tower layer of its own through [`StepLayer`].

use crate::reply::{Reply, ReplyOr};
use http::{Request, Response, request::Parts};
use mesh_core::grpc::is_grpc;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// One step before the handler.
pub trait Step {
    /// Looks at the head of a request, and may change it.
    ///
    /// # Errors
    ///
    /// Returns the answer to give in the handler's place.
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply>;
}

macro_rules! steps_in_order {
    ($($step:ident)+) => {
        impl<$($step: Step),+> Step for ($($step,)+) {
            fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
                #[allow(non_snake_case, reason = "the type's name is the only one at hand")]
                let ($($step,)+) = self;
                $($step.on_request(head)?;)+
                Ok(())
            }
        }
    };
}

steps_in_order!(A B);
steps_in_order!(A B C);
steps_in_order!(A B C D);
steps_in_order!(A B C D E);
steps_in_order!(A B C D E F);
steps_in_order!(A B C D E F G);
steps_in_order!(A B C D E F G H);

/// Makes a [`Step`], or a tuple of them, a Tower layer.
///
/// ```
/// use mesh_server::{Normalise, StepLayer};
/// use tower::{ServiceBuilder, service_fn};
///
/// let service = ServiceBuilder::new()
///     .layer(StepLayer(Normalise::default()))
///     .service(service_fn(|request: http::Request<()>| async move {
///         Ok::<_, std::convert::Infallible>(http::Response::new(request.uri().path().to_owned()))
///     }));
/// # let _ = service;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StepLayer<T>(pub T);

/// A service behind a [`Step`].
#[derive(Clone, Copy, Debug)]
pub struct StepService<T, S> {
    step: T,
    inner: S,
}

impl<T: Clone, S> Layer<S> for StepLayer<T> {
    type Service = StepService<T, S>;

    fn layer(&self, inner: S) -> Self::Service {
        StepService { step: self.0.clone(), inner }
    }
}

impl<T, S, B, R> Service<Request<B>> for StepService<T, S>
where
    T: Step,
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<ReplyOr<R>>;
    type Error = S::Error;
    type Future = StepFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let answer = match self.step.on_request(&mut head) {
            Ok(()) => Answer::Handler { answer: self.inner.call(Request::from_parts(head, body)) },
            Err(reply) => Answer::Reply { reply, grpc: is_grpc(&head.headers) },
        };
        StepFuture { answer }
    }
}

pin_project! {
    /// The answer of a [`StepService`].
    #[derive(Debug)]
    pub struct StepFuture<F> {
        #[pin]
        answer: Answer<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = AnswerProjected]
    enum Answer<F> {
        Handler { #[pin] answer: F },
        Reply { reply: Reply, grpc: bool },
    }
}

impl<F, B, E> Future for StepFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ReplyOr<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().answer.project() {
            AnswerProjected::Handler { answer } => ready!(answer.poll(cx))?.map(ReplyOr::handler),
            AnswerProjected::Reply { reply, grpc } => reply.clone().into_response(*grpc),
        }))
    }
}
