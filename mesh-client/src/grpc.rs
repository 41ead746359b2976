//! The client as a gRPC library wants it: a call that fails here ends with a status of gRPC, not with an error.
//!
//! It knows nothing of messages, and of no gRPC library.

use crate::{
    CallInfo, Error, MeshClient, RequestBody, ResponseBody,
    body::BoxError,
    error::{ErrorKind, grpc_fields, grpc_reply},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};
use tower_service::Service;

/// A [`MeshClient`] for gRPC. Clones share everything; it is always ready and never fails.
///
/// What a client of `tonic` takes in the place of a `Channel`. A failure of the mesh's own is the answer's
/// `grpc-status`: of its headers, or of its trailers if the answer had begun. A deadline that passed is
/// DEADLINE_EXCEEDED, what cannot be reached UNAVAILABLE; the `grpc-message` is what the [`Error`] says.
///
/// ```no_run
/// # use mesh_client::{GrpcClient, MeshClient};
/// # async fn run(mesh: &MeshClient) {
/// let channel: GrpcClient = mesh.grpc();
/// // With what tonic generates of a `service Warehouse`:
/// // WarehouseClient::with_origin(channel, http::Uri::from_static("http://warehouse"))
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GrpcClient {
    client: MeshClient,
}

impl MeshClient {
    /// Returns this client as a gRPC library wants it.
    pub fn grpc(&self) -> GrpcClient {
        GrpcClient { client: self.clone() }
    }
}

impl<B> Service<Request<B>> for GrpcClient
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<GrpcBody>;
    type Error = Infallible;
    type Future = GrpcFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> GrpcFuture {
        let client = self.client.clone();
        let request = request.map(RequestBody::new);
        GrpcFuture(Box::pin(async move {
            match client.send(request).await {
                Ok(response) => response.map(GrpcBody::new),
                Err(error) => failed(&error),
            }
        }))
    }
}

/// The future of [`GrpcClient`]: the one box on the way.
pub struct GrpcFuture(Pin<Box<dyn Future<Output = Response<GrpcBody>> + Send>>);

impl Future for GrpcFuture {
    type Output = Result<Response<GrpcBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for GrpcFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrpcFuture")
    }
}

/// The body of a gRPC answer: where it breaks off, it ends with a status instead of an error.
#[derive(Debug)]
pub struct GrpcBody {
    body: ResponseBody,
    broken: bool,
}

impl GrpcBody {
    fn new(body: ResponseBody) -> Self {
        Self { body, broken: false }
    }

    /// Returns how the call went.
    pub fn call_info(&self) -> &CallInfo {
        self.body.call_info()
    }
}

impl Body for GrpcBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.broken {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| match frame? {
            Ok(frame) => Some(Ok(frame)),
            Err(error) => {
                self.broken = true;
                Some(Ok(Frame::trailers(grpc_fields(status_of(&error), &error.to_string()))))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.broken || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns an answer that is only a status.
// spec: grpc doc/PROTOCOL-HTTP2.md "Trailers-Only"
fn failed(error: &Error) -> Response<GrpcBody> {
    let info = error.call_info().clone();
    grpc_reply(status_of(error), &error.to_string())
        .map(|body| GrpcBody::new(ResponseBody::local(body, info)))
}

/// Returns the status that a gRPC library gives to the same failure.
// spec: grpc doc/statuscodes.md; envoy pull request 44479: a timeout is no reason to try again, which UNAVAILABLE would be
fn status_of(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Timeout { DEADLINE_EXCEEDED } else { error.grpc_status() }
}

/// The deadline passed before the call was complete.
const DEADLINE_EXCEEDED: u8 = 4;
