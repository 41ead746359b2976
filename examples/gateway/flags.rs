//! The command line.

use mesh::{Mesh, MeshBuilder, runtime::control::JoinToken};
use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

/// What the command line says.
pub(crate) struct Flags {
    /// The workload that the edge is.
    pub(crate) mesh: MeshBuilder,
    /// Where the certificates are that the Gateway names by `credentialName`.
    pub(crate) credentials: Option<PathBuf>,
    /// Where to listen.
    pub(crate) listen: Listen,
    /// How many proxies in front of it are believed about where a request came from.
    pub(crate) trusted_proxies: usize,
}

/// Where to listen, by the port of the Gateway's server.
#[derive(Default)]
pub(crate) struct Listen {
    ports: BTreeMap<u16, String>,
    host: Option<String>,
}

pub(crate) const USAGE: &str = "\
usage: gateway --gateway NS/NAME (--config FILE... | --control URL --token T) [flag]...

  --gateway NS/NAME       the Gateway it enforces
  --config FILE...        Istio YAML
  --control URL           the control endpoint, instead of --config
  --token T               the join token of its account
  --cert F --key F        instead of --token: PEM chain and key of its identity in the mesh
  --bundle TD=F           roots of a trust domain; may be repeated
  --credentials DIR       what credentialName stands for: DIR/NAME.crt and NAME.key (NAME.ca for clients),
                          or DIR/NAME/tls.crt, tls.key (ca.crt)
  --listen PORT=ADDR      where the Gateway's port PORT is listened on; may be repeated
  --listen HOST           where all others are, under their own number; default: what their server binds, or 0.0.0.0
  --trusted-proxies N     believe N proxies in front about who called; default 0
  --admin ADDR            metrics and state";

/// Reads `arguments`; `None` if they ask for help.
///
/// # Errors
///
/// Returns which flag does not read, and why.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Flags>, String> {
    let mut given: Vec<(String, String)> = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some("help") => return Ok(None),
            Some(name) => {
                let value = arguments.next().ok_or_else(|| format!("--{name} needs a value"))?;
                given.push((name.to_owned(), value));
            }
            // Several files may stand behind one --config, as a shell spells them.
            None if given.last().is_some_and(|(name, _)| name == "config") => {
                given.push(("config".to_owned(), argument));
            }
            None => return Err(format!("`{argument}` is no flag")),
        }
    }
    settled(&given).map(Some)
}

fn settled(given: &[(String, String)]) -> Result<Flags, String> {
    let last =
        |flag: &str| given.iter().rev().find(|(name, _)| name == flag).map(|(_, value)| value.as_str());
    let gateway = last("gateway").and_then(|key| key.split_once('/'));
    let (namespace, name) = gateway.ok_or("--gateway: write the namespace and name of a Gateway, NS/NAME")?;
    let mut mesh = Mesh::builder(name).namespace(namespace).gateway(namespace, name);
    if let (Some(cert), Some(key)) = (last("cert"), last("key")) {
        mesh = mesh.identity_files(cert, key);
    }
    let (mut listen, mut credentials, mut trusted_proxies) = (Listen::default(), None, 0);
    for (flag, value) in given {
        mesh = match flag.as_str() {
            "config" => mesh.config(value),
            "control" => mesh.control(value),
            "token" => joining(mesh, value)?,
            "bundle" => {
                let (domain, file) = value.split_once('=').ok_or("--bundle: write DOMAIN=FILE")?;
                mesh.bundle(domain, file)
            }
            "admin" => mesh.admin(value.parse().map_err(|_| format!("--admin {value}: write IP:PORT"))?),
            "credentials" => {
                credentials = Some(value.into());
                mesh
            }
            "trusted-proxies" => {
                trusted_proxies = value.parse().map_err(|_| "--trusted-proxies: write a number")?;
                mesh
            }
            "listen" => {
                listen.add(value)?;
                mesh
            }
            "gateway" | "cert" | "key" => mesh,
            _ => return Err(format!("there is no flag --{flag}")),
        };
    }
    Ok(Flags { mesh, credentials, listen, trusted_proxies })
}

/// Adds a token; it says which account of which namespace the edge is.
fn joining(mesh: MeshBuilder, token: &str) -> Result<MeshBuilder, String> {
    let token = JoinToken::parse(token).map_err(|error| format!("--token: {error}"))?;
    let claims = token.claims();
    Ok(mesh
        .namespace(claims.namespace.clone())
        .service_account(claims.service_account.clone())
        .join_token(token))
}

impl Listen {
    fn add(&mut self, value: &str) -> Result<(), String> {
        match value.split_once('=') {
            None => self.host = Some(value.to_owned()),
            Some((port, address)) => {
                let port = port.parse().map_err(|_| format!("--listen {value}: write PORT=ADDR or HOST"))?;
                self.ports.insert(port, address.to_owned());
            }
        }
        Ok(())
    }

    /// Returns where the servers at `port` are listened for, of which the first binds `bind`.
    pub(crate) fn address(&self, port: u16, bind: Option<IpAddr>) -> String {
        match (self.ports.get(&port), &self.host, bind) {
            (Some(address), _, _) => address.clone(),
            (None, Some(host), _) => format!("{host}:{port}"),
            (None, None, Some(IpAddr::V6(bind))) => format!("[{bind}]:{port}"),
            (None, None, Some(bind)) => format!("{bind}:{port}"),
            (None, None, None) => format!("0.0.0.0:{port}"),
        }
    }
}
