//! The command line. A flag wins over the environment variable of the same setting.

use crate::steer::{Habits, Percent};
use mesh::{core::config::duration, runtime::Settings};
use std::{net::SocketAddr, time::Duration};

/// What the command line and the environment say together.
pub(crate) struct Flags {
    /// The workload.
    pub(crate) settings: Settings,
    /// Where the mesh server listens.
    pub(crate) listen: String,
    /// Where plain HTTP is served, if anywhere.
    pub(crate) plain: Option<SocketAddr>,
    /// How it behaves when the request does not say.
    pub(crate) habits: Habits,
}

pub(crate) const USAGE: &str = "\
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
  --config FILE...        instead of --control: Istio YAML; may be repeated (MESH_CONFIG)
  --cert F --key F        instead of --token: PEM chain and key (MESH_CERT, MESH_KEY)
  --bundle TD=F...        roots of a trust domain; may be repeated (MESH_BUNDLES)

  --fail-percent N        answer 503 to N percent of requests
  --latency D             wait D before every answer, e.g. 20ms
  --at-once N             work on N requests at one time; the others wait";

/// Reads `arguments` on top of the environment; `None` if they ask for help.
///
/// # Errors
///
/// Returns which flag or variable does not read, and why.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Flags>, String> {
    let Some(given) = Given::read(arguments)? else { return Ok(None) };
    let settings = settings(&given)?;
    Ok(Some(Flags {
        settings,
        listen: given.last("listen").unwrap_or("127.0.0.1:0").to_owned(),
        plain: given.last("plain").map(|text| address("plain", text)).transpose()?,
        habits: Habits {
            fail: given.last("fail-percent").map(|text| percent("fail-percent", text)).transpose()?,
            latency: given.last("latency").map(|text| read_duration("latency", text)).transpose()?,
            at_once: given.last("at-once").map(at_once).transpose()?,
        },
    }))
}

/// Flags that stand for an environment variable each.
const VARIABLES: [(&str, &str); 12] = [
    ("service", "MESH_SERVICE"),
    ("namespace", "MESH_NAMESPACE"),
    ("service-account", "MESH_SERVICE_ACCOUNT"),
    ("service-port", "MESH_SERVICE_PORT"),
    ("locality", "MESH_LOCALITY"),
    ("admin", "MESH_ADMIN"),
    ("control", "MESH_CONTROL"),
    ("token", "MESH_JOIN_TOKEN"),
    ("config", "MESH_CONFIG"),
    ("cert", "MESH_CERT"),
    ("key", "MESH_KEY"),
    ("bundle", "MESH_BUNDLES"),
];

/// Those of them that take several values, and may be repeated; their variables separate the values with commas.
const LISTS: [&str; 2] = ["config", "bundle"];

const LABELS: &str = "MESH_LABELS";
const CACHE: &str = "MESH_CACHE_DIR";

/// Flags that stand for no variable, or only for a part of one.
const OTHERS: [&str; 7] = ["version", "label", "listen", "plain", "fail-percent", "latency", "at-once"];

/// Flags as they were given, in order.
struct Given(Vec<(String, String)>);

/// Returns the flag that a bare argument belongs to: the one before it, if that takes several values.
fn list_of(given: &[(String, String)], argument: &str) -> Result<String, String> {
    match given.last() {
        Some((flag, _)) if LISTS.contains(&flag.as_str()) => Ok(flag.clone()),
        _ => Err(format!("`{argument}` is no flag")),
    }
}

impl Given {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut given = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                return Ok(None);
            }
            let Some(flag) = argument.strip_prefix("--") else {
                given.push((list_of(&given, &argument)?, argument));
                continue;
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

    /// Returns the value of an environment variable, or of the flags that stand for it.
    fn variable(&self, variable: &str) -> Option<String> {
        if variable == LABELS {
            return Some(self.labels());
        }
        if variable == CACHE && self.last("config").is_some() {
            // Only what a control endpoint said is cached.
            return None;
        }
        let Some((flag, _)) = VARIABLES.iter().find(|(_, known)| *known == variable) else {
            return std::env::var(variable).ok();
        };
        let given: Vec<&str> = self.all(flag).collect();
        match given.last() {
            Some(_) if LISTS.contains(flag) => Some(given.join(",")),
            Some(last) => Some((*last).to_owned()),
            None if self.overrules(flag) => None,
            None => std::env::var(variable).ok(),
        }
    }

    /// Returns whether a flag that was given makes the variable of `flag` pointless: there is one source of
    /// configuration, and one of identity.
    fn overrules(&self, flag: &str) -> bool {
        let rivals: &[&str] = match flag {
            "control" => &["config"],
            "config" => &["control"],
            "token" => &["cert", "config"],
            "cert" | "key" | "bundle" => &["token"],
            _ => &[],
        };
        rivals.iter().any(|rival| self.last(rival).is_some())
    }

    /// Returns the labels of the environment and then those of the flags, which win.
    fn labels(&self) -> String {
        let of_environment = std::env::var(LABELS).into_iter();
        let of_flags = self.all("label").map(str::to_owned);
        let version = self.last("version").map(|version| format!("version={version}"));
        of_environment
            .chain(of_flags)
            .chain(version)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(",")
    }
}

fn settings(given: &Given) -> Result<Settings, String> {
    Settings::from_variables(|name| given.variable(name)).map_err(|error| {
        let flag = VARIABLES.iter().find(|(_, variable)| *variable == error.variable);
        match flag {
            Some((flag, _)) => format!("--{flag} or {error}"),
            None if error.variable == LABELS => format!("--version, --label or {error}"),
            None => error.to_string(),
        }
    })
}

fn address(flag: &str, text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("--{flag} {text}: write IP:PORT, e.g. 127.0.0.1:8080"))
}

fn percent(flag: &str, text: &str) -> Result<Percent, String> {
    Percent::parse(text).ok_or_else(|| format!("--{flag} {text}: write a number from 0 to 100"))
}

fn at_once(text: &str) -> Result<usize, String> {
    // A number beyond the second bound is no limit.
    let number = text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| format!("--at-once {text}: write a number from 1 to 1000000"))
}

fn read_duration(flag: &str, text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| format!("--{flag}: {error}"))
}
