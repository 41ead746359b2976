//! AuthorizationPolicy: who may do what.
//!
//! A condition that this version cannot enforce is an error of the object, never a condition left out.
// spec: istio security/v1beta1/authorization_policy.proto

use super::common::WorkloadSelector;

/// `action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthorizationAction {
    /// Lets matching requests through; with any ALLOW present the rest is denied.
    #[default]
    Allow,
    /// Denies matching requests, before any ALLOW is asked.
    Deny,
}

/// `spec` of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// `action`.
    pub action: AuthorizationAction,
    /// `rules`; none never matches, an empty rule matches everything.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule: some `from` (if any) and some `to` (if any) must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// `from[].source`.
    pub from: Vec<Source>,
    /// `to[].operation`.
    pub to: Vec<Operation>,
}

/// `source`: every list that is not empty must match, every `not_` list must not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`, without `spiffe://`.
    pub principals: Vec<String>,
    /// `notPrincipals`.
    pub not_principals: Vec<String>,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `notNamespaces`.
    pub not_namespaces: Vec<String>,
    /// `ipBlocks`: CIDR or address of the direct peer.
    pub ip_blocks: Vec<ipnet::IpNet>,
    /// `notIpBlocks`.
    pub not_ip_blocks: Vec<ipnet::IpNet>,
}

/// `operation`: likewise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `hosts`, without regard to case.
    pub hosts: Vec<String>,
    /// `notHosts`.
    pub not_hosts: Vec<String>,
    /// `ports`: of the workload.
    pub ports: Vec<u16>,
    /// `notPorts`.
    pub not_ports: Vec<u16>,
    /// `methods`.
    pub methods: Vec<String>,
    /// `notMethods`.
    pub not_methods: Vec<String>,
    /// `paths`: without query.
    pub paths: Vec<String>,
    /// `notPaths`.
    pub not_paths: Vec<String>,
}
