//! SPIFFE IDs and trust domains, parsed once into types that cannot be wrong. Nothing is normalised: what does not obey
//! the standard to the letter is refused, so that two texts are one identity only if they are the same bytes.
// spec: spiffe standards/SPIFFE-ID.md section 2

use super::Excerpt;
use std::{fmt, str::FromStr, sync::Arc};

/// The name of a trust domain: `[a-z0-9._-]+`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A SPIFFE ID with a path: `spiffe://trust-domain/path`, at most 2048 bytes.
///
/// ```
/// use mesh_core::identity::SpiffeId;
///
/// let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/reviews".parse()?;
/// assert_eq!(id.trust_domain(), "cluster.local");
/// assert_eq!(id.account(), Some(("shop", "reviews")));
/// # Ok::<(), mesh_core::identity::SpiffeIdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: Arc<str>,
    domain_len: u16,
}

/// Which rule of the standard a text breaks. The text in it is cut to a length fit for a log line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    /// Longer than 2048 bytes.
    #[error("a SPIFFE ID has at most {ID_LEN_MAX} bytes, and `{id}` has {len}")]
    TooLong {
        /// Its beginning.
        id: Excerpt,
        /// Its length in bytes.
        len: usize,
    },
    /// It contains something else than ASCII.
    #[error("a SPIFFE ID is ASCII, and `{0}` is not")]
    NotAscii(Excerpt),
    /// It does not begin with `spiffe://`, in lower case.
    #[error("a SPIFFE ID begins with `{SCHEME}` in lower case, and `{0}` does not")]
    Scheme(Excerpt),
    /// It contains `%`: percent-encoding is not part of a SPIFFE ID.
    #[error("a SPIFFE ID has no percent-encoding, and `{0}` has")]
    PercentEncoding(Excerpt),
    /// It contains `?`.
    #[error("a SPIFFE ID has no query, and `{0}` has")]
    Query(Excerpt),
    /// It contains `#`.
    #[error("a SPIFFE ID has no fragment, and `{0}` has")]
    Fragment(Excerpt),
    /// It contains `@` before the path.
    #[error("a SPIFFE ID has no user info, and `{0}` has")]
    UserInfo(Excerpt),
    /// It contains `:` after the trust domain.
    #[error("a SPIFFE ID has no port, and `{0}` has")]
    Port(Excerpt),
    /// Nothing stands where the trust domain should.
    #[error("the trust domain is empty")]
    TrustDomainEmpty,
    /// The trust domain is longer than 255 bytes.
    #[error("a trust domain has at most {DOMAIN_LEN_MAX} bytes, and `{domain}` has {len}")]
    TrustDomainTooLong {
        /// Its beginning.
        domain: Excerpt,
        /// Its length in bytes.
        len: usize,
    },
    /// The trust domain contains something else than `a-z`, `0-9`, `.`, `-` and `_`.
    #[error("a trust domain consists of a-z, 0-9, `.`, `-` and `_`, and `{domain}` contains {character:?}")]
    TrustDomainCharacter {
        /// The trust domain.
        domain: Excerpt,
        /// The first character that may not be there.
        character: char,
    },
    /// There is no path, or it is only `/`: that is the ID of a trust domain, not of a workload.
    #[error("the ID of a workload has a path, and `{0}` has none")]
    PathMissing(Excerpt),
    /// The path ends with `/`.
    #[error("the path of a SPIFFE ID does not end with a slash, and that of `{0}` does")]
    TrailingSlash(Excerpt),
    /// The path contains `//`.
    #[error("the path of a SPIFFE ID has no empty segment, and that of `{0}` has")]
    EmptySegment(Excerpt),
    /// The path contains the segment `.` or `..`.
    #[error("the path of a SPIFFE ID has no segment `.` or `..`, and that of `{0}` has")]
    DotSegment(Excerpt),
    /// The path contains something else than `a-z`, `A-Z`, `0-9`, `.`, `-`, `_` and `/`.
    #[error(
        "a path consists of letters, digits, `.`, `-` and `_`, and that of `{id}` contains {character:?}"
    )]
    PathCharacter {
        /// The ID.
        id: Excerpt,
        /// The first character that may not be there.
        character: char,
    },
    /// A namespace or service account that is not one path segment.
    #[error("`{0}` is no namespace or service account: not one segment of a path")]
    NotOneSegment(Excerpt),
}

