//! The status of a control endpoint, for whoever holds a join token.

use super::{
    JoinToken,
    http::{Ask, Client, Endpoint},
    trust::{Proof, Trust},
    wire::Status,
};
use crate::identity::IdentityStore;
use std::sync::Arc;

/// Why there is no status to show.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StatusError(String);

/// Asks the control endpoint at `url` how it fares. Over HTTPS only the CA that `token` pins is believed.
///
/// # Errors
///
/// Returns which part of the way failed: the URL, the connection, the endpoint's certificate, or its answer.
pub async fn status(url: &str, token: &JoinToken) -> Result<Status, StatusError> {
    let endpoint = Endpoint::parse(url).map_err(|error| StatusError(error.to_string()))?;
    let failed = |error| StatusError(format!("the control endpoint {url} {error}"));
    let trust = Trust::new(Arc::new(IdentityStore::empty()), Some(token.clone()), endpoint.is_plain());
    let mut client = Client::new(Arc::new(endpoint), Arc::new(trust));
    let proof = Proof::Bearer(token.expose().into());
    let answer = client.call(&Ask::get("/v1/status"), &proof).await.map_err(failed)?;
    answer.json().map_err(failed)
}
