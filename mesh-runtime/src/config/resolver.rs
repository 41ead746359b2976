//! Resolves the names among the endpoints, again and again, and hands the answers to the configuration in force.
//!
//! The last good answer stays: a lookup that fails, or finds nothing, changes nothing. It does not speak DNS itself: what
//! the system's resolver does with `/etc/hosts`, search lists and caches is what the user expects of a name.

use super::{ConfigStore, Names};
use crate::clock::ThreadDice;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use mesh_core::{dice::Dice, registry::Answers};
use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    net::lookup_host,
    select,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

/// Resolves the names that the configuration in force has, for ever.
pub(crate) async fn run(store: Arc<ConfigStore>) {
    let names = store.names();
    let take = async move |answers| {
        let store = Arc::clone(&store);
        let taken = tokio::task::spawn_blocking(move || store.resolve(answers)).await;
        if taken.is_err_and(|error| error.is_panic()) {
            tracing::error!("what names stand for could not be compiled (a defect)");
        }
    };
    follow(names, system, ThreadDice, take).await;
}

/// Asks the system's resolver.
async fn system(name: Arc<str>) -> io::Result<Vec<IpAddr>> {
    // Port 0: only the address is wanted.
    let found = timeout(LOOKUP_LIMIT, lookup_host((&*name, 0))).await??;
    Ok(found.map(|address| address.ip()).collect())
}

