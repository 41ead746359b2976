//! The root certificates of each trust domain, side by side and never merged: the roots of one domain say nothing about
//! the members of another.
// spec: spiffe standards/SPIFFE_Trust_Domain_and_Bundle.md section 4; SPIFFE_Federation.md

use super::{IdentityError, Leaf, pem, svid::unreadable};
use mesh_core::identity::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// The bundles, by trust domain. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bundles(Arc<BTreeMap<TrustDomain, Bundle>>);

/// The roots of one trust domain; `roots[i]`, `anchors[i]` and `facts[i]` speak of the same certificate.
pub(super) struct Bundle {
    roots: Vec<CertificateDer<'static>>,
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    facts: Vec<Leaf>,
}

impl Bundles {
    /// Reads PEM bundles by trust domain.
    ///
    /// # Errors
    ///
    /// Returns which trust domain's bundle does not read, and why.
    pub fn from_pem<'a>(
        bundles: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, IdentityError> {
        let roots = bundles.into_iter().map(|(name, text)| {
            let domain: TrustDomain = name.parse().map_err(|why| unreadable(what(name), why))?;
            let roots = pem::certificates(text).map_err(|why| unreadable(what(name), why))?;
            Ok((domain, roots))
        });
        Self::from_roots(roots.collect::<Result<Vec<_>, IdentityError>>()?)
    }

    /// As [`Bundles::from_pem`], from DER.
    ///
    /// # Errors
    ///
    /// As [`Bundles::from_pem`].
    pub fn from_roots(
        bundles: impl IntoIterator<Item = (TrustDomain, Vec<CertificateDer<'static>>)>,
    ) -> Result<Self, IdentityError> {
        let mut read = BTreeMap::new();
        for (domain, roots) in bundles {
            let what = what(domain.as_str());
            let bundle = Bundle::new(roots).map_err(|why| unreadable(&what, why))?;
            if read.insert(domain, bundle).is_some() {
                return Err(unreadable(what, "it is given twice; bundles are never merged"));
            }
        }
        Ok(Self(Arc::new(read)))
    }

    /// Returns the trust domains with a bundle.
    pub fn trust_domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.keys()
    }

    /// Returns the PEM of each bundle, by trust domain: what [`Bundles::from_pem`] reads.
    pub fn to_pem(&self) -> BTreeMap<String, String> {
        let pem =
            |bundle: &Bundle| bundle.roots.iter().map(|root| pem::encode("CERTIFICATE", root)).collect();
        self.0.iter().map(|(domain, bundle)| (domain.to_string(), pem(bundle))).collect()
    }

    /// Returns the bundle of one trust domain.
    pub(super) fn of(&self, trust_domain: &str) -> Option<&Bundle> {
        self.0.get(trust_domain)
    }
}

impl Bundle {
    fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let (mut anchors, mut facts) = (Vec::new(), Vec::new());
        for (index, root) in roots.iter().enumerate() {
            let wrong = |why: String| format!("certificate {}: {why}", index + 1);
            let leaf = Leaf::parse(root).map_err(|why| wrong(why.to_string()))?;
            if !leaf.is_ca {
                return Err(wrong("it is no authority (cA is not set)".to_owned()));
            }
            if leaf.key_usage.is_some_and(|usage| !usage.cert_sign) {
                return Err(wrong("it may not sign certificates (keyCertSign is not set)".to_owned()));
            }
            let anchor = webpki::anchor_from_trusted_cert(root).map_err(|why| wrong(why.to_string()))?;
            anchors.push(anchor.to_owned());
            facts.push(leaf);
        }
        Ok(Self { roots, anchors, facts })
    }

    /// Returns the facts about the root that `anchor`, one of `anchors`, was made of.
    pub(super) fn facts(&self, anchor: &TrustAnchor<'_>) -> Option<&Leaf> {
        let index = self.anchors.iter().position(|candidate| std::ptr::eq(candidate, anchor))?;
        self.facts.get(index)
    }
}

fn what(trust_domain: &str) -> String {
    format!("bundle of trust domain `{trust_domain}`")
}

impl PartialEq for Bundles {
    fn eq(&self, other: &Self) -> bool {
        let same = |((a, mine), (b, theirs)): ((&TrustDomain, &Bundle), (&TrustDomain, &Bundle))| {
            a == b && mine.roots == theirs.roots
        };
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.len() == other.0.len() && self.0.iter().zip(other.0.iter()).all(same))
    }
}

impl Eq for Bundles {}

impl fmt::Debug for Bundles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(domain, bundle)| (domain, bundle.roots.len()))).finish()
    }
}
