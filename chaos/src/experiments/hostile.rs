//! E9: peers with bad certificates, and peers with a good one and bad intentions, while others call.
//!
//! Every kind of certificate is judged in mesh-runtime's tests, every kind of abuse of HTTP in mesh-server's. Here they
//! come together, and what counts is what the others notice, and what is left of it.

use super::{Bench, Rules, compare_p99, count_failures};
use crate::{
    Failed,
    intruder::{
        Authority, Card,
        frames::{Said, attack, continuation, hpack_bomb, rapid_reset},
    },
    load::{Ask, Load, Pace},
    report::{Findings, Unfinished},
    town::{Echo, Town, warm_up},
    usage::{self, Usage},
};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, date_time_ymd};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval, sleep},
};
use tokio_rustls::client::TlsStream;

pub(super) async fn run(bench: &Bench<'_>) -> Result<Findings, Unfinished> {
    let town = bench.town(&format!("{STRICT}---{}", Rules::BASE.text())).await?;
    let [victim] =
        <[Echo; 1]>::try_from(town.echoes("replica", 1).await?).map_err(|_| "there is no victim")?;
    let get = Ask::get("http://replica/");
    warm_up(&town, &get).await?;
    let load = Load::start(&town.caller, get, Pace::Even(bench.options.pick(500.0, 50.0)));
    sleep(bench.options.seconds(10, 2)).await;

    let mut findings = bench.findings();
    let process = victim.process.id();
    let before = Usage::of(process, 0).ok_or("the victim is gone")?;
    let begun = load.now();
    let (attacked, peak_kib) = watched(process, attack_all(bench, &mut findings, &town, &victim)).await;
    let slow = attacked?;
    let left = left_open(process, &before).await;
    let calls = load.end().await;
    drop(slow);

    count_failures(&mut findings, &calls);
    let failed = findings.failed;
    findings.count("calls of the others that failed", failed, "0", failed == 0);
    let growth = (peak_kib - before.resident_kib) / 1024.0;
    let shown = format!("{growth:+.1} MiB (from {:.1})", before.resident_kib / 1024.0);
    findings.count("memory of the victim, at its most", shown, "< +50 MiB", growth < 50.0);
    findings.count("descriptors left", format!("{left:+}"), "<= +8", left <= 8.0);
    let panics = victim.process.panics();
    findings.count("panics", panics, "0", panics == 0);
    let (without, during) = (calls.due_in(Duration::ZERO..begun), calls.due_in(begun..Duration::MAX));
    compare_p99(&mut findings, "p99 of the others meanwhile, with that before", &without, &during, 3.0);
    Ok(findings)
}

const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

/// Waits for `attack`; returns the most memory that the process had meanwhile, in KiB, too.
async fn watched<T>(process: u32, attack: impl Future<Output = T>) -> (T, f64) {
    let (mut attack, mut tick, mut most) = (pin!(attack), interval(Duration::from_millis(100)), 0.0);
    loop {
        tokio::select! {
            done = &mut attack => return (done, most),
            _ = tick.tick() => {
                most = Usage::of(process, 0).map_or(most, |usage| usage.resident_kib.max(most));
            }
        }
    }
}

