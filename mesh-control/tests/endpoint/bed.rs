//! An endpoint with its own data and configuration, and a client that says what it is told to.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use mesh_control::{ControlEndpoint, ControlSettings, TokenAsk, mint_token};
use mesh_core::identity::SpiffeId;
use mesh_runtime::identity::KeyPair;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

pub(crate) struct Bed {
    pub(crate) dir: TempDir,
    pub(crate) settings: ControlSettings,
    pub(crate) endpoint: Option<ControlEndpoint>,
}

impl Bed {
    /// Starts an endpoint over plain HTTP, where every step can be seen.
    pub(crate) async fn plain() -> Self {
        Self::start(|settings| settings.insecure_http = true).await
    }

    /// Starts an endpoint over TLS.
    pub(crate) async fn tls() -> Self {
        Self::start(|_| {}).await
    }

    pub(crate) async fn start(change: impl FnOnce(&mut ControlSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mesh.yaml"), CANARY).unwrap();
        let mut settings = ControlSettings::default();
        settings.config = vec![dir.path().join("mesh.yaml")];
        settings.listen = ([127, 0, 0, 1], 0).into();
        settings.data = Some(dir.path().join("data"));
        change(&mut settings);
        let endpoint = ControlEndpoint::start(settings.clone()).await.unwrap();
        Self { dir, settings, endpoint: Some(endpoint) }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn authority(&self) -> String {
        let url = self.endpoint.as_ref().unwrap().url();
        url.split_once("://").unwrap().1.to_owned()
    }

    pub(crate) fn url(&self) -> String {
        self.endpoint.as_ref().unwrap().url()
    }

    /// Replaces the configuration as an editor does: whole, and within the clock's grain.
    pub(crate) fn edit(&self, text: &str) {
        let draft = self.dir.path().join(".draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.dir.path().join("mesh.yaml")).unwrap();
    }

    pub(crate) fn token(&self, namespace: &str, account: &str, services: &[&str]) -> String {
        mint_token(&self.data(), &ask(namespace, account, services)).unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        self.endpoint.take().unwrap().stop().await;
    }

    pub(crate) async fn start_again(&mut self) {
        self.endpoint = Some(ControlEndpoint::start(self.settings.clone()).await.unwrap());
    }

    /// Asks over plain HTTP.
    pub(crate) async fn ask(&self, method: Method, path: &str, bearer: Option<&str>, body: Value) -> Reply {
        self.call(method, path).bearer(bearer).json(&body).send().await
    }

    pub(crate) async fn get(&self, path: &str, bearer: &str) -> Reply {
        self.call(Method::GET, path).bearer(Some(bearer)).send().await
    }

    pub(crate) fn call(&self, method: Method, path: &str) -> Call {
        Call::new(self.authority(), method, path)
    }

    /// Registers `service` in namespace `default` by its own account.
    pub(crate) async fn register(&self, service: &str, instance: &str, port: u16) -> String {
        let token = self.token("default", service, &[]);
        let path = format!("/v1/workloads/default/{service}/{instance}");
        let reply = self.ask(Method::PUT, &path, Some(&token), lease(port)).await;
        assert!(reply.status.is_success(), "{reply:?}");
        token
    }

    /// Returns the items served to namespace `default`.
    pub(crate) async fn items(&self) -> Vec<Value> {
        let reply = self.get("/v1/resources", &self.token("default", "viewer", &[])).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["items"].as_array().unwrap().clone()
    }

    pub(crate) async fn entry(&self, name: &str) -> Option<Value> {
        let named = |item: &Value| item["kind"] == "ServiceEntry" && item["metadata"]["name"] == name;
        self.items().await.into_iter().find(named)
    }

    pub(crate) async fn status(&self) -> Value {
        self.get("/v1/status", &self.token("default", "viewer", &[])).await.json()
    }
}

pub(crate) fn ask(namespace: &str, account: &str, services: &[&str]) -> TokenAsk {
    TokenAsk {
        namespace: namespace.into(),
        service_account: account.into(),
        services: services.iter().map(|service| (*service).to_owned()).collect(),
        ttl: Duration::from_secs(600),
    }
}

pub(crate) fn lease(port: u16) -> Value {
    json!({"address": "127.0.0.1", "ports": {"http": port}, "labels": {"version": "v1"}, "ttlSeconds": 15})
}

pub(crate) fn csr(id: &str) -> String {
    KeyPair::generate().unwrap().request(&id.parse::<SpiffeId>().unwrap()).unwrap().pem
}

pub(crate) struct Call {
    authority: String,
    request: http::request::Builder,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(authority: String, method: Method, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path).header("host", &authority);
        Self { authority, request, body: Vec::new() }
    }

    pub(crate) fn bearer(self, token: Option<&str>) -> Self {
        match token {
            Some(token) => self.header("authorization", &format!("Bearer {token}")),
            None => self,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.bytes(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() })
    }

    pub(crate) fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Reply {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        self.send_on(stream).await
    }

    pub(crate) async fn send_tls(self, config: Arc<rustls::ClientConfig>) -> Result<Reply, String> {
        let stream = TcpStream::connect(&self.authority).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        self.try_send_on(stream.map_err(|error| error.to_string())?).await
    }

    async fn send_on(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Reply {
        self.try_send_on(stream).await.unwrap()
    }

    async fn try_send_on(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Reply, String> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("{e:?}"))?;
        tokio::spawn(connection);
        let request = self.request.body(Full::<Bytes>::from(self.body)).unwrap();
        let response = sender.send_request(request).await.map_err(|e| format!("{e:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }
}

/// Waits until `done` says so, for at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a TLS configuration that trusts the root in `data`, with a certificate or without.
pub(crate) fn trusting(data: &Path, identity: Option<(String, String)>) -> Arc<rustls::ClientConfig> {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data.join("ca.crt")).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(mesh_runtime::crypto::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
            config
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
    })
}

pub(crate) const CANARY: &str = "\
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: payment-service
spec:
  host: payment-service
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: payment-route
spec:
  hosts: [payment-service]
  http:
  - route:
    - destination: {host: payment-service, subset: v1}
      weight: 90
    - destination: {host: payment-service, subset: v2}
      weight: 10
";
