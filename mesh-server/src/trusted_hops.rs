//! Whose word is believed about where a request came from before it came here.

use crate::peer::Peer;
use http::{HeaderMap, HeaderName};
use mesh_core::identity::SpiffeId;
use std::{net::IpAddr, sync::Arc};

/// The proxies in front of a server whose headers are believed. Default: none, whoever connects is the first caller.
///
/// What a trusted hop says in `x-forwarded-client-cert` and `x-envoy-*` reaches the handler, and `remote.ip` of a policy
/// is the address that it tells in `x-forwarded-for`.
///
/// ```
/// use mesh_server::TrustedHops;
///
/// let gateway = "spiffe://cluster.local/ns/istio-system/sa/istio-ingressgateway".parse()?;
/// let hops = TrustedHops::peers([gateway]);
/// # let _ = hops;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedHops {
    /// Nobody in particular: whoever connects.
    peers: Option<Arc<[SpiffeId]>>,
    proxies: usize,
}

impl TrustedHops {
    /// Trusts peers that prove one of these identities, and no proxy before them.
    pub fn peers(ids: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self { peers: Some(ids.into_iter().collect()), proxies: 1 }
    }

    /// Trusts whoever connects, as the last of `count` proxies. Only for a server that nothing but these proxies can
    /// reach: others could say what they like.
    // spec: istio mesh/v1alpha1/proxy.proto Topology.num_trusted_proxies
    pub fn proxies(count: usize) -> Self {
        Self { peers: None, proxies: count }
    }

    /// Says that there are `count` proxies, the peers that connect among them.
    #[must_use]
    pub fn behind(self, count: usize) -> Self {
        Self { proxies: count, ..self }
    }

    /// Returns whether what `peer` says is believed.
    pub(crate) fn includes(&self, peer: Option<&Peer>) -> bool {
        let known = |ids: &Arc<[SpiffeId]>| peer.is_some_and(|peer| ids.contains(peer.id()));
        self.proxies > 0 && self.peers.as_ref().is_none_or(known)
    }

    /// Returns the address that the first trusted proxy saw; `None` if fewer proxies told one.
    ///
    /// Each proxy adds whom it was called by to the end, so everything before the last `proxies` is hearsay.
    // spec: envoy config_http_conn_man_headers_x-forwarded-for, xff_num_trusted_hops
    pub(crate) fn first_caller(&self, headers: &HeaderMap) -> Option<FirstCaller> {
        let told = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let mut told = told.flat_map(|value| value.as_bytes().rsplit(|&byte| byte == b','));
        let address = told.nth(self.proxies.checked_sub(1)?)?;
        let address = std::str::from_utf8(address).ok().and_then(|text| text.trim().parse::<IpAddr>().ok());
        Some(FirstCaller(address.map(|address| address.to_canonical())))
    }
}

/// The address of the first caller, as trusted proxies tell it; `None` if it does not read, so that nobody knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstCaller(pub(crate) Option<IpAddr>);

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn told(proxies: usize, values: &[&'static str]) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let caller = TrustedHops::proxies(proxies).first_caller(&headers);
        caller.map(|FirstCaller(address)| address.map(|address| address.to_string()))
    }

    #[test]
    fn the_first_caller_is_counted_from_the_end_over_every_value() {
        let found = |address: &str| Some(Some(address.to_owned()));
        for (proxies, values, caller) in [
            (1, &["10.0.0.1"][..], found("10.0.0.1")),
            (1, &["6.6.6.6, 10.0.0.1"], found("10.0.0.1")),
            (1, &["6.6.6.6", "10.0.0.1"], found("10.0.0.1")),
            (2, &["6.6.6.6", "10.0.0.1,10.0.0.2"], found("10.0.0.1")),
            (2, &["6.6.6.6,10.0.0.1", "10.0.0.2"], found("10.0.0.1")),
            (1, &["::ffff:10.0.0.1"], found("10.0.0.1")),
            (3, &["10.0.0.1, 10.0.0.2"], None),
            (1, &[], None),
            (0, &["10.0.0.1"], None),
            (1, &["10.0.0.1, nonsense"], Some(None)),
            (1, &["10.0.0.1,"], Some(None)),
        ] {
            assert_eq!(told(proxies, values), caller, "{proxies} of {values:?}");
        }
    }

    #[test]
    fn only_those_named_are_trusted_and_nobody_by_default() {
        let (peer, other) = (Peer::for_test(), "spiffe://cluster.local/ns/default/sa/other".parse().unwrap());
        for (hops, by_peer, by_nobody) in [
            (TrustedHops::default(), false, false),
            (TrustedHops::peers([peer.id().clone()]), true, false),
            (TrustedHops::peers([other]), false, false),
            (TrustedHops::peers([]), false, false),
            (TrustedHops::proxies(1), true, true),
            (TrustedHops::proxies(0), false, false),
        ] {
            assert_eq!((hops.includes(Some(&peer)), hops.includes(None)), (by_peer, by_nobody), "{hops:?}");
        }
    }
}
