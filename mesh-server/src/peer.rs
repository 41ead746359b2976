//! Who sent a request.
//!
//! A [`Peer`] comes from a verified certificate and from nowhere else: no header ever becomes one.

use crate::{reply::Reply, step::Step};
use http::request::Parts;
use mesh_core::identity::SpiffeId;
use std::net::SocketAddr;

/// The verified peer of a request; in its extensions, and an axum extractor (feature `axum`).
///
/// As an extractor `Peer` answers 401 where there is no verified identity (plaintext, or TLS without a certificate,
/// under PERMISSIVE), and `Option<Peer>` is `None` there.
///
/// ```
/// use mesh_server::Peer;
///
/// fn greeting(request: &http::Request<()>) -> String {
///     match request.extensions().get::<Peer>() {
///         Some(peer) => format!("hello {}", peer.id()),
///         None => "hello stranger".to_owned(),
///     }
/// }
/// # assert_eq!(greeting(&http::Request::new(())), "hello stranger");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    id: SpiffeId,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(id: SpiffeId, address: SocketAddr) -> Self {
        Self { id, address }
    }

    /// Returns the peer's SPIFFE ID.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the address it called from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let id = "spiffe://cluster.local/ns/default/sa/checkout".parse().unwrap();
        Self::new(id, SocketAddr::from(([127, 0, 0, 1], 40_000)))
    }
}

/// The step that says who is at the other end of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Identify(pub(crate) Option<Peer>);

impl Step for Identify {
    fn on_request(&self, head: &mut Parts) -> Result<(), Reply> {
        if let Some(peer) = &self.0 {
            head.extensions.insert(peer.clone());
        }
        Ok(())
    }
}

/// What [`Peer`] answers as an axum extractor to a request without a verified identity: 401.
#[cfg(feature = "axum")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this request has no verified mesh identity; call it through the mesh (mutual TLS)")]
pub struct NoPeer;

#[cfg(feature = "axum")]
mod extract {
    use super::{NoPeer, Peer};
    use axum_core::{
        extract::{FromRequestParts, OptionalFromRequestParts},
        response::{IntoResponse, Response},
    };
    use http::{StatusCode, request::Parts};
    use std::convert::Infallible;

    impl IntoResponse for NoPeer {
        fn into_response(self) -> Response {
            (StatusCode::UNAUTHORIZED, self.to_string()).into_response()
        }
    }

    impl<S: Send + Sync> FromRequestParts<S> for Peer {
        type Rejection = NoPeer;

        async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, NoPeer> {
            head.extensions.get().cloned().ok_or(NoPeer)
        }
    }

    impl<S: Send + Sync> OptionalFromRequestParts<S> for Peer {
        type Rejection = Infallible;

        async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
            Ok(head.extensions.get().cloned())
        }
    }
}
