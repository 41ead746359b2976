//! What `tonic-prost-build` makes of `warehouse.proto`, by hand: a build of this repository needs no `protoc`.

use crate::shelf::Shelf;
use http::{Request, Response, Uri, uri::PathAndQuery};
use mesh::client::GrpcClient;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};
use tonic::{IntoRequest, IntoStreamingRequest, Status, Streaming, body::Body, server::NamedService};
use tonic_prost::ProstCodec;
use tower::service_fn;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) pieces: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Stock {
    #[prost(uint32, tag = "1")]
    pub(crate) left: u32,
    #[prost(string, tag = "2")]
    pub(crate) server: String,
    #[prost(uint32, tag = "3")]
    pub(crate) attempt: u32,
}

const COUNT: &str = "/example.Warehouse/Count";
const WATCH: &str = "/example.Warehouse/Watch";
const PACK: &str = "/example.Warehouse/Pack";

/// Who calls warehouse. The mesh is its channel.
#[derive(Clone, Debug)]
pub(crate) struct WarehouseClient {
    grpc: tonic::client::Grpc<GrpcClient>,
}

type Answer<T> = Result<tonic::Response<T>, Status>;

impl WarehouseClient {
    /// Returns a client of the service that the mesh knows as `warehouse`.
    pub(crate) fn new(channel: GrpcClient) -> Self {
        let origin = Uri::from_static("http://warehouse");
        Self { grpc: tonic::client::Grpc::with_origin(channel, origin) }
    }

    pub(crate) async fn count(&mut self, request: impl IntoRequest<Item>) -> Answer<Stock> {
        let path = PathAndQuery::from_static(COUNT);
        self.grpc.unary(request.into_request(), path, ProstCodec::default()).await
    }

    pub(crate) async fn watch(&mut self, request: impl IntoRequest<Item>) -> Answer<Streaming<Stock>> {
        let path = PathAndQuery::from_static(WATCH);
        self.grpc.server_streaming(request.into_request(), path, ProstCodec::default()).await
    }

    pub(crate) async fn pack(
        &mut self,
        request: impl IntoStreamingRequest<Message = Item>,
    ) -> Answer<Streaming<Stock>> {
        let path = PathAndQuery::from_static(PACK);
        self.grpc.streaming(request.into_streaming_request(), path, ProstCodec::default()).await
    }
}

/// Who answers for warehouse, for tonic's `Routes`.
#[derive(Clone, Debug)]
pub(crate) struct WarehouseServer(pub(crate) Shelf);

impl NamedService for WarehouseServer {
    const NAME: &'static str = "example.Warehouse";
}

impl tower_service::Service<Request<Body>> for WarehouseServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shelf = self.0.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Stock, Item>::default());
            Ok(match request.uri().path() {
                COUNT => grpc.unary(service_fn(|request| shelf.count(request)), request).await,
                WATCH => grpc.server_streaming(service_fn(|request| shelf.watch(request)), request).await,
                PACK => grpc.streaming(service_fn(|request| shelf.pack(request)), request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}
