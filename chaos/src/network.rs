//! Packets that do not arrive: a network namespace in which this process may drop them, if the system gives it one.
//!
//! Nothing outside of the namespace is touched: it has a loopback of its own.

use crate::Failed;
use std::{
    convert::Infallible,
    ffi::OsStr,
    process::{Command, Stdio},
};

/// What may be done to packets.
#[derive(Debug)]
pub(crate) enum Network {
    /// This process has a loopback of its own, with packet filters.
    Own(Filters),
    /// It has not, and why.
    Shared(String),
}

/// The packet filters of a namespace that is this process's own: only [`enter`] makes one.
#[derive(Debug)]
pub(crate) struct Filters(());

/// Goes on in a network namespace if that is possible; called before there is any other thread.
pub(crate) fn enter() -> Network {
    let namespace = std::fs::read_link("/proc/self/ns/net").unwrap_or_default().into_os_string();
    let entered = match std::env::var_os(LEFT) {
        Some(left) if left != namespace && !namespace.is_empty() => return Network::Own(Filters(())),
        Some(_) => Err(format!("{LEFT} is set, and this is the namespace it names").into()),
        // Only returns if it failed.
        None => probe().and_then(|()| reenter(&namespace)),
    };
    match entered {
        Ok(never) => match never {},
        Err(why) => Network::Shared(why.to_string()),
    }
}

/// Drops every packet to and from a port, until it is dropped itself.
pub(crate) struct Dropping {
    ports: Vec<u16>,
}

impl Filters {
    /// Drops what goes to `ports` and what comes from them.
    ///
    /// # Errors
    ///
    /// Returns why nothing is dropped.
    pub(crate) fn drop_ports(&self, ports: &[u16]) -> Result<Dropping, Failed> {
        let mut dropping = Dropping { ports: Vec::new() };
        for &port in ports {
            dropping.ports.push(port);
            for rule in of_port(port) {
                iptables("-I", &rule)?;
            }
        }
        Ok(dropping)
    }

    /// Loses one packet in a hundred from now on.
    ///
    /// # Errors
    ///
    /// Returns why none is lost.
    pub(crate) fn lose_one_percent(&self) -> Result<Losing, Failed> {
        iptables("-I", LOSS)?;
        Ok(Losing)
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        for rule in self.ports.iter().flat_map(|&port| of_port(port)) {
            // The namespace ends with the process anyway.
            let _ = iptables("-D", &rule);
        }
    }
}

/// Loses packets until it is dropped.
pub(crate) struct Losing;

impl Drop for Losing {
    fn drop(&mut self) {
        let _ = iptables("-D", LOSS);
    }
}

const LOSS: &str = "-p tcp -m statistic --mode random --probability 0.01";

fn of_port(port: u16) -> [String; 2] {
    ["dport", "sport"].map(|side| format!("-p tcp --{side} {port}"))
}

fn iptables(action: &str, rule: &str) -> Result<(), Failed> {
    said(&mut shell(&format!("iptables {action} INPUT {rule} -j DROP")))
}

/// Tries, in a namespace that ends at once, all that will be done.
fn probe() -> Result<(), Failed> {
    let rules = of_port(1).into_iter().chain([LOSS.to_owned()]);
    let tries: String = rules.map(|rule| format!(" && iptables -I INPUT {rule} -j DROP")).collect();
    let script = format!("{UP}{tries}");
    said(&mut unshare(&script))
}

/// Becomes this very program again, in a namespace.
#[cfg(unix)]
fn reenter(left: &OsStr) -> Result<Infallible, Failed> {
    let mut command = unshare(&format!("{UP} && exec \"$0\" \"$@\""));
    command.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(LEFT, left);
    Err(std::os::unix::process::CommandExt::exec(&mut command).into())
}

#[cfg(not(unix))]
fn reenter(_: &OsStr) -> Result<Infallible, Failed> {
    Err("only Linux has network namespaces".into())
}

/// Holds the name of the namespace that was left: no filter is ever set in that one.
const LEFT: &str = "CHAOS_NETWORK_LEFT";
const UP: &str = "ip link set lo up";

/// Runs a script in a network namespace, as the root of a user namespace, so that it needs no privilege.
fn unshare(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", script]).env("PATH", path());
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("PATH", path());
    command
}

/// The tools of the network are not on everybody's path.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Runs `command`, and returns what it complained of.
fn said(command: &mut Command) -> Result<(), Failed> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().next().unwrap_or("it did not say why").to_owned().into())
}
