//! Routing by Istio's configuration in front of any service.

use super::{Answer, AnswerBody, Below};
use crate::{
    Error, RequestBody, ResponseBody,
    body::BoxError,
    local,
    route::{Call, Chosen},
    step::Step as _,
};
use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, Uri, header,
    uri::{Parts, PathAndQuery, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use mesh_core::{
    route::{Decision, HeaderOps},
    snapshot::Snapshot,
};
use mesh_runtime::ThreadDice;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

/// Decides where requests go, and makes them what their route wants them to be; the service below finds the
/// [`Destination`] in the extensions of the request, and none where the host is passed through.
///
/// Redirects and direct responses are answered here. Timeouts, retries, faults and mirrors of a route are those layers'
/// business.
///
/// ```
/// use http::{Request, Response};
/// use mesh_client::{RequestBody, layer::{Destination, RouteLayer}};
/// use mesh_core::{config, health::States, snapshot::{MeshSettings, Viewer, compile}};
/// use std::{convert::Infallible, sync::Arc};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let yaml = "
/// {apiVersion: v1, kind: Service, metadata: {name: reviews}, spec: {ports: [{port: 80, name: http}]}}
/// ---
/// {apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: reviews}, spec: {hosts: [reviews], http: [
///   {match: [{uri: {prefix: /old}}], redirect: {uri: /new}},
///   {rewrite: {uri: /v1}, route: [{destination: {host: reviews}}]}]}}
/// ";
/// let resources = config::load("mesh.yaml", yaml, &config::Options::default()).resources;
/// let resources: Vec<_> = resources.into_iter().map(Arc::new).collect();
/// let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: Default::default() };
/// let settings = MeshSettings::new("cluster.local".parse()?);
/// let (snapshot, _findings) = compile("1", &resources, &viewer, &settings, &States::default());
///
/// let service = service_fn(|request: Request<RequestBody>| async move {
///     let to = request.extensions().get::<Destination>().map(|to| to.cluster.to_string());
///     Ok::<_, Infallible>(Response::new(format!("{} at {}", request.uri().path(), to.unwrap_or_default())))
/// });
/// let service = RouteLayer::new(Arc::new(snapshot)).layer(service);
/// let request = |url| Request::get(url).body(RequestBody::empty()).unwrap();
/// let answer = service.clone().oneshot(request("http://reviews/old")).await?;
/// assert_eq!(answer.headers()["location"], "http://reviews/new");
/// let answer = service.oneshot(request("http://reviews/?page=2")).await?;
/// let text = http_body_util::BodyExt::collect(answer.into_body()).await?.to_bytes();
/// assert_eq!(text, "/v1 at outbound|80||reviews.default.svc.cluster.local");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RouteLayer {
    snapshot: Arc<Snapshot>,
}

/// The service of [`RouteLayer`].
#[derive(Clone, Debug)]
pub struct RouteService<S> {
    inner: Below<S>,
    snapshot: Arc<Snapshot>,
}

/// Where a request goes: one of its route's destinations, drawn by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Destination {
    /// `outbound|port|subset|host`.
    pub cluster: Arc<str>,
    /// The host as written.
    pub host: Arc<str>,
    /// The subset as written; empty if none is named.
    pub subset: Arc<str>,
    /// The port of the service.
    pub port: u16,
}

impl RouteLayer {
    /// Returns a layer that routes by `snapshot`.
    pub const fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot }
    }
}

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> RouteService<S> {
        RouteService { inner: Below(inner), snapshot: Arc::clone(&self.snapshot) }
    }
}

impl<S, B, R> Service<Request<B>> for RouteService<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<RoutedBody<R>>;
    type Error = Error;
    type Future = Answer<RoutedBody<R>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Self { inner, snapshot } = self.clone();
        let request = request.map(RequestBody::new);
        Answer(Box::pin(async move { inner.route(&snapshot, request).await }))
    }
}

impl<S, R> Below<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + Sync,
    S::Future: Send,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    async fn route(
        &self,
        snapshot: &Snapshot,
        request: Request<RequestBody>,
    ) -> Result<Response<RoutedBody<R>>, Error> {
        let call = Call::read(request)?;
        match snapshot.route(&call.head(), &mut ThreadDice) {
            Decision::Forward { route, forward, target, .. } => {
                self.forward(call, Chosen { route, forward, target }).await
            }
            Decision::Answer { route, .. } => {
                Ok(local::answer(&call.cited(), route).map(|body| RoutedBody { kind: Kind::Local { body } }))
            }
            Decision::NoRoute { host } => Err(call.settle(call.no_route(host))),
            Decision::Passthrough => self.send(call.request).await,
            Decision::Blocked => Err(call.settle(call.blocked())),
        }
    }

    async fn forward(&self, mut call: Call, chosen: Chosen<'_>) -> Result<Response<RoutedBody<R>>, Error> {
        let Chosen { route, forward, target } = chosen;
        if target.cluster.is_none() {
            return Err(call.settle(call.no_cluster(target)));
        }
        if let Err(error) = call.become_what(chosen) {
            return Err(call.settle(error));
        }
        let operations = forward.in_order(&route.response_headers, &target.response_headers);
        let operations: [(&HeaderOps, _); 2] = operations.map(|it| (it, it.values(&call.cited())));
        let mut request = addressed(call);
        request.extensions_mut().insert(Destination {
            cluster: Arc::clone(&target.name),
            host: Arc::clone(&target.host),
            subset: Arc::clone(&target.subset),
            port: target.port,
        });
        let mut response = self.send(request).await?;
        for (operations, values) in operations {
            operations.apply(response.headers_mut(), values);
        }
        Ok(response)
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<RoutedBody<R>>, Error> {
        let response = self.run(request, ()).await?;
        Ok(response.map(|body| RoutedBody { kind: Kind::Below { body } }))
    }
}

/// Returns the request under the authority that the route gives it, in its URI, and in its host header if it has one.
fn addressed(call: Call) -> Request<RequestBody> {
    let scheme = if call.https { Scheme::HTTPS } else { Scheme::HTTP };
    let Call { mut request, authority, .. } = call;
    if let Some(host) = request.headers_mut().get_mut(header::HOST)
        && let Ok(value) = HeaderValue::try_from(authority.as_str())
    {
        *host = value;
    }
    let mut parts = Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    (parts.scheme, parts.authority) = (Some(scheme), Some(authority));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

pin_project! {
    /// The body of the service below, or of an answer of the route itself.
    #[derive(Debug)]
    pub struct RoutedBody<R> {
        #[pin]
        kind: Kind<R>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = Pinned]
    enum Kind<R> {
        Local { #[pin] body: ResponseBody },
        Below { #[pin] body: AnswerBody<R> },
    }
}

impl<R> Body for RoutedBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.project().kind.project() {
            Pinned::Local { body } => body.poll_frame(cx),
            Pinned::Below { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Local { body } => body.is_end_stream(),
            Kind::Below { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Local { body } => body.size_hint(),
            Kind::Below { body } => body.size_hint(),
        }
    }
}
