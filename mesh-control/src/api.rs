//! The HTTP API: who calls, what is asked, what is answered. The rules are in the modules it calls.

mod answer;
mod ask;

pub(crate) use answer::Answer;

use crate::{
    caller::{Caller, Unproven},
    csr::Csr,
    json,
    leases::{self, Change, LeaseError, ServiceKey},
    plane::{Certificate, Plane},
    registry::LeaseRefusal,
    served::Served,
    tls::PeerSvid,
};
use answer::Failure;
use ask::{Known, accepts_gzip, body, query, wait};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header, request::Parts};
use http_body::Body;
use mesh_runtime::control::{
    name,
    wire::{BundleAnswer, CertificateAnswer, CertificateAsk, Lease, Report},
};
use std::{sync::Arc, time::SystemTime};

/// Answers a request that came on a connection whose handshake showed `peer`.
pub(crate) async fn answer<B>(plane: &Arc<Plane>, peer: Option<&PeerSvid>, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    let asked = Asked { plane, peer, head: &head };
    let result = match &route {
        None => Err(Failure::not_found(head.uri.path())),
        Some(route) => asked.answer(route, body).await,
    };
    let answer = result.unwrap_or_else(Failure::into_answer);
    plane.metrics.on_answer(route.map_or("none", |route| route.name()), answer.status().as_u16());
    answer
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Resources,
    Workload { key: ServiceKey, instance: String },
    Certificates,
    Bundle,
    Reports,
    Status,
    Health,
    Ready,
    Metrics,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<_> = path.strip_prefix('/')?.split('/').collect();
        Some(match *parts.as_slice() {
            ["v1", "resources"] => Self::Resources,
            ["v1", "workloads", namespace, service, instance] => Self::Workload {
                key: ServiceKey { namespace: namespace.to_owned(), service: service.to_owned() },
                instance: instance.to_owned(),
            },
            ["v1", "certificates"] => Self::Certificates,
            ["v1", "bundle"] => Self::Bundle,
            ["v1", "reports"] => Self::Reports,
            ["v1", "status"] => Self::Status,
            ["healthz"] => Self::Health,
            ["readyz"] => Self::Ready,
            ["metrics"] => Self::Metrics,
            _ => return None,
        })
    }

    /// Returns the name it is counted under.
    fn name(&self) -> &'static str {
        match self {
            Self::Resources => "resources",
            Self::Workload { .. } => "workloads",
            Self::Certificates => "certificates",
            Self::Bundle => "bundle",
            Self::Reports => "reports",
            Self::Status => "status",
            Self::Health => "healthz",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Workload { .. } => "PUT, DELETE",
            Self::Certificates | Self::Reports => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// A request, but for its body.
#[derive(Clone, Copy)]
struct Asked<'a> {
    plane: &'a Arc<Plane>,
    peer: Option<&'a PeerSvid>,
    head: &'a Parts,
}