/// Looks `names` up with `lookup`, and gives `take` all answers whenever one of them is new.
async fn follow<F: Future<Output = io::Result<Vec<IpAddr>>>>(
    mut names: watch::Receiver<Names>,
    lookup: impl Fn(Arc<str>) -> F,
    mut dice: impl Dice,
    take: impl AsyncFn(Answers),
) {
    let look_up = async |name: Arc<str>| (Arc::clone(&name), lookup(name).await);
    let (mut schedule, mut answers) = (Schedule::default(), Answers::default());
    let mut under_way = FuturesUnordered::new();
    names.mark_changed();
    loop {
        while under_way.len() < LOOKUPS_MAX
            && let Some(name) = schedule.start(Instant::now())
        {
            under_way.push(look_up(name));
        }
        let next = schedule.next().filter(|_| under_way.len() < LOOKUPS_MAX);
        let mut answered = None;
        select! {
            changed = names.changed() => {
                if changed.is_err() {
                    return;
                }
                schedule.on_names(&names.borrow_and_update(), Instant::now());
                answers.retain(|name| schedule.wants(name));
            }
            Some(found) = under_way.next() => answered = Some(found),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
        let mut news = false;
        while let Some((name, found)) = answered {
            let wait = jittered(if found.is_ok() { REFRESH } else { RETRY }, &mut dice);
            if schedule.on_answer(&name, &found, Instant::now() + wait) {
                news |= answers.insert(&name, &preferred(found.unwrap_or_default()));
            }
            // Names that were asked for together are answered together: one compilation for all.
            answered = under_way.next().now_or_never().flatten();
        }
        if news {
            take(answers.clone()).await;
        }
    }
}

/// When each name is to be looked up.
#[derive(Debug, Default)]
struct Schedule {
    names: BTreeMap<Arc<str>, Due>,
}

#[derive(Debug, Default)]
struct Due {
    /// `None` while it is being looked up.
    at: Option<Instant>,
    is_failing: bool,
}

impl Schedule {
    /// Wants exactly these names from now on; those that are new, at once.
    fn on_names(&mut self, names: &[Arc<str>], now: Instant) {
        self.names.retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            self.names.entry(Arc::clone(name)).or_insert_with(|| Due { at: Some(now), is_failing: false });
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Returns a name that is due at `now`, and waits for its answer.
    fn start(&mut self, now: Instant) -> Option<Arc<str>> {
        let (name, due) = self.names.iter_mut().find(|(_, due)| due.at.is_some_and(|at| at <= now))?;
        due.at = None;
        Some(Arc::clone(name))
    }

    /// Returns when the next name is due.
    fn next(&self) -> Option<Instant> {
        self.names.values().filter_map(|due| due.at).min()
    }

    /// Takes note of the end of a lookup; the next one is due at `at`. Returns whether the name is still wanted.
    fn on_answer(&mut self, name: &Arc<str>, found: &io::Result<Vec<IpAddr>>, at: Instant) -> bool {
        let Some(due) = self.names.get_mut(name) else { return false };
        let was_failing = due.is_failing;
        *due = Due { at: Some(at), is_failing: found.is_err() };
        match found {
            Err(error) if !was_failing => {
                tracing::warn!(%name, %error, "a name cannot be resolved; the last answer, if there was one, stays");
            }
            Ok(_) if was_failing => tracing::info!(%name, "a name can be resolved again"),
            _ => {}
        }
        true
    }
}

/// Returns the addresses of one family, IPv4 if there are any: a host without IPv6 is told of addresses it cannot reach.
// spec: istio pilot/pkg/networking/core/cluster_builder.go, dns_lookup_family V4_ONLY
fn preferred(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (four, six): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    if four.is_empty() { six } else { four }
}

/// Returns `period`, give or take a tenth: a thousand workloads that started together must not ask together for ever.
pub(super) fn jittered(period: Duration, dice: &mut impl Dice) -> Duration {
    let fifth = u64::try_from(period.as_nanos() / 5).unwrap_or(u64::MAX);
    period * 9 / 10 + Duration::from_nanos(dice.below(fifth.saturating_add(1)))
}

/// How old an answer gets. The system's resolver does not tell for how long it holds; this is half of the 60 s that
/// cloud load balancers give theirs, so that an address that moved is followed within that time, and the resolver's own
/// cache answers what has not moved.
const REFRESH: Duration = Duration::from_secs(30);
/// When to ask again after a failure.
// spec: istio mesh/v1alpha1/config.proto dnsRefreshRate
const RETRY: Duration = Duration::from_secs(60);
/// Lookups at a time: each holds a thread of the pool that files and compilations need as well.
const LOOKUPS_MAX: usize = 8;
/// As long as a system's resolver takes to give up on two servers.
const LOOKUP_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::dice::{Highest, Lowest};
    use std::{
        cell::{Cell, RefCell},
        collections::VecDeque,
    };

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_fails_or_finds_nothing_leaves_the_last_answer() {
        let answers = [ok(&["10.0.0.1"]), Err(io::ErrorKind::NotFound.into()), ok(&[]), ok(&["10.0.0.2"])];
        let day = Day::new(&["a"], answers);
        day.run(Duration::from_secs(300)).await;
        assert_eq!(
            *day.taken.borrow(),
            [(0, "a=10.0.0.1".to_owned()), (30 + 60 + 30, "a=10.0.0.2".to_owned())]
        );
        assert_eq!(day.asked.get(), 4 + 6, "again and again");
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_come_are_looked_up_at_once_and_those_that_went_are_forgotten() {
        let day = Day::new(&["a"], std::iter::repeat_with(|| ok(&["10.0.0.1"])).take(9));
        let edit = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            day.names.send_replace(names(&["b", "c"]));
        };
        tokio::join!(day.run(Duration::from_secs(20)), edit);
        let taken = day.taken.borrow();
        assert_eq!(*taken, [(0, "a=10.0.0.1".to_owned()), (7, "b=10.0.0.1 c=10.0.0.1".to_owned())]);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_lookups_and_no_more_are_under_way_at_a_time() {
        let many: Vec<_> = (0..20).map(|n| format!("name-{n:02}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let day = Day { slow: true, ..Day::new(&many, []) };
        day.run(Duration::from_secs(1)).await;
        assert_eq!(day.asked.get(), LOOKUPS_MAX);
        day.run(Duration::from_secs(15)).await;
        assert_eq!(day.asked.get(), LOOKUPS_MAX + 16, "as one ends, the next begins");
    }

    #[test]
    fn one_family_of_addresses_is_taken_and_the_resolver_says_which_is_first() {
        let of = |addresses: &[&str]| preferred(ok(addresses).unwrap());
        assert_eq!(of(&["::1", "10.0.0.2", "10.0.0.1"]), ok(&["10.0.0.2", "10.0.0.1"]).unwrap());
        assert_eq!(of(&["::2", "::1"]), ok(&["::2", "::1"]).unwrap());
    }

    #[test]
    fn a_wait_is_its_period_give_or_take_a_tenth() {
        let (least, most) = (jittered(REFRESH, &mut Lowest), jittered(REFRESH, &mut Highest));
        assert_eq!((least, most), (Duration::from_secs(27), Duration::from_secs(33)));
    }

    #[tokio::test]
    async fn the_systems_resolver_knows_this_host() {
        assert!(system("localhost".into()).await.unwrap().iter().all(IpAddr::is_loopback));
    }

    /// Lookups by script; without a script they take 8 seconds each.
    struct Day {
        names: watch::Sender<Names>,
        script: RefCell<VecDeque<io::Result<Vec<IpAddr>>>>,
        slow: bool,
        asked: Cell<usize>,
        /// After how many seconds which answers were taken.
        taken: RefCell<Vec<(u64, String)>>,
    }

    impl Day {
        fn new(wanted: &[&str], script: impl IntoIterator<Item = io::Result<Vec<IpAddr>>>) -> Self {
            Self {
                names: watch::Sender::new(names(wanted)),
                script: RefCell::new(script.into_iter().collect()),
                slow: false,
                asked: Cell::new(0),
                taken: RefCell::default(),
            }
        }

        async fn run(&self, time: Duration) {
            let start = Instant::now();
            let lookup = |_| async {
                self.asked.set(self.asked.get() + 1);
                if self.slow {
                    tokio::time::sleep(Duration::from_secs(8)).await;
                }
                self.script.borrow_mut().pop_front().unwrap_or_else(|| ok(&[]))
            };
            let take = async |answers: Answers| {
                let shown = self
                    .names
                    .borrow()
                    .iter()
                    .filter_map(|name| {
                        Some(format!(
                            "{name}={}",
                            answers.get(name)?.iter().map(ToString::to_string).collect::<String>()
                        ))
                    })
                    .collect::<Vec<_>>()
                    .join(" ");
                self.taken.borrow_mut().push((start.elapsed().as_secs(), shown));
            };
            let _ = timeout(time, follow(self.names.subscribe(), lookup, Middle, take)).await;
        }
    }

    /// No jitter.
    struct Middle;

    impl Dice for Middle {
        fn roll(&mut self) -> u64 {
            u64::MAX / 2
        }
    }

    fn names(names: &[&str]) -> Names {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn ok(addresses: &[&str]) -> io::Result<Vec<IpAddr>> {
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}
