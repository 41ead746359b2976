//! Fetches keys: one GET, two where an issuer is asked where its keys are. Bounded in size and time; no redirects.

use crate::{crypto, task::Task};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_core::authenticate::{KeyLocation, KeySet, KeysError};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// How keys are fetched from one place.
#[derive(Debug)]
pub(super) struct Fetch {
    location: KeyLocation,
    timeout: Duration,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{0}` is no http or https URI")]
    Uri(String),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("it broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("an answer of more than {} KiB", BODY_MAX >> 10)]
    TooLarge,
    #[error("its discovery document names no `jwks_uri`")]
    NoKeyUri,
    #[error("its discovery document names a `jwks_uri` without TLS: {0}")]
    PlainKeyUri(String),
    #[error("the answer: {0}")]
    NoKeys(#[from] KeysError),
}

impl Fetch {
    /// Returns the fetch of the keys at `location`, each of whose requests must be answered within `timeout`.
    pub(super) fn new(location: KeyLocation, timeout: Duration) -> Self {
        Self { location, timeout }
    }

    pub(super) fn location(&self) -> &KeyLocation {
        &self.location
    }

    /// Fetches the keys.
    pub(super) async fn keys(&self) -> Result<KeySet, FetchError> {
        let mut answer = self.get(&self.location.uri()).await?;
        if let KeyLocation::Issuer(_) = self.location {
            answer = self.get(&key_uri(&self.location, &answer)?).await?;
        }
        Ok(KeySet::parse(&answer)?)
    }

    async fn get(&self, uri: &str) -> Result<Bytes, FetchError> {
        let got = timeout(self.timeout, get(uri)).await;
        got.unwrap_or(Err(FetchError::Timeout(self.timeout)))
    }
}

/// Returns where `document` says the keys are. An issuer that is asked by TLS proves nothing by keys that come without.
// spec: openid-connect-discovery 3, jwks_uri
fn key_uri(issuer: &KeyLocation, document: &[u8]) -> Result<String, FetchError> {
    let document: serde_json::Value = serde_json::from_slice(document).map_err(|_| FetchError::NoKeyUri)?;
    let uri = document.get("jwks_uri").and_then(|uri| uri.as_str()).ok_or(FetchError::NoKeyUri)?;
    if is_tls(&issuer.uri()) && !is_tls(uri) {
        return Err(FetchError::PlainKeyUri(excerpt(uri)));
    }
    Ok(uri.to_owned())
}

fn is_tls(uri: &str) -> bool {
    uri.parse::<Uri>().is_ok_and(|uri| uri.scheme() == Some(&Scheme::HTTPS))
}

/// Returns `text` as an error shows it.
fn excerpt(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}

async fn get(text: &str) -> Result<Bytes, FetchError> {
    let no_uri = || FetchError::Uri(excerpt(text));
    let uri: Uri = text.parse().map_err(|_| no_uri())?;
    let host = uri.host().map(|host| host.trim_matches(['[', ']'])).ok_or_else(no_uri)?;
    let is_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err(no_uri()),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await?;
    if !is_tls {
        return exchange(tcp, &uri).await;
    }
    let roots = tokio::task::spawn_blocking(crypto::system_roots).await.map_err(io::Error::other)?;
    exchange(tls(tcp, host, roots.map_err(FetchError::Tls)?).await?, &uri).await
}

async fn tls(
    tcp: TcpStream,
    host: &str,
    roots: RootCertStore,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, FetchError> {
    let config = rustls::ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| FetchError::Tls(error.to_string()))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    stream.map_err(|error| FetchError::Tls(error.to_string()))
}

async fn exchange<T>(stream: T, uri: &Uri) -> Result<Bytes, FetchError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
    // Ends with this exchange; how it ended is said by the request.
    let _connection = Task::spawn(async { drop(connection.await) });
    let response = sender.send_request(request(uri)).await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
        true => FetchError::TooLarge,
        false => FetchError::Unreachable(io::Error::other(error)),
    })
}

fn request(uri: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    let target = uri.path_and_query().map(|target| target.as_str().parse());
    *request.uri_mut() = target.and_then(Result::ok).unwrap_or_default();
    let host = uri.authority().and_then(|authority| {
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        http::HeaderValue::try_from(host).ok()
    });
    let headers = request.headers_mut();
    headers.extend(host.map(|host| (header::HOST, host)));
    headers.insert(header::ACCEPT, http::HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        http::HeaderValue::from_static(concat!("mesh/", env!("CARGO_PKG_VERSION"))),
    );
    request
}

/// A key is less than 1 KiB, and no more than a hundred are tried.
const BODY_MAX: usize = 1 << 20;
const HEAD_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_is_asked_by_tls_has_its_keys_by_tls() {
        for (issuer, uri, is_taken) in [
            ("https://a.example", "https://b.example/keys", true),
            ("https://a.example", "HTTPS://b.example/keys", true),
            ("https://a.example", "http://a.example/keys", false),
            ("https://a.example", "a.example/keys", false),
            ("http://a.example", "http://a.example/keys", true),
            ("http://a.example", "https://a.example/keys", true),
        ] {
            let document = format!("{{\"jwks_uri\": \"{uri}\"}}");
            let found = key_uri(&KeyLocation::Issuer(issuer.into()), document.as_bytes());
            assert_eq!(found.is_ok(), is_taken, "{issuer} names {uri}: {found:?}");
        }
    }
}
