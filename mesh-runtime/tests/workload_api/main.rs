//! Identity from a SPIFFE Workload API over a Unix socket: what is taken, what is taken back, and what is kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod agent;
#[allow(dead_code, reason = "shared with the tests of identity")]
#[path = "../identity/authority.rs"]
mod authority;

use agent::{Agent, Answer, Entry, Says, answer};
use authority::{Authority, DAY, Issued, order};
use mesh_core::identity::PeerRule;
use mesh_runtime::{
    Readiness, Settings, StartError, Workload,
    identity::{Alpn, Identity, IdentityError, Side, verify_svid},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, UnixTime, pem::PemObject as _};
use std::{
    future::pending,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

#[tokio::test(start_paused = true)]
async fn the_first_svid_is_the_identity_and_a_rotation_replaces_it_on_the_same_call() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let (first, second) = (a.issue(order().id(WEB)), a.issue(order().id(WEB)));
    let agent = node.agent(answer([entry(WEB, &first, &a), other(&a)]));
    let workload = node.start().await;
    assert_eq!(*shown(&workload).svid.chain(), first.chain);
    assert_eq!(shown(&workload).svid.id().as_str(), WEB);
    assert_eq!(workload.readiness(), Readiness::Ready);
    agent.say(answer([entry(WEB, &second, &a), other(&a)]));
    until("the rotation", || *shown(&workload).svid.chain() == second.chain).await;
    assert_eq!(agent.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_several_svids_the_one_that_is_named_is_taken() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let web = a.issue(order().id(WEB));
    let _agent = node.agent(answer([other(&a), entry(WEB, &web, &a).hint("outside")]));
    for name in [WEB, "outside"] {
        let mut settings = node.settings();
        settings.svid = Some(name.to_owned());
        let workload = Workload::start(settings).await.unwrap();
        until("the identity", || workload.identity().current().is_some()).await;
        assert_eq!(*shown(&workload).svid.chain(), web.chain, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_named_svid_that_is_no_longer_given_is_not_shown_any_more() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let web = || entry(WEB, &a.issue(order().id(WEB)), &a);
    let agent = node.agent(answer([other(&a), web()]));
    let mut settings = node.settings();
    settings.svid = Some(WEB.to_owned());
    let workload = Workload::start(settings).await.unwrap();
    until("the identity", || workload.identity().current().is_some()).await;
    agent.say(answer([other(&a)]));
    until("the redaction", || workload.identity().current().is_none()).await;
    let complaint = refused(&workload);
    assert!(complaint.contains("does not give the SVID of spiffe://a/web (MESH_SVID)"), "{complaint}");
    assert!(reason(&workload).contains("no identity yet"), "{}", reason(&workload));
    agent.say(answer([other(&a), web()]));
    until("its return", || workload.identity().current().is_some()).await;
    assert_eq!(agent.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_federated_trust_domain_is_believed_by_its_own_bundle_only_and_as_long_as_it_is_given() {
    let (node, a, b) = (Node::new(), Authority::new("a"), Authority::new("b"));
    let web = entry(WEB, &a.issue(order().id(WEB)), &a);
    let agent = node.agent(answer([web.clone()]).federated("spiffe://b", &b));
    let workload = node.start().await;
    let believes = |peer: &Issued| {
        let (bundles, now) = (&shown(&workload).bundles, UnixTime::now());
        verify_svid(&peer.chain[0], &[], bundles, Side::Server, now).is_ok()
    };
    let (member, forged) = (b.issue(order().id("spiffe://b/x")), a.issue(order().id("spiffe://b/x")));
    let reversed = b.issue(order().id("spiffe://a/x"));
    assert_eq!([&member, &forged, &reversed].map(believes), [true, false, false]);
    agent.say(answer([web]));
    until("the redaction", || shown(&workload).bundles.trust_domains().count() == 1).await;
    assert!(!believes(&member));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_no_use_changes_nothing_and_says_why() {
    let a = Authority::new("a");
    let good = a.issue(order().id(WEB));
    let web = entry(WEB, &good, &a);
    let changed = |change: fn(&mut Entry)| {
        let mut wrong = entry(WEB, &a.issue(order().id(WEB)), &a);
        change(&mut wrong);
        answer([wrong])
    };
    let mismatched = Entry { key: web.key.clone(), ..entry(WEB, &a.issue(order().id(WEB)), &a) };
    let past =
        order().id(WEB).with(|params| params.not_after = (std::time::SystemTime::now() - DAY / 2).into());
    let expired = entry(WEB, &a.issue(past), &a);
    let cases = [
        ("there is none in it", Answer::default()),
        ("x509_svid: it is empty", changed(|svid| svid.chain.clear())),
        ("x509_svid: it is no sequence", changed(|svid| svid.chain.truncate(99))),
        ("x509_svid: it is no sequence", changed(|svid| svid.chain = b"\x30\x84\xff\xff\xff\xff".to_vec())),
        ("certificate: ", changed(|svid| svid.chain = b"\x30\x00".to_vec())),
        ("private key: ", changed(|svid| svid.key.truncate(20))),
        ("private key: ", changed(|svid| svid.key.clear())),
        ("does not belong to the certificate", answer([mismatched])),
        ("the certificate in it is of", changed(|svid| svid.id = "spiffe://a/elsewhere".to_owned())),
        ("x509_svid: that of spiffe://a/web has expired", answer([expired])),
        ("bundle of trust domain `a`: it is empty", changed(|svid| svid.bundle.clear())),
        ("bundle of trust domain `a`: it is no sequence", changed(|svid| svid.bundle.truncate(9))),
        ("bundle of trust domain `a`: it is given twice", answer([web.clone()]).federated("a", &a)),
        ("bundle of trust domain `B`", answer([web.clone()]).federated("B", &a)),
    ];
    for (complaint, wrong) in cases {
        let node = Node::new();
        let agent = node.agent(answer([web.clone()]));
        let workload = node.start().await;
        agent.say(wrong.clone());
        until("two more calls", || agent.calls() > 2).await;
        assert_eq!(*shown(&workload).svid.chain(), good.chain, "{complaint}");
        agent.say(answer([web.clone()]));

        let mut settings = node.settings();
        settings.trust_domain = Some("a".to_owned());
        agent.say(wrong);
        let newcomer = Workload::start(settings).await.unwrap();
        until(complaint, || reason(&newcomer).contains(complaint)).await;
        assert!(newcomer.identity().current().is_none());
        assert!(refused(&newcomer).contains("sent an answer that is of no use"), "{}", refused(&newcomer));
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_gone_leaves_the_identity_in_use_and_is_found_when_it_is_back() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let (first, second) = (a.issue(order().id(WEB)), a.issue(order().id(WEB)));
    let agent = node.agent(answer([entry(WEB, &first, &a)]));
    let workload = node.start().await;
    agent.stop().await;
    sleep(Duration::from_secs(3600)).await;
    assert_eq!((refused(&workload), reason(&workload)), (String::new(), "ready".to_owned()));
    let agent = node.agent(answer([entry(WEB, &second, &a)]));
    until("its return", || *shown(&workload).svid.chain() == second.chain).await;
    // And so does one that says good-bye.
    agent.say(Says::Bye);
    until("more calls", || agent.calls() > 1).await;
    agent.say(answer([entry(WEB, &first, &a)]));
    until("its answer", || *shown(&workload).svid.chain() == first.chain).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_hangs_is_told_of_and_asked_again() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let agent = node.agent(Says::Nothing);
    let mut settings = node.settings();
    settings.trust_domain = Some("a".to_owned());
    let workload = Workload::start(settings).await.unwrap();
    until("the complaint", || reason(&workload).contains("has not answered within 10 s")).await;
    until("more calls", || agent.calls() > 2).await;
    agent.say(answer([entry(WEB, &a.issue(order().id(WEB)), &a)]));
    until("the identity", || reason(&workload) == "ready").await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_moves_any_more_is_found_out_and_replaced() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let (first, second) = (a.issue(order().id(WEB)), a.issue(order().id(WEB)));
    let agent = node.agent(answer([entry(WEB, &first, &a)]));
    let (line, mut settings) = (node.0.path().join("line.sock"), node.settings());
    settings.workload_api = Some(format!("unix://{}", line.display()));
    let frozen = watch::channel(false).0;
    let _line = Line::lay(&line, node.socket(), frozen.subscribe());
    let workload = Workload::start(settings).await.unwrap();
    frozen.send_replace(true);
    agent.say(answer([entry(WEB, &second, &a)]));
    // Without traffic of its own it would be silent for ever, and look like an agent that has nothing to say.
    until("another call", || agent.calls() > 1).await;
    until("the rotation", || *shown(&workload).svid.chain() == second.chain).await;
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_asked_about_again_until_there_is_an_identity() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let agent = node.agent(Says::Denied);
    let mut settings = node.settings();
    settings.trust_domain = Some("a".to_owned());
    let workload = Workload::start(settings).await.unwrap();
    until("the complaint", || reason(&workload).contains("PermissionDenied (no identity issued)")).await;
    until("more calls", || agent.calls() > 5).await;
    agent.say(answer([entry(WEB, &a.issue(order().id(WEB)), &a)]));
    until("the identity", || reason(&workload) == "ready").await;
}

#[tokio::test(start_paused = true)]
async fn a_denial_takes_the_identity_back_at_once_from_a_call_that_had_it() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let agent = node.agent(answer([entry(WEB, &a.issue(order().id(WEB)), &a)]));
    let workload = node.start().await;
    let denied = Instant::now();
    agent.say(Says::Denied);
    until("the redaction", || workload.identity().current().is_none()).await;
    assert!(denied.elapsed() < Duration::from_secs(1), "{:?}", denied.elapsed());
    assert!(refused(&workload).contains("PermissionDenied (no identity issued)"), "{}", refused(&workload));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_just_started_is_believed_a_denial_after_a_minute_of_them() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let web = || entry(WEB, &a.issue(order().id(WEB)), &a);
    let agent = node.agent(answer([web()]));
    let workload = node.start().await;
    agent.stop().await;
    let agent = node.agent(Says::Denied);
    until("three denials", || agent.calls() >= 3).await;
    assert!(workload.identity().current().is_some());
    until("the redaction", || workload.identity().current().is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_needs_the_agent_to_read_its_policies_waits_for_it_and_then_says_so() {
    let (node, a) = (Node::new(), Authority::new("a"));
    let error = Workload::start(node.settings()).await.unwrap_err();
    assert!(matches!(error, StartError::Identity(IdentityError::Missing(_))), "{error:?}");
    assert!(error.to_string().contains("agent.sock cannot be reached (No such file"), "{error}");
    let starting = tokio::spawn(Workload::start(node.settings()));
    sleep(Duration::from_secs(5)).await;
    let _agent = node.agent(answer([entry(WEB, &a.issue(order().id(WEB)), &a)]));
    assert!(starting.await.unwrap().is_ok());
}

const WEB: &str = "spiffe://a/web";

/// A directory with the socket of an agent.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("agent.sock")
    }

    fn agent(&self, says: impl Into<Says>) -> Agent {
        Agent::start(&self.socket(), says)
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::for_service("web");
        settings.workload_api = Some(format!("unix://{}", self.socket().display()));
        settings
    }

    async fn start(&self) -> Workload {
        Workload::start(self.settings()).await.unwrap()
    }
}

/// Returns the entry for the SVID of `id` that `authority`, the only root of its trust domain, has `issued`.
fn entry(id: &str, issued: &Issued, authority: &Authority) -> Entry {
    let key = PrivatePkcs8KeyDer::from_pem_slice(issued.key_pem().as_bytes()).unwrap();
    Entry {
        id: id.to_owned(),
        chain: issued.chain.iter().flat_map(|certificate| certificate.to_vec()).collect(),
        key: key.secret_pkcs8_der().to_vec(),
        bundle: authority.certificate.to_vec(),
        hint: String::new(),
    }
}

impl Entry {
    fn hint(mut self, hint: &str) -> Self {
        self.hint = hint.to_owned();
        self
    }
}

impl Answer {
    fn federated(mut self, domain: &str, authority: &Authority) -> Self {
        self.federated.insert(domain.to_owned(), authority.certificate.to_vec());
        self
    }
}

/// A line to an agent. What was connected when it froze stays so, and hears nothing.
struct Line(JoinHandle<()>);

impl Line {
    fn lay(from: &Path, to: PathBuf, frozen: watch::Receiver<bool>) -> Self {
        let listener = UnixListener::bind(from).unwrap();
        Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = UnixStream::connect(&to).await.unwrap();
                let mut frozen = frozen.clone();
                frozen.mark_unchanged();
                connections.spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        Ok(()) = frozen.changed() => pending().await,
                    }
                });
            }
        }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn other(authority: &Authority) -> Entry {
    let id = "spiffe://a/other";
    entry(id, &authority.issue(order().id(id)), authority)
}

fn shown(workload: &Workload) -> Arc<Identity> {
    workload.identity().current().expect("an identity")
}

/// Returns why no call by mutual TLS can be made; nothing if one can.
fn refused(workload: &Workload) -> String {
    let config = workload.identity().client_config(&PeerRule::Verified, Alpn::Any);
    config.err().map(|error| error.to_string()).unwrap_or_default()
}

fn reason(workload: &Workload) -> String {
    match workload.readiness() {
        Readiness::Ready => "ready".to_owned(),
        Readiness::NotReady(reason) => reason.to_string(),
    }
}

/// Waits until `condition` holds, for an hour of a clock that runs as fast as it can.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..36_000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("in an hour not once: {what}");
}
