//! Core `v1` Service as registry input: it names ports; its endpoints come from leases or entries of the same host.

/// `spec` of a Service. Its host is `{name}.{namespace}.svc.{domain}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a Service or a ServiceEntry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port by which callers know it.
    pub number: u16,
    /// Its name; may be empty where there is only one.
    pub name: String,
    /// Upper case: `HTTP`, `HTTP2`, `GRPC`, `TCP` …; empty if not said.
    pub protocol: String,
    /// `targetPort`, if it is a number and differs.
    pub target_port: Option<u16>,
}
