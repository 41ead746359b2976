//! The command line. A flag wins over the environment variable of the same setting.

use crate::steer::{Habits, Percent};
use mesh::runtime::{Settings, identity::IdentityFiles};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What the command line and the environment say together.
pub struct Flags {
    /// The workload.
    pub settings: Settings,
    /// Where the mesh server listens.
    pub listen: String,
    /// Where plain HTTP is served, if anywhere.
    pub plain: Option<SocketAddr>,
    /// How it behaves when the request does not say.
    pub habits: Habits,
}

pub const USAGE: &str = "\
usage: echo --service NAME --version V [flag]...

  --service NAME          the service it is (MESH_SERVICE)
  --version V             sets the label version=V
  --namespace NS          default: default (MESH_NAMESPACE)
  --service-account SA    default: the service (MESH_SERVICE_ACCOUNT)
  --service-port P        the port by which callers know it, default 80 (MESH_SERVICE_PORT)
  --label K=V             more labels; may be repeated (MESH_LABELS)
  --locality R/Z/S        region, zone, subzone (MESH_LOCALITY)
  --listen ADDR           where the mesh calls it, default 127.0.0.1:0
  --plain ADDR            plain HTTP for whoever drives the probe: /mesh/call, /mesh/seen
  --admin ADDR            metrics and state (MESH_ADMIN)

  --control URL           the control endpoint (MESH_CONTROL)
  --token T               a join token (MESH_JOIN_TOKEN)
  --config FILE           instead of --control: Istio YAML; may be repeated (MESH_CONFIG)
  --cert F --key F        instead of --token: PEM chain and key (MESH_CERT, MESH_KEY)
  --bundle TD=F           roots of a trust domain; may be repeated (MESH_BUNDLES)

  --fail-percent N        answer 503 to N percent of requests
  --latency D             wait D before every answer, e.g. 20ms";

/// Reads `arguments` on top of the environment; `None` if they ask for help.
///
/// # Errors
///
/// Returns which flag or variable does not read, and why.
pub fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Flags>, String> {
    let Some(given) = Given::read(arguments)? else { return Ok(None) };
    let settings = settings(&given)?;
    Ok(Some(Flags {
        settings,
        listen: given.last("listen").unwrap_or("127.0.0.1:0").to_owned(),
        plain: given.last("plain").map(|text| address("plain", text)).transpose()?,
        habits: Habits {
            fail: given.last("fail-percent").map(|text| percent("fail-percent", text)).transpose()?,
            latency: given.last("latency").map(|text| duration("latency", text)).transpose()?,
        },
    }))
}

/// Reads `250ms`, `1.5s`, `2m`.
pub fn read_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_each = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * seconds_each).ok()
}

/// Flags that stand for one environment variable each.
const VARIABLES: [(&str, &str); 8] = [
    ("service", "MESH_SERVICE"),
    ("namespace", "MESH_NAMESPACE"),
    ("service-account", "MESH_SERVICE_ACCOUNT"),
    ("service-port", "MESH_SERVICE_PORT"),
    ("locality", "MESH_LOCALITY"),
    ("admin", "MESH_ADMIN"),
    ("control", "MESH_CONTROL"),
    ("token", "MESH_JOIN_TOKEN"),
];

/// Flags that have no variable, or hold more than one value.
const OTHERS: [&str; 10] =
    ["version", "label", "listen", "plain", "config", "cert", "key", "bundle", "fail-percent", "latency"];

/// Flags as they were given, in order.
struct Given(Vec<(String, String)>);

impl Given {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut given = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(None);
            }
            let Some(flag) = argument.strip_prefix("--") else {
                return Err(format!("`{argument}` is no flag"));
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if !OTHERS.contains(&name) && VARIABLES.iter().all(|(known, _)| *known != name) {
                return Err(format!("there is no flag --{name}"));
            }
            let value =
                inline.or_else(|| arguments.next()).ok_or_else(|| format!("--{name} needs a value"))?;
            given.push((name.to_owned(), value));
        }
        Ok(Some(Self(given)))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn last<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).last()
    }

    /// Returns the value of an environment variable, or of the flag that stands for it.
    fn variable(&self, variable: &str) -> Option<String> {
        let flag = VARIABLES.iter().find(|(_, known)| *known == variable);
        if let Some(value) = flag.and_then(|(name, _)| self.last(name)) {
            return Some(value.to_owned());
        }
        // One source of configuration, one of identity: the flag for the one rules out the variables for the other.
        let overruled = match variable {
            "MESH_CONTROL" => self.last("config").is_some(),
            "MESH_CONFIG" => self.last("control").is_some() || self.last("config").is_some(),
            "MESH_JOIN_TOKEN" => self.last("cert").is_some(),
            "MESH_CERT" | "MESH_KEY" | "MESH_BUNDLES" => {
                self.last("token").is_some() || self.last("cert").is_some()
            }
            _ => false,
        };
        if overruled { None } else { std::env::var(variable).ok() }
    }
}

fn settings(given: &Given) -> Result<Settings, String> {
    let mut settings =
        Settings::from_variables(|name| given.variable(name)).map_err(|error| error.to_string())?;
    if settings.service.is_empty() {
        return Err("--service is missing".to_owned());
    }
    if let Some(version) = given.last("version") {
        settings.labels.insert("version".to_owned(), version.to_owned());
    }
    for label in given.all("label") {
        let (name, value) = pair("label", label)?;
        settings.labels.insert(name, value);
    }
    if given.last("config").is_some() {
        settings.config = given.all("config").map(PathBuf::from).collect();
    }
    if let Some(files) = identity_files(given)? {
        settings.identity_files = Some(files);
    }
    Ok(settings)
}

fn identity_files(given: &Given) -> Result<Option<IdentityFiles>, String> {
    let bundles = given
        .all("bundle")
        .map(|text| pair("bundle", text).map(|(domain, file)| (domain, PathBuf::from(file))))
        .collect::<Result<Vec<_>, _>>()?;
    match (given.last("cert"), given.last("key")) {
        (Some(cert), Some(key)) if !bundles.is_empty() => {
            Ok(Some(IdentityFiles { cert: cert.into(), key: key.into(), bundles }))
        }
        (None, None) if bundles.is_empty() => Ok(None),
        _ => Err("--cert, --key and --bundle go together: give all three".to_owned()),
    }
}

fn pair(flag: &str, text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("--{flag} {text}: write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn address(flag: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("--{flag} {text}: write IP:PORT, e.g. 127.0.0.1:8080"))
}

fn percent(flag: &str, text: &str) -> Result<Percent, String> {
    Percent::parse(text).ok_or_else(|| format!("--{flag} {text}: write a number from 0 to 100"))
}

fn duration(flag: &str, text: &str) -> Result<Duration, String> {
    read_duration(text).ok_or_else(|| format!("--{flag} {text}: write a duration, e.g. 20ms"))
}
