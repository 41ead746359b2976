//! A request on its way in: what routing reads of it, and what the route makes of it.

use super::{CallPolicy, Chosen};
use crate::{Error, body::RequestBody, error::Cause, journal::Journal, wire};
use http::{
    HeaderName, HeaderValue, Request, Uri, header,
    uri::{Authority, PathAndQuery},
};
use http_body::Body;
use mesh_core::{
    authorize::Claims,
    deadline,
    grpc::is_grpc,
    route::{Caller, Cited, Decision, Head, Rewrite},
    snapshot::Snapshot,
};
use mesh_runtime::{Arrival, Context, ThreadDice};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// A request, and what was found out about it.
pub(crate) struct Call {
    pub(crate) request: Request<RequestBody>,
    pub(crate) authority: Authority,
    pub(crate) grpc: bool,
    /// Whether the caller asked for `https`.
    pub(crate) https: bool,
    /// How it came to the edge, if it is one that an edge hands on.
    pub(super) arrival: Option<Arrival>,
    /// That of the inbound request in whose course it is made.
    pub(super) context: Context,
    /// What it asks for over the policy of its route.
    pub(super) asked: Option<Box<CallPolicy>>,
}

impl Call {
    /// # Errors
    ///
    /// Returns that there is no host to call.
    pub(crate) fn read(mut request: Request<RequestBody>) -> Result<Self, Error> {
        let grpc = is_grpc(request.headers());
        let authority =
            authority(&request).map_err(|error| error.settle(Journal::default().account(), grpc))?;
        wire::strip_hop(request.headers_mut());
        let https = request.uri().scheme_str() == Some("https");
        let arrival = request.extensions().get::<Arrival>().copied();
        Ok(Self { request, authority, grpc, https, arrival, context: Context::current(), asked: None })
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            method: self.request.method(),
            scheme: self.scheme(),
            authority: self.authority.as_str(),
            path_and_query: path_and_query(self.request.uri()),
            headers: self.request.headers(),
        }
    }

    /// Returns where it goes: by its own word inside the mesh, by the server it arrived at if it came from outside.
    pub(super) fn decide<'a>(&self, snapshot: &'a Snapshot) -> Decision<'a> {
        match self.arrival {
            Some(arrival) => {
                let none = Claims::default();
                let claims = self.request.extensions().get::<Claims>().unwrap_or(&none);
                snapshot.route_arrived(&self.head(), arrival.port, claims, &mut ThreadDice)
            }
            None => snapshot.route(&self.head(), &mut ThreadDice),
        }
    }

    /// Returns what header values may cite of it.
    pub(crate) fn cited(&self) -> Cited<'_> {
        let caller =
            Caller { scheme: self.scheme(), authority: self.authority.as_str(), remote: self.remote() };
        Cited::of(&self.request, caller)
    }

    /// Returns whether nothing of its body is still to come.
    pub(super) fn is_complete(&self) -> bool {
        self.request.body().is_end_stream()
    }

    /// Returns the timeout of the route; a gRPC request brings its own, which that one caps.
    // spec: envoy configuration/http/http_filters/router_filter#x-envoy-expected-rq-timeout-ms
    pub(super) fn timeout(&self, route: Option<Duration>) -> Option<Duration> {
        let own =
            || self.request.headers().get(deadline::GRPC_TIMEOUT).and_then(deadline::parse_grpc_timeout);
        let own = if self.grpc { own() } else { None };
        own.into_iter().chain(route).min()
    }

    /// Takes off the request what it asks for over the policy of its route, which matched it whole. Headers are for this hop
    /// only, whether they are obeyed or not.
    pub(super) fn ask(&mut self, obeys_headers: bool) {
        let headers = CallPolicy::take(self.request.headers_mut()).filter(|_| obeys_headers);
        let asked = self.request.extensions_mut().remove::<CallPolicy>().or(headers);
        self.asked = asked.map(Box::new);
    }

    /// Adds what the mesh adds to every call.
    pub(super) fn introduce(&mut self) {
        let scheme = self.scheme();
        wire::introduce(self.request.headers_mut(), &self.context, scheme);
    }

    /// Makes it what the route wants.
    ///
    /// # Errors
    ///
    /// Returns that a rewrite yields no valid request.
    pub(crate) fn become_what(&mut self, chosen: Chosen<'_>) -> Result<(), Error> {
        // The operations cite the path and authority of the caller.
        // spec: envoy source/common/router/config_impl.cc RouteEntryImplBase::finalizeRequestHeaders
        let (scheme, remote) = (self.scheme(), self.remote());
        for operations in
            chosen.forward.in_order(&chosen.forward.request_headers, &chosen.target.request_headers)
        {
            let caller = Caller { scheme, authority: self.authority.as_str(), remote };
            operations.apply_to_request(&mut self.request, caller);
        }
        let rewrite = chosen.forward.rewrite.as_ref();
        if let Some(rewrite) = rewrite {
            self.rewrite(rewrite)?;
        }
        match (rewrite.and_then(|rewrite| rewrite.authority.as_ref()), &chosen.target.authority) {
            (None, Some(authority)) => self.rewrite_authority(authority),
            _ => Ok(()),
        }
    }

    // spec: istio networking/v1alpha3/virtual_service.proto HTTPRewrite
    fn rewrite(&mut self, rewrite: &Rewrite) -> Result<(), Error> {
        if let Some(path) = &rewrite.path {
            let original = path_and_query(self.request.uri()).to_owned();
            let new = path.apply(&original);
            *self.request.uri_mut() = Uri::try_from(&new).map_err(|error| invalid("path", &new, &error))?;
            if let Ok(original) = HeaderValue::try_from(original) {
                self.request.headers_mut().insert(ORIGINAL_PATH, original);
            }
        }
        match &rewrite.authority {
            Some(authority) => self.rewrite_authority(authority),
            None => Ok(()),
        }
    }

    fn rewrite_authority(&mut self, new: &HeaderValue) -> Result<(), Error> {
        self.authority =
            Authority::try_from(new.as_bytes()).map_err(|error| invalid("authority", new, &error))?;
        Ok(())
    }

    fn scheme(&self) -> &'static str {
        if self.arrival.map_or(self.https, |arrival| arrival.https) { "https" } else { "http" }
    }

    fn remote(&self) -> IpAddr {
        self.arrival.map_or(SELF, |arrival| arrival.remote)
    }
}

