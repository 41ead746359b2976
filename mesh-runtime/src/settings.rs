//! What a workload is told about itself: by its environment, or by builder.
//!
//! Reads variables and judges what they say together; it opens no file and no socket.

mod overload;
mod read;

use crate::{
    control::{JoinToken, http::Endpoint},
    identity::{IdentityFiles, workload_api::WorkloadApi},
};
use mesh_core::{
    identity::{SpiffeId, TrustDomain},
    overload::Overload,
};
use read::{
    check_account, check_labels, check_locality, check_part, error, parts, read_admin, read_identity,
    read_labels, read_port,
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// The settings of a workload. Every field has its environment variable, named at it.
///
/// ```
/// use mesh_runtime::Settings;
///
/// let mut settings = Settings::for_service("checkout");
/// settings.labels.insert("version".to_owned(), "v1".to_owned());
/// settings.config.push("mesh.yaml".into());
/// assert!(settings.check().is_ok());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// `MESH_CONTROL`: the URL of the control endpoint, `https://HOST:PORT`; `http://` on loopback only.
    pub control: Option<String>,
    /// `MESH_JOIN_TOKEN`: a join token, as `meshctl token` prints it.
    pub join_token: Option<JoinToken>,
    /// `MESH_NAMESPACE`. Default `default`.
    pub namespace: String,
    /// `MESH_SERVICE`.
    pub service: String,
    /// `MESH_SERVICE_ACCOUNT`. Default: the service.
    pub service_account: String,
    /// `MESH_SERVICE_PORT`: the port by which callers know the service. Default 80.
    pub service_port: u16,
    /// `MESH_LABELS`: `version=v1,…`. `app` defaults to the service.
    pub labels: BTreeMap<String, String>,
    /// `MESH_ADVERTISE`: the address others dial, `IP` or `IP:PORT`. Default: the listen address.
    pub advertise: Option<String>,
    /// `MESH_LOCALITY`: `region/zone/subzone`.
    pub locality: String,
    /// `MESH_CACHE_DIR`: where the last good state is kept.
    pub cache_dir: Option<PathBuf>,
    /// `MESH_ADMIN`: address of the admin listener; off when unset.
    pub admin: Option<SocketAddr>,
    /// `MESH_CONFIG`: files or directories instead of a control endpoint, separated by commas.
    pub config: Vec<PathBuf>,
    /// `MESH_CERT`, `MESH_KEY`, `MESH_BUNDLES`: identity from files.
    pub identity_files: Option<IdentityFiles>,
    /// `SPIFFE_ENDPOINT_SOCKET`: the SPIFFE Workload API that the identity comes from, `unix:///PATH` or `tcp://IP:PORT`.
    /// Needs the feature `spiffe`; a build without it passes the variable over if there is another source of an identity,
    /// and does not start if there is none.
    pub workload_api: Option<String>,
    /// `MESH_SVID`: which of the SVIDs of the Workload API is this workload's, by its SPIFFE ID or its hint. Default: the
    /// first.
    pub svid: Option<String>,
    /// `MESH_REQUESTS_MAX` (a number, or `adaptive`), `MESH_WAITING_MAX`, `MESH_WAIT_MAX` (`500ms`), `MESH_RATE_LIMIT`
    /// (`1000/s, /reports/=5/s`): how a server of this workload protects itself. Default: nothing is limited.
    pub overload: Overload,
    /// Namespace and name of the Gateway that this workload enforces as an edge: its calls are routed by that instead of
    /// as calls inside the mesh, and what comes in is judged by the policies that select the Gateway's own labels. No
    /// variable. Default none.
    pub gateway: Option<(String, String)>,
    /// Trust domain; from the control endpoint or the certificate where not set. Default `cluster.local`.
    pub trust_domain: Option<String>,
}

/// A setting that does not read. Says which variable, its value, and what it should look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {why}")]
pub struct SettingsError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong and what to write.
    pub why: String,
}

impl Settings {
    /// Returns the defaults for a workload of `service`.
    pub fn for_service(service: impl Into<String>) -> Self {
        let service = service.into();
        Self {
            namespace: "default".to_owned(),
            service_account: service.clone(),
            labels: BTreeMap::from([("app".to_owned(), service.clone())]),
            service,
            service_port: 80,
            ..Self::default()
        }
    }

