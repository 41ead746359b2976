//! The authorities of a trust domain: one, or two while its root is rotated.
//!
//! ```text
//! one root --begin--> announced --overlap--> issuing --overlap--> one root, the new one
//! ```
//!
//! Announced, every new certificate comes with both roots; an overlap later none is left that came with the old one only,
//! and the new root issues. Another overlap later none is left that the old one signed, and it goes. So at every moment
//! everybody trusts whoever holds a valid certificate, and a restart or a pause changes nothing: which it is, the clock
//! says. The endpoint's own certificate stays one of the old root to the end, because join tokens pin that.

use crate::{
    ControlError,
    authority::{Authority, Files, Issued, SKEW},
    data::DataDir,
    locked,
    token::unix,
};
use mesh_core::identity::{SpiffeId, TrustDomain};
use rcgen::PublicKeyData;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The authorities in force, and how they follow each other.
#[derive(Debug)]
pub(crate) struct Authorities {
    trust_domain: TrustDomain,
    ttl: Duration,
    standing: Mutex<Arc<Standing>>,
}

/// Those that stand at one time.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What join tokens pin, and the endpoint serves with.
    pub(crate) current: Authority,
    next: Option<Next>,
}

/// The authority that takes over.
#[derive(Debug)]
struct Next {
    authority: Authority,
    issues_from: SystemTime,
    alone_from: SystemTime,
}

/// When a rotation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// From when on the new root issues.
    pub issues_from: SystemTime,
    /// From when on the old root is not trusted any more, and join tokens made before are void.
    pub alone_from: SystemTime,
}

/// What the data directory says of a rotation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Seconds since 1970.
    begun: u64,
    overlap_seconds: u64,
    /// Both overlaps are over: the files of the new root take the place of the old one's.
    #[serde(default)]
    finishing: bool,
}

/// Begins to rotate the root of the authority in the data directory `data`, whose certificates last `ttl`. Works while an
/// endpoint runs on it, which takes it up within a second, and while none does.
///
/// # Errors
///
/// Returns that a rotation is under way already, or what in the directory cannot be read or written.
pub fn rotate_root(data: &Path, ttl: Duration) -> Result<Rotation, ControlError> {
    begin(&DataDir::open_existing(data)?, ttl, SystemTime::now())
}

fn begin(data: &DataDir, ttl: Duration, now: SystemTime) -> Result<Rotation, ControlError> {
    let record = Record { begun: unix(now), overlap_seconds: overlap_seconds(ttl), finishing: false };
    let json = serde_json::to_vec(&record).map_err(|error| ControlError::Data(error.to_string()))?;
    if data.exists(RECORD_FILE) || *data.create_secret(RECORD_FILE, &json)? != json {
        let under_way = Record::read(data)?.map(|record| unix(record.rotation(ttl).alone_from));
        return Err(ControlError::Data(format!(
            "{}: a rotation of the root is under way until {} seconds after 1970; wait for its end",
            data.path(RECORD_FILE).display(),
            under_way.unwrap_or_default()
        )));
    }
    Ok(record.rotation(ttl))
}

/// Returns how many seconds an overlap takes where certificates last `ttl`: until all are gone that were made before it.
fn overlap_seconds(ttl: Duration) -> u64 {
    // They are whole, and a second is lost to that at most.
    (ttl + SKEW.min(ttl / 10) + Duration::from_secs(1)).as_secs()
}

impl Record {
    fn read(data: &DataDir) -> Result<Option<Self>, ControlError> {
        let Some(json) = data.read(RECORD_FILE)? else { return Ok(None) };
        let unreadable = |error: serde_json::Error| {
            let path = data.path(RECORD_FILE);
            ControlError::Data(format!("{}: {error}; delete it to give the rotation up", path.display()))
        };
        serde_json::from_slice(&json).map(Some).map_err(unreadable)
    }

    /// Returns its times, for an endpoint whose certificates last `ttl`: longer ones than it was begun with need longer.
    fn rotation(&self, ttl: Duration) -> Rotation {
        let begun = UNIX_EPOCH + Duration::from_secs(self.begun);
        let overlap = Duration::from_secs(self.overlap_seconds.max(overlap_seconds(ttl)));
        Rotation { issues_from: begun + overlap, alone_from: begun + 2 * overlap }
    }
}