/// Returns how many descriptors more the victim has than `before`, as soon as that is next to none, or after a minute.
async fn left_open(process: u32, before: &Usage) -> f64 {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let left = Usage::of(process, 0).map_or(0.0, |now| now.descriptors - before.descriptors);
        if left <= 8.0 || Instant::now() >= until {
            return left;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Does all of it; returns the connections that are still held at this end.
async fn attack_all(
    bench: &Bench<'_>,
    findings: &mut Findings,
    town: &Town,
    victim: &Echo,
) -> Result<Vec<Slow>, Failed> {
    let identity = town.caller.workload().identity().current().ok_or("the caller has no identity")?;
    let domain = identity.svid.id().trust_domain().to_owned();
    let stolen = Authority::stolen(&town.data(), &domain)?;
    let id = format!("spiffe://{domain}/ns/default/sa/hostile");
    show_cards(findings, &cards(&stolen, &domain, &id)?, &victim.mesh).await;

    let card = Arc::new(stolen.issue(&[&id], |_| {})?);
    let slow = hold_slow(findings, &card, &victim.mesh, bench.options.pick(2_000, 200)).await?;
    let times = bench.options.pick(8, 2);
    let mut sent_away = 0;
    for _ in 0..times {
        let is_ended = |said: Option<Said>| said.is_some_and(|said| !said.survived);
        sent_away += usize::from(is_ended(attack(&card, &victim.mesh, rapid_reset(RESETS)).await));
        sent_away += usize::from(is_ended(attack(&card, &victim.mesh, continuation(50_000)).await));
        let bombed = attack(&card, &victim.mesh, hpack_bomb()).await;
        sent_away += usize::from(bombed.is_some_and(|said| said.fine.is_empty()));
    }
    let all = 3 * times;
    findings.count("resets, continuations, bombs sent away", sent_away, &all.to_string(), sent_away == all);
    let handled = victim.handled_of(town, &id).await?;
    let (asked, max) = (RESETS as usize * times, RESETS as usize * times / 10);
    let bar = format!("<= {max}");
    findings.count(
        "requests handled of those that were reset",
        format!("{handled} of {asked}"),
        &bar,
        handled <= max,
    );
    let flood = flood(&card, &victim.mesh, bench.options.pick(2_000, 200)).await;
    findings.note(format!("{flood} handshakes of the flood were made"));
    Ok(slow)
}

const RESETS: u32 = 20_000;

/// What is shown, and whether who shows it is to be served.
fn cards(stolen: &Authority, domain: &str, id: &str) -> Result<Vec<(&'static str, Card, bool)>, Failed> {
    let issue = |ids: &[&str], change: fn(&mut CertificateParams)| stolen.issue(ids, change);
    let other = format!("spiffe://{domain}/ns/default/sa/other");
    Ok(vec![
        ("a good one", issue(&[id], |_| {})?, true),
        ("none", Card::none()?, false),
        ("one of an authority nobody knows", Authority::foreign()?.issue(&[id], |_| {})?, false),
        ("one that has expired", issue(&[id], |it| it.not_after = date_time_ymd(2020, 1, 1))?, false),
        ("one of the future", issue(&[id], |it| it.not_before = date_time_ymd(2200, 1, 1))?, false),
        ("one with two IDs", issue(&[id, &other], |_| {})?, false),
        ("one without an ID", issue(&[], |_| {})?, false),
        ("one of another trust domain", issue(&["spiffe://elsewhere/ns/default/sa/caller"], |_| {})?, false),
        (
            "one of an authority",
            issue(&[id], |it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))?,
            false,
        ),
        (
            "one for servers only",
            issue(&[id], |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])?,
            false,
        ),
    ])
}

async fn show_cards(findings: &mut Findings, cards: &[(&str, Card, bool)], address: &str) {
    let mut wrong = 0;
    for (what, card, is_good) in cards {
        if card.is_served(address).await != *is_good {
            wrong += 1;
            findings.note(format!("{what} was {}", if *is_good { "refused" } else { "accepted" }));
        }
    }
    let shown = format!("{wrong} of {}", cards.len());
    findings.count("certificates judged wrongly", shown, "0", wrong == 0);
}

/// A connection on which nothing more will be said.
#[expect(dead_code, reason = "it is held, that is all")]
enum Slow {
    Bare(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens `count` connections: silent ones, ones that begin a handshake, and ones that begin a request.
async fn hold_slow(
    findings: &mut Findings,
    card: &Card,
    address: &str,
    count: usize,
) -> Result<Vec<Slow>, Failed> {
    // The victim has as many descriptors as this process, and both have other uses for some.
    let count = count.min(usage::descriptors_max().unwrap_or(1024).saturating_sub(500));
    let mut slow = Vec::new();
    for number in 0..count {
        slow.push(match number % 3 {
            0 => Slow::Bare(TcpStream::connect(address).await?),
            1 => {
                let mut stream = TcpStream::connect(address).await?;
                // A record of TLS that holds a handshake.
                stream.write_all(b"\x16\x03\x01").await?;
                Slow::Bare(stream)
            }
            _ => {
                let mut stream = card.connect(address, "http/1.1").await?;
                stream.write_all(b"GET / HTT").await?;
                Slow::Tls(Box::new(stream))
            }
        });
    }
    findings.note(format!("{count} slow connections, held until the victim closed them"));
    Ok(slow)
}

/// Makes `count` handshakes, a hundred at a time; returns how many came to an end.
async fn flood(card: &Arc<Card>, address: &str, count: usize) -> usize {
    let mut under_way = JoinSet::new();
    let mut made = 0;
    for _ in 0..count {
        if under_way.len() >= 100 {
            made += usize::from(matches!(under_way.join_next().await, Some(Ok(true))));
        }
        let (card, address) = (Arc::clone(card), address.to_owned());
        under_way.spawn(async move { card.connect(&address, "h2").await.is_ok() });
    }
    while let Some(ended) = under_way.join_next().await {
        made += usize::from(matches!(ended, Ok(true)));
    }
    made
}