fn invalid(what: &str, new: &dyn std::fmt::Debug, error: &dyn std::fmt::Display) -> Error {
    Error::new(Cause::Request, format!("the route rewrites the {what} to {new:?}: {error}"))
}

/// Returns the authority of the URI, else the host header.
fn authority(request: &Request<RequestBody>) -> Result<Authority, Error> {
    if let Some(scheme) = request.uri().scheme_str().filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let message = format!("the scheme {scheme:?} is not spoken here: write http://service/path");
        return Err(Error::new(Cause::Request, message));
    }
    let authority = match (request.uri().authority(), request.headers().get(header::HOST)) {
        (Some(authority), _) => Ok(authority.clone()),
        (None, Some(host)) => Authority::try_from(host.as_bytes())
            .map_err(|error| format!("the host header {host:?} is no authority: {error}")),
        (None, None) => Err(format!(
            "the request for {:?} names no host: give it a URI like http://service/path, or a host header",
            request.uri()
        )),
    };
    let authority = authority.map_err(|message| Error::new(Cause::Request, message))?;
    // Credentials in a URI are not for the wire; nor for an error message.
    if authority.as_str().contains('@') {
        let message = format!("the URI of {} holds credentials: send them in a header", authority.host());
        return Err(Error::new(Cause::Request, message));
    }
    Ok(authority)
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// Who calls, unless it came from outside: no connection leads from the caller to here, since both are this process.
const SELF: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