impl TrustDomain {
    /// Returns `cluster.local`, the trust domain of a mesh that says nothing else.
    pub fn cluster_local() -> Self {
        Self("cluster.local".into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SpiffeId {
    /// Returns the ID of a service account, `spiffe://{domain}/ns/{namespace}/sa/{account}`.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the namespace or the account.
    pub fn of_account(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, SpiffeIdError> {
        if let Some(wrong) =
            [namespace, account].into_iter().find(|part| part.is_empty() || part.contains('/'))
        {
            return Err(SpiffeIdError::NotOneSegment(Excerpt::of(wrong)));
        }
        format!("{SCHEME}{}/ns/{namespace}/sa/{account}", domain.as_str()).parse()
    }

    /// Returns the whole ID.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// Returns the name of the trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.uri[SCHEME.len()..][..usize::from(self.domain_len)]
    }

    /// Returns the path, with its leading slash.
    pub fn path(&self) -> &str {
        &self.uri[SCHEME.len() + usize::from(self.domain_len)..]
    }

    /// Returns the ID without its scheme, as Istio writes a principal: `cluster.local/ns/shop/sa/reviews`.
    pub fn principal(&self) -> &str {
        &self.uri[SCHEME.len()..]
    }

    /// Returns (namespace, service account) if the path is Istio's `/ns/{}/sa/{}`.
    pub fn account(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once("/sa/")?;
        (!namespace.contains('/') && !account.contains('/')).then_some((namespace, account))
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(text)?;
        Ok(Self(text.into()))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        let excerpt = || Excerpt::of(text);
        if text.len() > ID_LEN_MAX {
            return Err(SpiffeIdError::TooLong { id: excerpt(), len: text.len() });
        }
        if !text.is_ascii() {
            return Err(SpiffeIdError::NotAscii(excerpt()));
        }
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| SpiffeIdError::Scheme(excerpt()))?;
        check_uri_parts(rest, excerpt)?;
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        check_trust_domain(domain)?;
        check_path(path, excerpt)?;
        let domain_len = u16::try_from(domain.len())
            .map_err(|_| SpiffeIdError::TrustDomainTooLong { domain: excerpt(), len: domain.len() })?;
        Ok(Self { uri: text.into(), domain_len })
    }
}

/// Names the parts of a URI that a SPIFFE ID lacks, so that the error is not merely "a wrong character".
fn check_uri_parts(rest: &str, excerpt: impl Fn() -> Excerpt) -> Result<(), SpiffeIdError> {
    let authority = &rest[..rest.find('/').unwrap_or(rest.len())];
    let part = |present: bool, error: fn(Excerpt) -> SpiffeIdError| match present {
        true => Err(error(excerpt())),
        false => Ok(()),
    };
    part(rest.contains('#'), SpiffeIdError::Fragment)?;
    part(rest.contains('?'), SpiffeIdError::Query)?;
    part(rest.contains('%'), SpiffeIdError::PercentEncoding)?;
    part(authority.contains('@'), SpiffeIdError::UserInfo)?;
    part(authority.contains(':'), SpiffeIdError::Port)
}

// spec: spiffe standards/SPIFFE-ID.md section 2.1
fn check_trust_domain(domain: &str) -> Result<(), SpiffeIdError> {
    if domain.is_empty() {
        return Err(SpiffeIdError::TrustDomainEmpty);
    }
    if domain.len() > DOMAIN_LEN_MAX {
        return Err(SpiffeIdError::TrustDomainTooLong { domain: Excerpt::of(domain), len: domain.len() });
    }
    match domain.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some(character) => {
            Err(SpiffeIdError::TrustDomainCharacter { domain: Excerpt::of(domain), character })
        }
        None => Ok(()),
    }
}

// spec: spiffe standards/SPIFFE-ID.md section 2.2; the root path is the ID of a trust domain, which no workload has
fn check_path(path: &str, excerpt: impl Fn() -> Excerpt) -> Result<(), SpiffeIdError> {
    let path = path.strip_prefix('/').filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| SpiffeIdError::PathMissing(excerpt()))?;
    if path.ends_with('/') {
        return Err(SpiffeIdError::TrailingSlash(excerpt()));
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment(excerpt())),
            "." | ".." => return Err(SpiffeIdError::DotSegment(excerpt())),
            _ => {}
        }
        if let Some(character) =
            segment.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
        {
            return Err(SpiffeIdError::PathCharacter { id: excerpt(), character });
        }
    }
    Ok(())
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// By name, so that a map keyed by trust domain can be asked with the `&str` that an ID yields.
impl std::borrow::Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

const SCHEME: &str = "spiffe://";

// The standard obliges us to take 2048 bytes and forbids to make longer ones.
// spec: spiffe standards/SPIFFE-ID.md section 2.3
const ID_LEN_MAX: usize = 2048;

// spec: spiffe standards/SPIFFE-ID.md section 2.3, after RFC 3986's limit of a host
const DOMAIN_LEN_MAX: usize = 255;

#[cfg(test)]
mod tests;
