//! The whole stack as one service.

use crate::{Error, ResponseBody};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use mesh_runtime::Workload;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

/// A client that calls through the mesh. Clones share everything; it is always ready.
#[derive(Clone, Debug)]
pub struct MeshClient {
    workload: Workload,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl MeshClient {
    /// Returns a client of `workload`.
    pub fn new(workload: &Workload) -> Self {
        Self { workload: workload.clone() }
    }

    /// Sends `request` and returns the answer's head; its body is still to come.
    ///
    /// # Errors
    ///
    /// Returns why there is no answer.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let _ = (request, &self.workload);
        todo!()
    }

    /// Sends a GET without a body.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]; also if `url` does not parse.
    pub async fn get(&self, url: &str) -> Result<Response<ResponseBody>, Error> {
        let _ = url;
        todo!()
    }
}

impl<B> tower_service::Service<Request<B>> for MeshClient
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let client = self.clone();
        ResponseFuture(Box::pin(async move { client.send(request).await }))
    }
}

/// The future of [`MeshClient`] as a Tower service.
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>);

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