    /// Reads the settings from `variable`, which is `std::env::var` in a process and a table in a test. An empty
    /// variable is an unset one.
    ///
    /// # Errors
    ///
    /// Returns the first variable that does not read, or that contradicts another one.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let text = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let service = text("MESH_SERVICE").ok_or_else(|| {
            error("MESH_SERVICE", "not set; write the name of the service this process is, e.g. `checkout`")
        })?;
        let mut settings = Self::for_service(service);
        if let Some(namespace) = text("MESH_NAMESPACE") {
            settings.namespace = namespace;
        }
        if let Some(account) = text("MESH_SERVICE_ACCOUNT") {
            settings.service_account = account;
        }
        if let Some(port) = text("MESH_SERVICE_PORT") {
            settings.service_port = read_port(&port)?;
        }
        if let Some(labels) = text("MESH_LABELS") {
            settings.labels.extend(read_labels(&labels)?);
        }
        if let Some(address) = text("MESH_ADMIN") {
            settings.admin = Some(read_admin(&address)?);
        }
        if let Some(token) = text("MESH_JOIN_TOKEN") {
            // The value is a secret, so the error shows its shape only.
            let token = JoinToken::parse(&token).map_err(|e| error("MESH_JOIN_TOKEN", e.to_string()))?;
            settings.join_token = Some(token);
        }
        settings.control = text("MESH_CONTROL");
        settings.advertise = text("MESH_ADVERTISE");
        settings.locality = text("MESH_LOCALITY").unwrap_or_default();
        settings.cache_dir = text("MESH_CACHE_DIR").map(PathBuf::from);
        settings.config =
            text("MESH_CONFIG").iter().flat_map(|list| parts(list)).map(PathBuf::from).collect();
        settings.identity_files = read_identity(text("MESH_CERT"), text("MESH_KEY"), text("MESH_BUNDLES"))?;
        // In a build that cannot ask it, it is another's business; unless nothing else says who this workload is.
        settings.workload_api = text("SPIFFE_ENDPOINT_SOCKET")
            .filter(|_| cfg!(feature = "spiffe") || !settings.has_identity_source());
        settings.svid = text("MESH_SVID");
        settings.overload = overload::read(text)?;
        settings.check()?;
        Ok(settings)
    }

    /// Judges the settings as a whole; what [`Self::from_variables`] returns has passed this already.
    ///
    /// # Errors
    ///
    /// Returns the first field that no workload can have, or that contradicts another one.
    pub fn check(&self) -> Result<(), SettingsError> {
        check_part("MESH_SERVICE", &self.service)?;
        check_part("MESH_NAMESPACE", &self.namespace)?;
        check_account(&self.service_account)?;
        check_labels(&self.labels)?;
        if self.service_port == 0 {
            return Err(error("MESH_SERVICE_PORT", "0 is no port callers can know; write 1 to 65535"));
        }
        check_locality(&self.locality)?;
        if let Some(advertise) = &self.advertise {
            Advertise::parse(advertise)?;
        }
        self.check_trust_domain()?;
        self.check_workload_api()?;
        self.check_sources()
    }

    /// Returns whether there is a source of an identity: without one, nothing is ever served by mutual TLS.
    pub fn has_identity_source(&self) -> bool {
        self.control.is_some() || self.brings_identity()
    }

    /// Returns whether the identity comes from elsewhere than the control endpoint.
    pub(crate) fn brings_identity(&self) -> bool {
        self.identity_files.is_some() || self.workload_api.is_some()
    }

    /// Returns the Workload API that the identity comes from, if it does.
    pub(crate) fn read_workload_api(&self) -> Result<Option<WorkloadApi>, SettingsError> {
        let parse = |uri: &String| WorkloadApi::parse(uri, self.svid.as_deref());
        self.workload_api.as_ref().map(parse).transpose()
    }

    fn check_workload_api(&self) -> Result<(), SettingsError> {
        let Some(uri) = &self.workload_api else {
            let why = "set, but SPIFFE_ENDPOINT_SOCKET is not: it names an SVID of a Workload API; unset it";
            return self.svid.as_ref().map_or(Ok(()), |_| Err(error("MESH_SVID", why)));
        };
        if self.identity_files.is_some() {
            let why = format!(
                "`{uri}`, but MESH_CERT is set: an identity comes from one place; unset one of the two"
            );
            return Err(error("SPIFFE_ENDPOINT_SOCKET", why));
        }
        if !cfg!(feature = "spiffe") {
            let why = format!(
                "`{uri}`, but this program is built without the feature `spiffe`: build it with, or unset it to run \
                 without an identity"
            );
            return Err(error("SPIFFE_ENDPOINT_SOCKET", why));
        }
        self.read_workload_api().map(|_| ())
    }

    fn check_trust_domain(&self) -> Result<(), SettingsError> {
        let domain = match &self.trust_domain {
            Some(name) => {
                name.parse::<TrustDomain>().map_err(|e| error("trust domain", format!("`{name}`: {e}")))?
            }
            None => return Ok(()),
        };
        SpiffeId::of_account(&domain, &self.namespace, &self.service_account)
            .map(|_| ())
            .map_err(|e| error("MESH_SERVICE_ACCOUNT", format!("`{}`: {e}", self.service_account)))
    }

    fn check_sources(&self) -> Result<(), SettingsError> {
        let Some(control) = &self.control else {
            return self.check_without_control();
        };
        let endpoint = Endpoint::parse(control).map_err(|e| error("MESH_CONTROL", e.to_string()))?;
        if let Some(path) = self.config.first() {
            return Err(error(
                "MESH_CONFIG",
                format!(
                    "`{}`, but MESH_CONTROL is `{control}`: configuration comes from one place; unset one of the two",
                    path.display()
                ),
            ));
        }
        match &self.join_token {
            Some(token) => self.check_token(token),
            // Over plain HTTP a certificate cannot be shown.
            None if self.brings_identity() && !endpoint.is_plain() => Ok(()),
            None if !self.brings_identity() && self.cache_dir.is_some() => Ok(()),
            None => Err(error(
                "MESH_CONTROL",
                format!(
                    "`{control}`, but there is nothing to join with; set MESH_JOIN_TOKEN (`meshctl token --namespace \
                     {} --service-account {}`), or MESH_CERT, MESH_KEY and MESH_BUNDLES, or \
                     SPIFFE_ENDPOINT_SOCKET",
                    self.namespace, self.service_account
                ),
            )),
        }
    }

    fn check_without_control(&self) -> Result<(), SettingsError> {
        if self.join_token.is_some() {
            return Err(error(
                "MESH_JOIN_TOKEN",
                "set, but MESH_CONTROL is not: a token is good for joining a control endpoint; set its URL, or unset \
                 the token",
            ));
        }
        if let Some(path) = &self.cache_dir {
            return Err(error(
                "MESH_CACHE_DIR",
                format!(
                    "`{}`, but MESH_CONTROL is not set: only what a control endpoint said is cached; unset it",
                    path.display()
                ),
            ));
        }
        Ok(())
    }

    fn check_token(&self, token: &JoinToken) -> Result<(), SettingsError> {
        let claims = token.claims();
        let differs = |variable, ours: &str, theirs: &str| {
            let why = format!(
                "`{ours}`, but MESH_JOIN_TOKEN is for `{theirs}`; a token is good for one namespace and one account: \
                 change one of the two"
            );
            if ours == theirs { Ok(()) } else { Err(error(variable, why)) }
        };
        differs("MESH_NAMESPACE", &self.namespace, &claims.namespace)?;
        differs("MESH_SERVICE_ACCOUNT", &self.service_account, &claims.service_account)
    }
}

/// The address that others are told to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advertise {
    pub(crate) ip: IpAddr,
    /// Where it differs from the port listened on (a container's published port, say).
    pub(crate) port: Option<u16>,
}

impl Advertise {
    pub(crate) fn parse(text: &str) -> Result<Self, SettingsError> {
        let parsed = match text.parse::<SocketAddr>() {
            Ok(address) => Some(Self { ip: address.ip(), port: Some(address.port()) }),
            Err(_) => text.parse().ok().map(|ip| Self { ip, port: None }),
        };
        match parsed {
            Some(Self { ip, port }) if can_be_dialled(ip) && port != Some(0) => Ok(Self { ip, port }),
            _ => Err(error(
                "MESH_ADVERTISE",
                format!("`{text}` is no address that others can dial; write `10.1.2.3` or `10.1.2.3:8080`"),
            )),
        }
    }
}

/// Returns whether `address` stands for one host, as the endpoint asks of a lease.
fn can_be_dialled(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::from([255, 255, 255, 255])
}

#[cfg(test)]
mod tests;