impl Authorities {
    /// Opens what is in `data`, or founds an authority.
    pub(crate) fn open(
        data: &DataDir,
        trust_domain: &TrustDomain,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Self, ControlError> {
        let standing = Standing::open(data, trust_domain, ttl, now)?;
        Ok(Self { trust_domain: trust_domain.clone(), ttl, standing: Mutex::new(Arc::new(standing)) })
    }

    /// Takes up a rotation that was begun, and ends one whose time is over. Returns whether anything changed.
    pub(crate) fn advance(&self, data: &DataDir, now: SystemTime) -> Result<bool, ControlError> {
        let standing = self.standing();
        let is_current = match &standing.next {
            None => Record::read(data)?.is_none(),
            Some(next) => now < next.alone_from,
        };
        if is_current {
            return Ok(false);
        }
        let next = Standing::open(data, &self.trust_domain, self.ttl, now)?;
        match &next.next {
            Some(next) => tracing::info!(
                "the root is rotated: both are trusted; the new one, {}, issues in {} s, and is alone in {} s",
                next.authority.pin(),
                next.issues_from.duration_since(now).unwrap_or_default().as_secs(),
                next.alone_from.duration_since(now).unwrap_or_default().as_secs(),
            ),
            None => tracing::info!(
                "the root is rotated: {} alone is trusted; join tokens made before are void",
                next.current.pin()
            ),
        }
        *locked(&self.standing) = Arc::new(next);
        Ok(true)
    }

    /// Returns those that stand now.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&locked(&self.standing))
    }

    /// Returns the trust domain.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

impl Standing {
    fn open(
        data: &DataDir,
        trust_domain: &TrustDomain,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Self, ControlError> {
        let mut record = Record::read(data)?;
        if let Some(over) =
            record.take_if(|record| record.finishing || now >= record.rotation(ttl).alone_from)
        {
            finish(data, over, trust_domain, ttl)?;
        }
        let next = record.map(|record| {
            let Rotation { issues_from, alone_from } = record.rotation(ttl);
            let authority = Authority::open(data, Files::NEXT, trust_domain, ttl)?;
            Ok::<_, ControlError>(Next { authority, issues_from, alone_from })
        });
        let next = next.transpose()?;
        Ok(Self { current: Authority::open(data, Files::CURRENT, trust_domain, ttl)?, next })
    }

    /// Certifies a workload: see [`Authority::issue`].
    pub(crate) fn issue(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        now: SystemTime,
    ) -> Result<Issued, ControlError> {
        self.issuing(now).issue(key, id, &[], now)
    }

    /// Returns the authority that certifies workloads at `now`.
    pub(crate) fn issuing(&self, now: SystemTime) -> &Authority {
        match &self.next {
            Some(next) if now >= next.issues_from => &next.authority,
            _ => &self.current,
        }
    }

    /// Returns the PEM bundles by trust domain: both roots, while there are two.
    pub(crate) fn bundles(&self) -> BTreeMap<String, String> {
        let mut bundles = self.current.bundles();
        for next in self.next.iter().flat_map(|next| next.authority.bundles()) {
            bundles.entry(next.0).or_default().push_str(&next.1);
        }
        bundles
    }

    /// Returns the pins of all, that of the current one first: a bearer for either is for this endpoint.
    pub(crate) fn pins(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.current.pin()).chain(self.next.iter().map(|next| next.authority.pin()))
    }
}

/// Puts the files of the new root in the place of the old one's. Whatever it is interrupted by, it goes on from there:
/// the record says so until all is done, and a root whose certificate is missing is made again from its key.
fn finish(
    data: &DataDir,
    record: Record,
    trust_domain: &TrustDomain,
    ttl: Duration,
) -> Result<(), ControlError> {
    if !record.finishing {
        // Should the endpoint never have run since the beginning, there is no new root yet.
        Authority::open(data, Files::NEXT, trust_domain, ttl)?;
        let finishing = Record { finishing: true, ..record };
        let json = serde_json::to_vec(&finishing).map_err(|error| ControlError::Data(error.to_string()))?;
        data.replace(RECORD_FILE, &json)?;
    }
    if data.exists(Files::NEXT.key) {
        data.remove(Files::CURRENT.root)?;
        data.rename(Files::NEXT.key, Files::CURRENT.key)?;
    }
    if data.exists(Files::NEXT.root) {
        data.rename(Files::NEXT.root, Files::CURRENT.root)?;
    }
    data.remove(RECORD_FILE)
}

const RECORD_FILE: &str = "rotation.json";

#[cfg(test)]
mod tests;
