//! What an answer of a Workload API means: the one SVID of this workload, with the bundles of its own trust domain and
//! of those federated with it. Half an answer is none: an SVID without the bundles of its time would refuse its peers.

use super::{
    Wanted,
    wire::{X509Svid, X509SvidResponse},
};
use crate::identity::{Bundles, Identity, IdentityError, Svid, der::Reader, svid::unreadable};
use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{collections::HashMap, iter, time::SystemTime};

impl X509SvidResponse {
    /// Returns the identity that this answer gives to whom is `wanted`, at `now`; `None` if it gives one to others only.
    ///
    /// # Errors
    ///
    /// Returns what in it does not read, or that it has expired: what was said before is better.
    pub(super) fn identity(
        mut self,
        wanted: &Wanted,
        now: SystemTime,
    ) -> Result<Option<Identity>, IdentityError> {
        if self.svids.is_empty() {
            return Err(unreadable("svids", "there is none in it"));
        }
        let Some(chosen) = self.svids.iter_mut().find(|svid| svid.is(wanted)) else { return Ok(None) };
        let svid = chosen.svid()?;
        if svid.check_expiry(now).is_err() {
            let why =
                format!("that of {} has expired already; is the clock of this machine right?", svid.id());
            return Err(unreadable("x509_svid", why));
        }
        let bundles = bundles(&svid, &chosen.bundle, &self.federated_bundles)?;
        Ok(Some(Identity { svid, bundles }))
    }
}

impl X509Svid {
    fn is(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::First => true,
            Wanted::Id(id) => self.spiffe_id == id.as_str(),
            Wanted::Hint(hint) => self.hint == *hint,
        }
    }

    fn svid(&mut self) -> Result<Svid, IdentityError> {
        let chain = certificates("x509_svid", &self.x509_svid)?;
        // To the provider, which keeps it from here on.
        let key = PrivatePkcs8KeyDer::from(std::mem::take(&mut self.x509_svid_key));
        let svid = Svid::new(chain, PrivateKeyDer::Pkcs8(key))?;
        if svid.id().as_str() != self.spiffe_id {
            let why = format!("the certificate in it is of {}", svid.id());
            return Err(unreadable(format!("SVID of `{}`", self.spiffe_id.escape_debug()), why));
        }
        Ok(svid)
    }
}

/// The own bundle comes with the SVID, the others beside it.
fn bundles(svid: &Svid, own: &[u8], federated: &HashMap<String, Vec<u8>>) -> Result<Bundles, IdentityError> {
    let own = (svid.id().trust_domain(), own);
    let federated = federated.iter().map(|(domain, roots)| (domain.as_str(), roots.as_slice()));
    let read = |(name, roots): (&str, &[u8])| {
        let what = || format!("bundle of trust domain `{}`", name.escape_debug());
        // SPIRE writes the ID of a trust domain, as the standard has it; go-spiffe takes the bare name, too.
        let domain = name.strip_prefix("spiffe://").unwrap_or(name);
        let domain: TrustDomain = domain.parse().map_err(|why| unreadable(what(), why))?;
        Ok((domain, certificates(&what(), roots)?))
    };
    let roots: Result<Vec<_>, IdentityError> = iter::once(own).chain(federated).map(read).collect();
    Bundles::from_roots(roots?)
}

/// Splits what stands one after the other. There is at least one.
fn certificates(what: &str, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let (mut reader, mut certificates) = (Reader::new(bytes), Vec::new());
    while !reader.is_empty() {
        let certificate =
            reader.whole().map_err(|_| unreadable(what, "it is no sequence of DER certificates"))?;
        certificates.push(certificate.to_vec().into());
    }
    if certificates.is_empty() { Err(unreadable(what, "it is empty")) } else { Ok(certificates) }
}
