//! Who calls, as a proof: an SVID from the TLS handshake, or a bearer. And what a caller may do.

use crate::{
    certified::Certified,
    lease_entry::Declared,
    leases::ServiceKey,
    tls::PeerSvid,
    token::{BearerError, OPERATOR, Purpose, TokenKey, unix},
};
use http::{HeaderMap, header};
use mesh_core::identity::{SpiffeId, TrustDomain};
use mesh_runtime::control::name::quoted;
use std::time::SystemTime;

/// A caller whose identity is proven; only [`Caller::prove`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    id: SpiffeId,
    namespace: String,
    account: String,
    services: Vec<String>,
    proof: Proof,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A certificate of this authority.
    Svid,
    /// A join token.
    Join,
    /// A renewal bearer, which came with a certificate.
    Renewal,
}

/// Why a caller is nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unproven {
    #[error(
        "no proof of who calls: send a join token (made with `meshctl token`) as `authorization: Bearer TOKEN`, or show \
         an SVID in the TLS handshake"
    )]
    Nothing,
    #[error("the `authorization` header: {0}; write `Bearer TOKEN`, once")]
    Header(&'static str),
    #[error(transparent)]
    Bearer(#[from] BearerError),
    #[error("the certificate of {id} has expired since the TLS handshake; connect anew")]
    Expired { id: SpiffeId },
    #[error("{id} is no workload's identity, which ends in /ns/NAMESPACE/sa/ACCOUNT")]
    NoAccount { id: SpiffeId },
    #[error("the TLS certificate is of {svid} and the bearer is for {bearer}; show one of them")]
    TwoIdentities { svid: SpiffeId, bearer: SpiffeId },
    #[error(
        "this bearer came with a certificate over plain HTTP, where it was seen; here the certificate is the proof"
    )]
    RenewalOverTls,
    #[error("the bearer names no valid identity: {0}")]
    NoIdentity(String),
}

/// What proofs are judged by.
#[derive(Clone, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) token_key: &'a TokenKey,
    /// Those of the authorities that stand.
    pub(crate) pins: Vec<String>,
    pub(crate) trust_domain: &'a TrustDomain,
    /// Whether callers cannot show a certificate here.
    pub(crate) is_plain: bool,
    pub(crate) now: SystemTime,
}

impl Caller {
    /// Returns who calls with these headers on a connection whose handshake showed `peer`.
    ///
    /// A bearer that is sent must be good, whatever else is shown: a bad one never goes unnoticed.
    pub(crate) fn prove(
        headers: &HeaderMap,
        peer: Option<&PeerSvid>,
        judge: &Judge<'_>,
    ) -> Result<Self, Unproven> {
        let svid = peer.map(|peer| of_svid(peer, judge.now)).transpose()?;
        let bearer = bearer(headers)?.map(|text| of_bearer(text, judge)).transpose()?;
        match (svid, bearer) {
            (None, None) => Err(Unproven::Nothing),
            (Some(svid), Some(bearer)) if svid.id != bearer.id => {
                Err(Unproven::TwoIdentities { svid: svid.id, bearer: bearer.id })
            }
            (Some(svid), Some(bearer)) => Ok(Self { services: bearer.services, ..svid }),
            (Some(caller), None) | (None, Some(caller)) => Ok(caller),
        }
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// Returns the services that its bearer names.
    pub(crate) fn services(&self) -> &[String] {
        &self.services
    }

    /// Returns whether it is whoever holds the data directory, by [`crate::operator_token`]: it may see all namespaces. A
    /// certificate of that name does not make its holder the operator.
    pub(crate) fn is_operator(&self) -> bool {
        self.proof == Proof::Join && (&*self.namespace, &*self.account) == OPERATOR
    }

    /// Returns whether it has a certificate to serve with.
    pub(crate) fn is_certified(&self, certified: &Certified, now: SystemTime) -> bool {
        self.proof != Proof::Join || certified.holds(&self.id, unix(now))
    }

    /// Checks that it may speak for `namespace`.
    pub(crate) fn may_act_in(&self, namespace: &str) -> Result<(), String> {
        if self.namespace == namespace {
            return Ok(());
        }
        Err(format!(
            "{} may register in its own namespace only, and {} is another",
            self.id,
            quoted(namespace)
        ))
    }

    /// Checks that it may register as `key.service`: its own name, what a Service or ServiceEntry gives it, and what a
    /// token named for it.
    pub(crate) fn may_register(
        &self,
        key: &ServiceKey,
        declared: &Declared,
        certified: &Certified,
        now: SystemTime,
    ) -> Result<(), String> {
        self.may_act_in(&key.namespace)?;
        let allowed = key.service == self.account
            || self.services.contains(&key.service)
            || certified.may_register(&self.id, &key.service, unix(now))
            || declared.gives(key, &self.account, &self.id);
        if allowed {
            return Ok(());
        }
        Err(format!(
            "{} may not register as service {}: make its token with `--service {}`, or name it in the Service's \
             annotation alpha.istio.io/kubernetes-serviceaccounts or the ServiceEntry's subjectAltNames",
            self.id, key.service, key.service
        ))
    }
}

fn of_svid(peer: &PeerSvid, now: SystemTime) -> Result<Caller, Unproven> {
    let id = peer.id.clone();
    if peer.not_after <= now {
        return Err(Unproven::Expired { id });
    }
    let (namespace, account) = match id.account() {
        Some((namespace, account)) => (namespace.to_owned(), account.to_owned()),
        None => return Err(Unproven::NoAccount { id }),
    };
    Ok(Caller { id, namespace, account, services: Vec::new(), proof: Proof::Svid })
}

fn of_bearer(text: &str, judge: &Judge<'_>) -> Result<Caller, Unproven> {
    let (purpose, claims) = judge.token_key.check(text, &judge.pins, judge.now)?;
    if purpose == Purpose::Renewal && !judge.is_plain {
        return Err(Unproven::RenewalOverTls);
    }
    let id = SpiffeId::of_account(judge.trust_domain, &claims.namespace, &claims.service_account)
        .map_err(|error| Unproven::NoIdentity(error.to_string()))?;
    Ok(Caller {
        id,
        namespace: claims.namespace,
        account: claims.service_account,
        services: claims.services,
        proof: match purpose {
            Purpose::Join => Proof::Join,
            Purpose::Renewal => Proof::Renewal,
        },
    })
}

/// Returns the bearer of the headers, if there is one.
// spec: rfc6750 section 2.1
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unproven> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Unproven::Header("there are several"));
    }
    let text = value.to_str().map_err(|_| Unproven::Header("it is not ASCII"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Unproven::Header("it is no bearer")),
    }
}
