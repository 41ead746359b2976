//! Two judges of the same bytes: Envoy's RBAC filters and our server, under the same policies.
//!
//! `MESH_SEED` and `MESH_REQUESTS` choose what is asked and how often; each run prints both.

mod difference;
mod ours;
mod policy;
mod rbac;
mod request;

use crate::{
    certificates::Authority,
    envoy::Envoy,
    sidecar::{Inbound, Mode, inbound},
    wire::{Wire, connect},
};
use difference::{Verdict, explain};
use mesh::{core::identity::PeerRule, runtime::identity::Alpn};
use ours::Ours;
use request::Request;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

/// How many sets of policies there are, each on a listener of its own.
const SETS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an Envoy: interop/envoy/run"]
async fn what_envoy_denies_is_never_allowed_and_every_other_difference_is_written_down() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seed = number("MESH_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let requests = number("MESH_REQUESTS").unwrap_or(12_000);
    eprintln!("MESH_SEED={seed} MESH_REQUESTS={requests}");

    let mut dice = fastrand::Rng::with_seed(seed);
    let sets: Vec<Vec<Value>> = (0..SETS).map(|_| policy::policies(&mut dice)).collect();
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let envoy = envoy(directory.path(), &authority, &sets);
    let ours = Ours::start(&authority).await;
    let callers = callers(&authority);
    let mut tally = Tally::default();
    tokio::task::block_in_place(|| {
        for (index, set) in sets.iter().enumerate() {
            let yaml = set.iter().map(|policy| format!("{policy}\n---\n")).collect::<String>();
            ours.obey(&yaml.replace(policy::OWN_PORT, &ours.address.port().to_string()));
            let mut theirs = Judge::new(envoy.address(&index.to_string()), &callers);
            let mut our = Judge::new(ours.address, &callers);
            for _ in 0..requests / SETS as u64 {
                let request = Request::random(&mut dice, callers.len());
                let verdicts = (theirs.ask(&request), our.ask(&request));
                tally.note(&request, verdicts, set);
            }
        }
    });
    tally.report();
}

/// Starts an Envoy with a listener for each set, that answers whatever its filters let through.
fn envoy(directory: &std::path::Path, authority: &Authority, sets: &[Vec<Value>]) -> Envoy {
    let own = authority.issue("echo");
    let ports = free_ports(sets.len());
    let both = sets.iter().zip(ports).enumerate().map(|(index, (set, port))| {
        let text = Value::from(set.clone()).to_string().replace(policy::OWN_PORT, &port.to_string());
        let policies: Vec<Value> = serde_json::from_str(&text).unwrap();
        inbound(&Inbound {
            name: &index.to_string(),
            listen: port,
            mode: Mode::Permissive,
            own: &own,
            roots: &authority.roots(),
            callers: &json!({"prefix": "spiffe://"}),
            application: None,
            filters: &rbac::filters(&policies),
        })
    });
    let (listeners, _): (Vec<_>, Vec<_>) = both.unzip();
    Envoy::start(directory, "judge", &listeners, &[])
}

/// A policy names the port of its listener, so ports are chosen before there are listeners.
fn free_ports(count: usize) -> Vec<u16> {
    let taken: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    taken.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

type Caller = Option<Arc<rustls::ClientConfig>>;

/// Returns how each caller connects; the last one in plaintext.
fn callers(authority: &Authority) -> Vec<Caller> {
    let known = policy::CALLERS.map(|(namespace, account)| {
        let files = authority.issue_id(&policy::id_of(namespace, account), account);
        let store = ours::store(authority, &files);
        Some(store.client_config(&PeerRule::Verified, Alpn::Http1).unwrap())
    });
    known.into_iter().chain([None]).collect()
}

/// A server that judges, and a connection to it for every caller.
struct Judge<'a> {
    address: SocketAddr,
    callers: &'a [Caller],
    wires: Vec<Option<Wire<Box<dyn Stream>>>>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

impl<'a> Judge<'a> {
    fn new(address: SocketAddr, callers: &'a [Caller]) -> Self {
        Self { address, callers, wires: callers.iter().map(|_| None).collect() }
    }

    /// Asks on a connection that stands, or on a new one where that has been closed meanwhile.
    fn ask(&mut self, request: &Request) -> Verdict {
        let kept = self.wires[request.caller].take();
        let mut wire = kept.unwrap_or_else(|| self.connect(request.caller).unwrap());
        match wire.ask(&request.bytes()) {
            Ok(answer) => {
                self.wires[request.caller] = (!answer.closes).then_some(wire);
                verdict(answer.reply.status)
            }
            Err(_) => Verdict::Refused,
        }
    }

    fn connect(&self, caller: usize) -> io::Result<Wire<Box<dyn Stream>>> {
        let tcp = connect(self.address)?;
        let stream: Box<dyn Stream> = match &self.callers[caller] {
            None => Box::new(tcp),
            Some(config) => {
                let name = "echo.default".try_into().map_err(io::Error::other)?;
                let tls =
                    rustls::ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Box::new(rustls::StreamOwned::new(tls, tcp))
            }
        };
        Ok(Wire::new(stream))
    }
}

fn verdict(status: u16) -> Verdict {
    match status {
        200 => Verdict::Allowed,
        403 => Verdict::Denied,
        400..500 => Verdict::Refused,
        _ => panic!("{status} is no verdict"),
    }
}

/// How often which verdicts met.
#[derive(Default)]
struct Tally {
    verdicts: BTreeMap<String, u64>,
    explained: BTreeMap<&'static str, u64>,
    unexplained: Vec<String>,
}

impl Tally {
    fn note(&mut self, request: &Request, (envoy, ours): (Verdict, Verdict), set: &[Value]) {
        *self.verdicts.entry(format!("Envoy {envoy:?}, ours {ours:?}")).or_default() += 1;
        if envoy == ours {
            return;
        }
        let policies = Value::from(set.to_vec()).to_string();
        match explain(request, &policies, envoy, ours) {
            Some(why) => *self.explained.entry(why).or_default() += 1,
            None => self.unexplained.push(format!(
                "Envoy {envoy:?}, ours {ours:?}: caller {}, {:?} under {policies}",
                request.caller,
                request.to_string(),
            )),
        }
    }

    #[track_caller]
    fn report(&self) {
        for (verdicts, count) in &self.verdicts {
            eprintln!("{count:7} {verdicts}");
        }
        for (why, count) in &self.explained {
            let page = include_str!("../../interop/envoy/DIFFERENCES.md");
            assert!(page.contains(&format!("\n## {why}\n")), "{why} is not in DIFFERENCES.md");
            eprintln!("{count:7} differ: {why}");
        }
        let count = self.unexplained.len();
        // What Envoy denies and we allow comes first.
        let grave = |text: &&String| text.starts_with("Envoy Denied");
        let (first, rest): (Vec<_>, Vec<_>) = self.unexplained.iter().partition(grave);
        let shown: Vec<_> = first.into_iter().chain(rest).take(8).map(String::as_str).collect();
        assert!(count == 0, "{count} unexplained:\n{}", shown.join("\n"));
    }
}
