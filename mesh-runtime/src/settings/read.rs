//! One variable at a time: what its text means, and what to write where it means nothing.

use super::SettingsError;
use crate::{control::name, identity::IdentityFiles};
use mesh_core::identity::TrustDomain;
use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

pub(super) fn read_port(text: &str) -> Result<u16, SettingsError> {
    text.parse().map_err(|_| error("MESH_SERVICE_PORT", format!("`{text}` is no port; write 1 to 65535")))
}

pub(super) fn read_labels(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let read = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(error(
            "MESH_LABELS",
            format!(
                "`{pair}` in `{text}` is no label; write `name=value` pairs separated by commas: `version=v1`"
            ),
        )),
    };
    parts(text).map(read).collect()
}

/// A bare port means loopback: configuration and identities are nobody else's business unless asked for.
pub(super) fn read_admin(text: &str) -> Result<SocketAddr, SettingsError> {
    let port = text.strip_prefix(':').unwrap_or(text).parse::<u16>();
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let named = || text.strip_prefix("localhost:")?.parse::<u16>().ok().map(loopback);
    text.parse().ok().or_else(|| port.ok().map(loopback)).or_else(named).ok_or_else(|| {
        error(
            "MESH_ADMIN",
            format!("`{text}` is no address to listen on; write `127.0.0.1:15000`, port 0 to pick one"),
        )
    })
}

pub(super) fn read_identity(
    cert: Option<String>,
    key: Option<String>,
    bundles: Option<String>,
) -> Result<Option<IdentityFiles>, SettingsError> {
    let missing = |variable, others: &str| {
        Err(error(variable, format!("not set, but {others} is: an identity from files needs all three")))
    };
    match (cert, key, bundles) {
        (None, None, None) => Ok(None),
        (Some(cert), Some(key), Some(bundles)) => {
            let bundles = read_bundles(&bundles)?;
            Ok(Some(IdentityFiles { cert: cert.into(), key: key.into(), bundles }))
        }
        (Some(_), None, _) => missing("MESH_KEY", "MESH_CERT"),
        (None, Some(_), _) => missing("MESH_CERT", "MESH_KEY"),
        (None, None, Some(_)) => missing("MESH_CERT", "MESH_BUNDLES"),
        (Some(_), Some(_), None) => missing("MESH_BUNDLES", "MESH_CERT"),
    }
}

fn read_bundles(text: &str) -> Result<Vec<(String, PathBuf)>, SettingsError> {
    let form = "write `trust.domain=FILE` pairs separated by commas";
    let mut bundles: Vec<(String, PathBuf)> = Vec::new();
    for part in parts(text) {
        let (domain, file) = part
            .split_once('=')
            .filter(|(_, file)| !file.is_empty())
            .ok_or_else(|| error("MESH_BUNDLES", format!("`{part}` is no bundle; {form}")))?;
        domain.parse::<TrustDomain>().map_err(|e| error("MESH_BUNDLES", format!("`{part}`: {e}; {form}")))?;
        if bundles.iter().any(|(known, _)| known == domain) {
            let why = format!("two bundles for `{domain}`; put the roots of one trust domain into one file");
            return Err(error("MESH_BUNDLES", why));
        }
        bundles.push((domain.to_owned(), file.into()));
    }
    if bundles.is_empty() {
        Err(error("MESH_BUNDLES", format!("`{text}` names no bundle; {form}")))
    } else {
        Ok(bundles)
    }
}

/// A service or a namespace becomes one part of a host. The endpoint would refuse anything else, for ever.
pub(super) fn check_part(variable: &'static str, text: &str) -> Result<(), SettingsError> {
    let form =
        "write up to 63 lower-case letters, digits and `-`, starting and ending with a letter or digit";
    name::label("", text).map_err(|_| error(variable, format!("`{text}` is no name; {form}")))
}

/// A service account becomes part of a SPIFFE ID and of a path.
pub(super) fn check_account(text: &str) -> Result<(), SettingsError> {
    let form =
        "write lower-case letters, digits, `-` and `.`, each part starting and ending with a letter or digit";
    name::subdomain("", text)
        .map_err(|_| error("MESH_SERVICE_ACCOUNT", format!("`{text}` is no name; {form}")))
}

/// Labels end up in metrics, in selectors and in the name of the cache directory.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), SettingsError> {
    if labels.len() > name::LABELS_MAX {
        let why = format!("{} labels; write at most {}", labels.len(), name::LABELS_MAX);
        return Err(error("MESH_LABELS", why));
    }
    let good = |key: &str, value: &str| name::label_key(key).and_then(|()| name::label_value(value)).is_ok();
    match labels.iter().find(|(key, value)| !good(key, value)) {
        None => Ok(()),
        Some((key, value)) => {
            let form = "write `name=value`, each of up to 63 letters, digits, `-`, `_` and `.`, starting and ending \
                        with a letter or digit";
            Err(error("MESH_LABELS", format!("`{key}={value}` is no label; {form}")))
        }
    }
}

pub(super) fn check_locality(text: &str) -> Result<(), SettingsError> {
    let whole = text.is_empty() || text.split('/').all(|part| !part.is_empty());
    if whole && name::locality(text).is_ok() {
        return Ok(());
    }
    Err(error(
        "MESH_LOCALITY",
        format!(
            "`{text}` is no locality; write `region`, `region/zone` or `region/zone/subzone`, each of letters, digits, \
             `-`, `_` and `.`"
        ),
    ))
}

/// The parts of a list separated by commas; a trailing comma is no empty part.
pub(super) fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|part| !part.is_empty())
}

pub(super) fn error(variable: &'static str, why: impl fmt::Display) -> SettingsError {
    SettingsError { variable, why: why.to_string() }
}
