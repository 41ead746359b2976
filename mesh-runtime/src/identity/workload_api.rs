//! Identity from a SPIFFE Workload API, such as SPIRE's agent: where it is, and which of its SVIDs is this workload's.
//!
//! `following` keeps the identity current with it, `wire` is how it is asked, `answer` what its answers mean. Only these
//! need the feature `spiffe`: what a setting means does not depend on the build.
// spec: spiffe standards/SPIFFE_Workload_Endpoint.md section 4; SPIFFE_Workload_API.md sections 4 and 5

#[cfg(feature = "spiffe")]
mod answer;
#[cfg(feature = "spiffe")]
mod following;
#[cfg(feature = "spiffe")]
mod wire;

#[cfg(feature = "spiffe")]
pub(crate) use following::follow;

use crate::settings::SettingsError;
use mesh_core::identity::SpiffeId;
use std::{fmt, net::SocketAddr, path::PathBuf};

/// A Workload API, and which of its SVIDs to take.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "spiffe"), allow(dead_code))]
pub(crate) struct WorkloadApi {
    socket: Socket,
    wanted: Wanted,
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Which SVID to take, if there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// The first, which is the default identity.
    // spec: spiffe standards/SPIFFE_Workload_API.md section 5.3
    First,
    Id(SpiffeId),
    Hint(String),
}

impl WorkloadApi {
    /// Reads the URI of the socket, and the SPIFFE ID or the hint of the SVID.
    pub(crate) fn parse(uri: &str, svid: Option<&str>) -> Result<Self, SettingsError> {
        Ok(Self { socket: Socket::parse(uri)?, wanted: Wanted::parse(svid)? })
    }

    /// Returns the trust domain of the SVID wanted, where the settings say it.
    pub(crate) fn trust_domain(&self) -> Option<String> {
        match &self.wanted {
            Wanted::Id(id) => Some(id.trust_domain().to_owned()),
            Wanted::First | Wanted::Hint(_) => None,
        }
    }
}

impl Socket {
    fn parse(uri: &str) -> Result<Self, SettingsError> {
        let unix = uri.strip_prefix("unix://").filter(|path| is_plain_path(path));
        let tcp =
            || uri.strip_prefix("tcp://")?.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
        unix.map(|path| Self::Unix(path.into())).or_else(|| tcp().map(Self::Tcp)).ok_or_else(|| {
            let why = format!("`{uri}` is no Workload API; write `unix:///PATH` or `tcp://IP:PORT`");
            SettingsError { variable: "SPIFFE_ENDPOINT_SOCKET", why }
        })
    }
}

/// An absolute path, and nothing else that a URI could have.
fn is_plain_path(path: &str) -> bool {
    path.len() > 1 && path.starts_with('/') && !path.contains(['?', '#', '%'])
}

impl Wanted {
    fn parse(svid: Option<&str>) -> Result<Self, SettingsError> {
        match svid {
            None => Ok(Self::First),
            Some(id) if id.starts_with("spiffe://") => id.parse().map(Self::Id).map_err(|e| SettingsError {
                variable: "MESH_SVID",
                why: format!("{e}; write the SPIFFE ID or the hint of an SVID"),
            }),
            Some(hint) => Ok(Self::Hint(hint.to_owned())),
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("the first SVID"),
            Self::Id(id) => write!(f, "the SVID of {id} (MESH_SVID)"),
            Self::Hint(hint) => write!(f, "the SVID with the hint `{}` (MESH_SVID)", hint.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_an_absolute_path_or_an_address_with_a_port() {
        for good in ["unix:///run/spire/agent.sock", "tcp://127.0.0.1:8000", "tcp://[::1]:8000"] {
            assert_eq!(Socket::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "/run/agent.sock",
            "unix://run/agent.sock",
            "unix:///",
            "unix:///a?b",
            "unix:///a%20b",
            "tcp://localhost:8000",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:8000/foo",
            "http://127.0.0.1:8000",
        ] {
            let error = Socket::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("SPIFFE_ENDPOINT_SOCKET: `"), "{error}");
        }
    }

    #[test]
    fn an_svid_is_named_by_its_id_or_its_hint() {
        assert_eq!(Wanted::parse(None), Ok(Wanted::First));
        assert_eq!(Wanted::parse(Some("internal")), Ok(Wanted::Hint("internal".to_owned())));
        assert_eq!(Wanted::parse(Some("spiffe://a/b")), Ok(Wanted::Id("spiffe://a/b".parse().unwrap())));
        assert_eq!(Wanted::parse(Some("spiffe://A/b")).unwrap_err().variable, "MESH_SVID");
    }
}
