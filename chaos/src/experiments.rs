//! The experiments, in order, and what they have in common.

mod black_hole;
mod clock;
mod crash;
mod drain;
mod hostile;
mod long_run;
mod metastable;
mod outage;
mod overload;
mod reload;
mod rotation;
mod slope;

use crate::{
    Failed,
    load::{Calls, millis},
    network::Network,
    options::Options,
    process::Tools,
    report::{Findings, Report, Unfinished},
    town::Town,
};
use std::{
    pin::Pin,
    time::{Duration, Instant},
};

/// One experiment.
#[derive(Debug)]
pub(crate) struct Experiment {
    /// What it goes by on the command line; what follows a hyphen tells forms of it apart.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    run: for<'a> fn(&'a Bench<'a>) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Findings, Unfinished>> + 'a>>;

/// Every experiment.
pub(crate) const ALL: &[Experiment] = &[
    Experiment {
        name: "E1",
        what: "kill -9 one of three, restart it 5 s later",
        run: |bench| Box::pin(crash::run(bench)),
    },
    Experiment {
        name: "E2-stop",
        what: "kill -STOP three of ten",
        run: |bench| Box::pin(black_hole::run(bench, black_hole::How::Stop)),
    },
    Experiment {
        name: "E2-drop",
        what: "drop every packet of three of ten",
        run: |bench| Box::pin(black_hole::run(bench, black_hole::How::Drop)),
    },
    Experiment {
        name: "E3",
        what: "push configurations under load, every other one invalid",
        run: |bench| Box::pin(reload::run(bench)),
    },
    Experiment {
        name: "E4",
        what: "restart three, one after another, by SIGTERM",
        run: |bench| Box::pin(drain::run(bench)),
    },
    Experiment {
        name: "E6-fixed",
        what: "three times the capacity, limited to the places there are",
        run: |bench| Box::pin(overload::run(bench, overload::Limit::Fixed)),
    },
    Experiment {
        name: "E6-adaptive",
        what: "three times the capacity, limit measured by the server",
        run: |bench| Box::pin(overload::run(bench, overload::Limit::Adaptive)),
    },
    Experiment {
        name: "E7-error",
        what: "the last of three tiers answers 503 for 10 s",
        run: |bench| Box::pin(metastable::run(bench, &metastable::ERROR)),
    },
    Experiment {
        name: "E7-hang",
        what: "the last of three tiers does not answer for 10 s",
        run: |bench| Box::pin(metastable::run(bench, &metastable::HANG)),
    },
    Experiment {
        name: "E7-tries",
        what: "likewise, and every tier limits each of its tries",
        run: |bench| Box::pin(metastable::run(bench, &metastable::TRIES)),
    },
    Experiment {
        name: "E8-rotate",
        what: "certificates every 2 s under load, then another root",
        run: |bench| Box::pin(rotation::run(bench)),
    },
    Experiment {
        name: "E8-outage",
        what: "no control endpoint until just before certificates end",
        run: |bench| Box::pin(outage::run(bench)),
    },
    Experiment {
        name: "E9",
        what: "hostile peers, while others call",
        run: |bench| Box::pin(hostile::run(bench)),
    },
    Experiment {
        name: "E11",
        what: "churn, edits, rotation of certificates and 1 % loss",
        run: |bench| Box::pin(long_run::run(bench)),
    },
    Experiment {
        name: "E12",
        what: "clocks that jump by an hour, and by ten years",
        run: |bench| Box::pin(clock::run(bench)),
    },
];

/// What an experiment works with.
pub(crate) struct Bench<'a> {
    tools: &'a Tools,
    network: &'a Network,
    options: &'a Options,
}

impl Experiment {
    /// Returns whether it goes by `name`: its own, or the number alone.
    pub(crate) fn is(&self, name: &str) -> bool {
        let number = self.name.split('-').next().unwrap_or(self.name);
        self.name.eq_ignore_ascii_case(name) || number.eq_ignore_ascii_case(name)
    }