impl Asked<'_> {
    async fn answer<B>(self, route: &Route, sent: B) -> Result<Answer, Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let method = &self.head.method;
        if !route.methods().split(", ").any(|allowed| allowed == method.as_str()) {
            return Err(Failure::method_not_allowed(method, route.methods()));
        }
        match route {
            Route::Health => Ok(Answer::text("ok\n")),
            Route::Ready => Ok(Answer::text("ready\n")),
            Route::Metrics => Ok(Answer::metrics(self.plane.metrics_text())),
            Route::Bundle => Ok(self.bundle()),
            Route::Resources => self.resources(&self.caller()?).await,
            Route::Status => {
                let caller = self.caller()?;
                let namespace = (!caller.is_operator()).then(|| caller.namespace());
                Ok(Answer::json(&self.plane.status(namespace)))
            }
            Route::Certificates => {
                let caller = self.caller()?;
                self.certificate(&caller, &body(sent).await?)
            }
            Route::Reports => {
                let caller = self.caller()?;
                self.report(&caller, &body(sent).await?)
            }
            Route::Workload { key, instance } => {
                let caller = self.caller()?;
                check_names(key, instance).map_err(Failure::bad_request)?;
                if method == Method::DELETE {
                    return self.end_lease(&caller, key, instance).await;
                }
                caller.may_act_in(&key.namespace).map_err(Failure::forbidden)?;
                self.put_lease(&caller, key, instance, &body(sent).await?).await
            }
        }
    }

    fn caller(self) -> Result<Caller, Failure> {
        let judged = Caller::prove(&self.head.headers, self.peer, &self.plane.judge(SystemTime::now()));
        judged.map_err(|error| match error {
            Unproven::NoAccount { .. } | Unproven::TwoIdentities { .. } => {
                Failure::forbidden(error.to_string())
            }
            _ => Failure::unauthenticated(error.to_string()),
        })
    }

    fn bundle(self) -> Answer {
        let authorities = &self.plane.authorities;
        Answer::json(&BundleAnswer {
            trust_domain: authorities.trust_domain().to_string(),
            bundles: authorities.standing().bundles(),
        })
    }

    async fn resources(self, caller: &Caller) -> Result<Answer, Failure> {
        let headers = &self.head.headers;
        let known = Known::of(headers).map_err(Failure::bad_request)?;
        let wait = wait(headers).map_err(Failure::bad_request)?;
        if let (Some(service), Some(instance)) = (query(self.head, "service"), query(self.head, "instance")) {
            name::label("query service", service).map_err(Failure::bad_request)?;
            name::instance(instance).map_err(|why| Failure::bad_request(format!("query {why}")))?;
            self.plane.on_poll(caller, service, instance, known.version());
        }
        let served = self.plane.served(|version| known.has(version), wait).await;
        if known.has(served.version()) {
            return Ok(Answer::not_modified(served.version()));
        }
        let version = served.version().to_owned();
        let (bytes, packed) = bytes(served, caller.namespace().to_owned(), headers).await?;
        Ok(Answer::resources(&version, bytes, packed))
    }

    fn certificate(self, caller: &Caller, body: &[u8]) -> Result<Answer, Failure> {
        let ask: CertificateAsk = json::read(body).map_err(Failure::bad_request)?;
        let csr = Csr::from_pem(&ask.csr).map_err(|why| Failure::bad_request(format!("csr: {why}")))?;
        // What it asks for beside its own identity is ignored; that it asks to be somebody else is not.
        if let Some(other) = csr.uris.iter().find(|uri| *uri != caller.id().as_str()) {
            return Err(Failure::forbidden(format!(
                "csr: it asks to be {}, and the caller is {}; ask for that, or for nothing",
                name::quoted(other),
                caller.id()
            )));
        }
        let certified = self.plane.certify(caller, &csr.key, SystemTime::now());
        let Certificate { issued, bundles, renewal } =
            certified.map_err(|error| Failure::unavailable(error.to_string()))?;
        tracing::info!("certificate {} for {}", issued.serial, caller.id());
        Ok(Answer::json(&CertificateAnswer { chain: issued.chain_pem, bundles, renewal }))
    }

    fn report(self, caller: &Caller, body: &[u8]) -> Result<Answer, Failure> {
        let report: Report = json::read(body).map_err(Failure::bad_request)?;
        name::label("service:", &report.service).map_err(Failure::bad_request)?;
        name::instance(&report.instance).map_err(Failure::bad_request)?;
        self.plane.on_report(caller, report);
        Ok(Answer::empty())
    }

    async fn put_lease(
        self,
        caller: &Caller,
        key: &ServiceKey,
        instance: &str,
        body: &[u8],
    ) -> Result<Answer, Failure> {
        let lease: Lease = json::read(body).map_err(Failure::bad_request)?;
        leases::validate(&lease).map_err(Failure::bad_request)?;
        let change = self.plane.put_lease(caller, key, instance, lease).await.map_err(refused)?;
        let status = if change == Change::Created { http::StatusCode::CREATED } else { http::StatusCode::OK };
        Ok(Answer::json(&serde_json::json!({})).with_status(status))
    }

    async fn end_lease(self, caller: &Caller, key: &ServiceKey, instance: &str) -> Result<Answer, Failure> {
        match self.plane.end_lease(caller, key, instance).await.map_err(refused)? {
            true => Ok(Answer::empty()),
            false => Err(Failure::not_found(self.head.uri.path())),
        }
    }
}

fn check_names(key: &ServiceKey, instance: &str) -> Result<(), String> {
    name::label("namespace", &key.namespace)?;
    name::label("service", &key.service)?;
    name::instance(instance)
}

fn refused(refusal: LeaseRefusal) -> Failure {
    match refusal {
        LeaseRefusal::Forbidden(why) => Failure::forbidden(why),
        LeaseRefusal::Held(error @ (LeaseError::HeldByOther { .. } | LeaseError::TooMany { .. })) => {
            Failure::conflict(error.to_string())
        }
        LeaseRefusal::Held(error @ LeaseError::Full(_)) => Failure::unavailable(error.to_string()),
    }
}

/// Returns what `namespace` sees, and whether it is packed. Made off the request path, for it may be large.
async fn bytes(
    served: Arc<Served>,
    namespace: String,
    headers: &HeaderMap,
) -> Result<(Bytes, bool), Failure> {
    let packed = accepts_gzip(headers.get_all(header::ACCEPT_ENCODING));
    let make = move || {
        let view = served.view(&namespace);
        if packed { view.gzip() } else { Ok(view.plain()) }
    };
    let made =
        tokio::task::spawn_blocking(make).await.map_err(|error| Failure::unavailable(error.to_string()))?;
    made.map(|bytes| (bytes, packed)).map_err(|error| Failure::unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_route_or_none() {
        let workload = Route::Workload {
            key: ServiceKey { namespace: "shop".into(), service: "cart".into() },
            instance: "cart-1".into(),
        };
        let table = [
            ("/v1/resources", Some(Route::Resources)),
            ("/v1/workloads/shop/cart/cart-1", Some(workload)),
            ("/v1/certificates", Some(Route::Certificates)),
            ("/v1/bundle", Some(Route::Bundle)),
            ("/v1/reports", Some(Route::Reports)),
            ("/v1/status", Some(Route::Status)),
            ("/healthz", Some(Route::Health)),
            ("/readyz", Some(Route::Ready)),
            ("/metrics", Some(Route::Metrics)),
            ("/", None),
            ("", None),
            ("*", None),
            ("/v1/resources/", None),
            ("//v1/resources", None),
            ("/v1/workloads/shop/cart", None),
            ("/v1/workloads/shop/cart/a/b", None),
            ("/V1/status", None),
        ];
        for (path, expected) in table {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
