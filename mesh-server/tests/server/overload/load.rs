//! Three times the load that can be answered, over real sockets: how much is still answered in time.
//!
//! The handlers share four workers, of 20 ms a request each, and have no idea of any limit: they wait for a worker as
//! long as it takes. Callers want an answer within 200 ms, say so, and come at their own pace, whether or not the last
//! answer is in. What the server can do is measured first, by as many callers as there are workers; everything else is
//! in proportion to that.

use super::*;
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

const WORKERS: usize = 4;
const WORK: Duration = Duration::from_millis(20);
const DEADLINE: Duration = Duration::from_millis(200);
/// Connections that share the load.
const CONNECTIONS: u32 = 16;

/// The long form, to be run where nothing else runs:
/// `cargo test -p mesh-server --test server -- --ignored --nocapture three_times`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and asserts on times"]
async fn at_three_times_its_capacity_a_server_answers_nine_tenths_of_what_it_answers_at_capacity() {
    let seconds = Duration::from_secs(10);
    for (name, max) in [
        ("4 places", Some(RequestsMax::Fixed(4))),
        ("adaptive", Some(RequestsMax::Adaptive(Default::default()))),
        ("no limit", None),
    ] {
        let run = Run::of(max, seconds).await;
        println!("{name}: capacity {:.0}/s\n  {}", run.capacity, run.figures());
        let kept = f64::from(run.over.in_time) / f64::from(run.at_capacity.in_time);
        match max {
            Some(_) => {
                assert!(kept >= 0.9, "{name}: {kept:.2} of what is answered at capacity");
                assert_eq!(run.after.refused, 0, "{name}: it did not recover within 5 s");
            }
            None => assert!(kept < 0.5, "without a limit it answers {kept:.2}: this proves nothing"),
        }
    }
}

/// The short form says that everybody is answered and that there is an end to it, and nothing about when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_three_times_the_load_everybody_is_answered_one_way_or_the_other() {
    for max in [RequestsMax::Fixed(4), RequestsMax::Adaptive(Default::default())] {
        let run = Run::of(Some(max), Duration::from_millis(300)).await;
        println!("capacity {:.0}/s\n  {}", run.capacity, run.figures());
        let broken = [&run.at_capacity, &run.over, &run.after].map(|tally| tally.broken);
        assert_eq!(broken, [0; 3], "{}", run.figures());
    }
}

struct Run {
    /// Requests in a second.
    capacity: f64,
    at_capacity: Tally,
    over: Tally,
    after: Tally,
}

impl Run {
    async fn of(max: Option<RequestsMax>, time: Duration) -> Self {
        let server = Running::start(MtlsMode::Permissive, workers(), |server| {
            server.overload(|overload| overload.requests_max = max)
        })
        .await;
        let capacity = capacity(&server, time / 4).await;
        let load = |share: f64, time| offer(&server, capacity * share, time);
        let at_capacity = load(1.0, time).await;
        let over = load(3.0, time).await;
        load(0.5, time / 2).await;
        let after = load(0.5, time / 2).await;
        Self { capacity, at_capacity, over, after }
    }

    fn figures(&self) -> String {
        let Self { at_capacity, over, after, .. } = self;
        format!("at capacity   {at_capacity}\n  at 3 times it {over}\n  afterwards    {after}")
    }
}

/// A service of so many workers, who know of no limit.
fn workers()
-> impl tower::Service<Request<RequestBody>, Response = Response<String>, Error = Infallible, Future: Send> + Clone
{
    let workers = Arc::new(Semaphore::new(WORKERS));
    tower::service_fn(move |_: Request<RequestBody>| {
        let workers = Arc::clone(&workers);
        async move {
            let _worker = workers.acquire().await;
            tokio::time::sleep(WORK).await;
            Ok(Response::new("done".to_owned()))
        }
    })
}

/// Returns how many answers there are in a second if as many ask as there are workers, each as soon as it is answered.
async fn capacity(server: &Running, time: Duration) -> f64 {
    let (start, answers) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let mut callers = Vec::new();
    for _ in 0..WORKERS {
        let (mut client, answers) = (http2(server.tcp().await).await, Arc::clone(&answers));
        callers.push(tokio::spawn(async move {
            while start.elapsed() < time {
                assert_eq!(client.get("/").await.unwrap(), done());
                answers.fetch_add(1, Relaxed);
            }
        }));
    }
    for caller in callers {
        soon(caller).await.unwrap();
    }
    f64::from(answers.load(Relaxed)) / start.elapsed().as_secs_f64()
}

/// Sends `rate` requests a second for so long, each when it is due, and returns what became of them.
async fn offer(server: &Running, rate: f64, time: Duration) -> Tally {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let Client::Http2(stream) = http2(server.tcp().await).await else { unreachable!("it is HTTP/2") };
        streams.push(stream);
    }
    let (start, mut due, mut calls) = (tokio::time::Instant::now(), 0.0, Vec::new());
    let mut dice = fastrand::Rng::with_seed(7);
    for stream in streams.iter().cycle() {
        // As strangers come: a gap of chance.
        due -= (1.0 - dice.f64()).ln() / rate;
        let due = start + Duration::from_secs_f64(due);
        if due >= start + time {
            break;
        }
        tokio::time::sleep_until(due).await;
        calls.push(tokio::spawn(ask(Client::Http2(stream.clone()), due.into_std())));
    }
    let mut tally = Tally::default();
    for call in calls {
        let (became, took) = soon(call).await.unwrap();
        tally.add(became, took);
    }
    tally
}

async fn ask(mut client: Client, due: Instant) -> (Option<StatusCode>, Duration) {
    let timeout = DEADLINE.as_millis().to_string();
    let request = Request::get("/").header("x-envoy-expected-rq-timeout-ms", timeout).body(empty()).unwrap();
    let answer = async { text(client.send(request).await?).await };
    let status = answer.await.ok().map(|(status, _)| status);
    (status, due.elapsed())
}

#[derive(Default)]
struct Tally {
    in_time: u32,
    too_late: u32,
    refused: u32,
    broken: u32,
    answered_in: Vec<Duration>,
    refused_in: Vec<Duration>,
}

impl Tally {
    fn add(&mut self, became: Option<StatusCode>, took: Duration) {
        match became {
            Some(StatusCode::OK) if took <= DEADLINE => {
                self.in_time += 1;
                self.answered_in.push(took);
            }
            Some(StatusCode::OK | StatusCode::GATEWAY_TIMEOUT) => self.too_late += 1,
            Some(StatusCode::SERVICE_UNAVAILABLE) => {
                self.refused += 1;
                self.refused_in.push(took);
            }
            _ => self.broken += 1,
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { in_time, too_late, refused, answered_in, refused_in, .. } = self;
        let [p50, p99] = [50, 99].map(|percent| at(answered_in, percent));
        let [refused_p50, refused_p99] = [50, 99].map(|percent| at(refused_in, percent));
        write!(
            f,
            "{in_time} in time (p50 {p50:.1?}, p99 {p99:.1?}), {too_late} too late, {refused} refused (p50 {refused_p50:.1?}, p99 {refused_p99:.1?})"
        )
    }
}

fn at(times: &[Duration], percent: usize) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}