    /// Does it. Everything that it started has ended when this returns.
    pub(crate) async fn run(&self, tools: &Tools, network: &Network, options: &Options) -> Report {
        let begun = Instant::now();
        let bench = Bench { tools, network, options };
        if options.short && LONG.contains(&self.name) {
            let why = Unfinished::Skipped("only in the long form".to_owned());
            return Report::of(self.name, self.what, Err(why), 0);
        }
        let limit = TIME_MAX + Duration::from_secs(60 * options.pick(options.minutes, 0));
        let result = tokio::time::timeout(limit, (self.run)(&bench)).await;
        let result = result.unwrap_or_else(|_| Err(format!("it was not done within {limit:?}").into()));
        Report::of(self.name, self.what, result, begun.elapsed().as_secs())
    }
}

/// What the short form leaves out: it shows the same as the form next to it, by other means.
const LONG: [&str; 2] = ["E6-fixed", "E7-tries"];

/// No experiment but the long run takes a third of that.
const TIME_MAX: Duration = Duration::from_secs(300);

impl Bench<'_> {
    /// Starts a control endpoint and a caller, with certificates that outlast the experiment.
    async fn town(&self, config: &str) -> Result<Town, Failed> {
        Town::start(self.tools, config, "24h").await
    }

    fn findings(&self) -> Findings {
        Findings::new(!self.options.short)
    }
}

/// Rules for a service `replica`: two retries that avoid hosts tried before, and ejection after five failures in a row, as
/// the peer baseline had them. Who POSTs is retried only where nothing was sent.
#[derive(Clone, Copy)]
struct Rules {
    /// How long the first ejection of an endpoint lasts.
    ejection: &'static str,
    timeout_seconds: u64,
    /// How long one try may take.
    try_millis: u64,
    /// A number that requests carry, so that each edit makes another configuration.
    edit: u64,
}

impl Rules {
    /// The timeout of the peer baseline, and a limit for each try, without which nobody learns in time that a stopped
    /// process does not answer.
    const BASE: Self = Self { ejection: "3s", timeout_seconds: 1, try_millis: 250, edit: 0 };

    fn text(self) -> String {
        let Self { ejection, timeout_seconds, try_millis, edit } = self;
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: replica}}
spec:
  host: replica
  trafficPolicy:
    outlierDetection: {{consecutive5xxErrors: 5, baseEjectionTime: {ejection}, maxEjectionPercent: 50}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: replica}}
spec:
  hosts: [replica]
  http:
  - match: [{{method: {{exact: POST}}}}]
    timeout: {timeout_seconds}s
    retries: {{attempts: 2, retryOn: 'connect-failure,refused-stream'}}
    route: [{{destination: {{host: replica}}}}]
  - timeout: {timeout_seconds}s
    headers: {{request: {{set: {{x-edit: '{edit}'}}}}}}
    retries:
      attempts: 2
      perTryTimeout: {try_millis}ms
      retryOn: 'connect-failure,refused-stream,reset,gateway-error'
    route: [{{destination: {{host: replica}}}}]
"
        )
    }
}

/// Adds what `calls` show: how many there are, how many failed, and how the first ones did.
fn count_failures(findings: &mut Findings, calls: &Calls) {
    findings.offered += calls.len();
    for call in calls.failed() {
        findings.failed += 1;
        findings.note(call.text());
    }
}

/// Adds how the slowest hundredth of `after` compares with that of `before`.
fn compare_p99(findings: &mut Findings, what: &str, before: &Calls, after: &Calls, times_max: f64) {
    let (before, after) = (before.took(99), after.took(99));
    let times = after.as_secs_f64() / before.as_secs_f64().max(f64::MIN_POSITIVE);
    let figure = format!("{times:.1}x ({}, {})", millis(before), millis(after));
    findings.speed(what, figure, &format!("<= {times_max}x"), times <= times_max);
}

/// Returns after how long, counted from `from`, every second until `until` is as `wanted`; `None` if the last one is not.
fn settled(
    calls: &Calls,
    from: Duration,
    until: Duration,
    wanted: impl Fn(&Calls) -> bool,
) -> Option<Duration> {
    let seconds = until.saturating_sub(from).as_secs();
    let second = |n: u64| from + Duration::from_secs(n);
    let good = (0..seconds).rev().take_while(|&n| wanted(&calls.due_in(second(n)..second(n + 1)))).last()?;
    Some(Duration::from_secs(good))
}

/// Returns it as reports show it.
fn after(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("after {:.2} s", time.as_secs_f64()))
}
