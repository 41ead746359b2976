//! Pieces that several kinds share.

use crate::config::resource::At;
use regex::Regex;
use std::collections::BTreeMap;

/// How a string is compared.
// spec: istio networking/v1alpha3/virtual_service.proto StringMatch
#[derive(Clone, Debug)]
pub enum StringMatch {
    /// Equal, byte by byte.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// The whole string matches the regular expression (RE2 syntax; compiled anchored at both ends).
    Regex(Regex),
    /// Present at all: `{}` or the regex `*`.
    Present,
}

impl PartialEq for StringMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) => true,
            _ => false,
        }
    }
}

/// Where a route sends a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The host as written: a short name, or with dots as it is.
    pub host: At<String>,
    /// The subset, if one is named.
    pub subset: Option<At<String>>,
    /// The service port, if one is named.
    pub port: Option<u16>,
}

/// `set`, `add` and `remove` for one direction, in the order in which they are applied: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    /// Overwrites. Keys are lower case.
    pub set: Vec<(String, String)>,
    /// Appends.
    pub add: Vec<(String, String)>,
    /// Removes.
    pub remove: Vec<String>,
}

/// Header operations for request and response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// On the way to the destination.
    pub request: HeaderOperations,
    /// On the way back.
    pub response: HeaderOperations,
}

/// `selector.matchLabels` (or `workloadSelector`): every label must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadSelector {
    /// The labels; empty selects every workload.
    pub labels: BTreeMap<String, String>,
}
