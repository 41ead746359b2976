//! How a request asks for misbehaviour: `?status=503&status-percent=20&delay=250ms`.

use mesh::core::config::duration;
use std::time::Duration;

/// How the service behaves when the request does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// How often to answer 503.
    pub(crate) fail: Option<Percent>,
    /// How long to wait before every answer.
    pub(crate) latency: Option<Duration>,
    /// How many requests it works on at one time; the others wait without end, as in a server that knows of no limit.
    pub(crate) at_once: Option<usize>,
}

/// What one request will get, with all dice rolled.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Steering {
    /// Answer with this status.
    pub(crate) status: Option<http::StatusCode>,
    /// Wait this long first.
    pub(crate) delay: Option<Duration>,
    /// Answer this many bytes of text instead of JSON.
    pub(crate) size: Option<u64>,
    /// Answer with text that takes this long to come instead of JSON.
    pub(crate) stream: Option<Duration>,
    /// Reset the stream instead of answering.
    pub(crate) abort: bool,
    /// Call this URL through the mesh first.
    pub(crate) call: Option<String>,
}

/// A share of requests, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Percent(f64);

impl Percent {
    /// Reads a number from 0 to 100.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number: f64 = text.parse().ok()?;
        (0.0..=100.0).contains(&number).then_some(Self(number))
    }

    /// Returns whether `draw`, from 0 up to but not 100, falls into the share.
    fn covers(self, draw: f64) -> bool {
        draw < self.0
    }
}

impl Steering {
    /// Reads the query's pairs, with `draw` as the dice: a number from 0 up to but not 100.
    ///
    /// # Errors
    ///
    /// Returns which parameter does not read, and what to write.
    pub(crate) fn read(
        query: &[(String, String)],
        habits: Habits,
        mut draw: impl FnMut() -> f64,
    ) -> Result<Self, String> {
        let mut steering = Self {
            status: habits
                .fail
                .filter(|share| share.covers(draw()))
                .map(|_| http::StatusCode::SERVICE_UNAVAILABLE),
            delay: habits.latency,
            ..Self::default()
        };
        for (name, value) in query {
            let Some(effect) = Effect::named(name) else { continue };
            if share(query, name)?.covers(draw()) {
                steering.set(effect, value)?;
            }
        }
        Ok(steering)
    }

    fn set(&mut self, effect: Effect, value: &str) -> Result<(), String> {
        match effect {
            Effect::Status => {
                let status = value.parse().ok().filter(|status: &http::StatusCode| status.as_u16() >= 200);
                self.status = Some(status.ok_or_else(|| wrong("status", value, "200 to 999"))?);
            }
            Effect::Delay => self.delay = Some(time("delay", value)?),
            Effect::Stream => self.stream = Some(time("stream", value)?),
            Effect::Size => {
                self.size = Some(value.parse().map_err(|_| wrong("size", value, "a number of bytes"))?);
            }
            Effect::Abort => self.abort = value != "0" && value != "false",
            Effect::Call => self.call = Some(value.to_owned()),
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Effect {
    Status,
    Delay,
    Size,
    Stream,
    Abort,
    Call,
}

impl Effect {
    fn named(name: &str) -> Option<Self> {
        match name {
            "status" => Some(Self::Status),
            "delay" => Some(Self::Delay),
            "size" => Some(Self::Size),
            "stream" => Some(Self::Stream),
            "abort" => Some(Self::Abort),
            "call" => Some(Self::Call),
            _ => None,
        }
    }
}

/// Returns how often the effect `name` is wanted: `NAME-percent`, or always.
fn share(query: &[(String, String)], name: &str) -> Result<Percent, String> {
    let wanted = format!("{name}-percent");
    match query.iter().find(|(given, _)| *given == wanted) {
        Some((_, value)) => {
            Percent::parse(value).ok_or_else(|| wrong(&wanted, value, "a number from 0 to 100"))
        }
        None => Ok(Percent(100.0)),
    }
}

fn time(name: &str, value: &str) -> Result<Duration, String> {
    duration::parse(value).map_err(|error| format!("query parameter {name}: {error}"))
}

fn wrong(name: &str, value: &str, expected: &str) -> String {
    format!("query parameter {name}={value}: write {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steering(query: &str, draws: &[f64]) -> Result<Steering, String> {
        let query: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut draws = draws.iter().copied();
        Steering::read(&query, Habits::default(), || draws.next().unwrap_or(0.0))
    }

    #[test]
    fn an_effect_with_a_percentage_comes_only_when_the_dice_fall_below_it() {
        let asked = "status=503&status-percent=20";
        assert_eq!(
            steering(asked, &[19.9]).map(|s| s.status),
            Ok(Some(http::StatusCode::SERVICE_UNAVAILABLE))
        );
        assert_eq!(steering(asked, &[20.0]).map(|s| s.status), Ok(None));
        assert_eq!(steering("abort=1&abort-percent=0", &[0.0]).map(|s| s.abort), Ok(false));
        assert_eq!(steering("abort=1&abort-percent=100", &[99.99]).map(|s| s.abort), Ok(true));
    }

    #[test]
    fn a_parameter_that_does_not_read_is_named() {
        for (query, expected) in [
            ("status=abc", "status=abc"),
            ("status=100", "status=100"),
            ("delay=5", "`5s`"),
            ("stream=long", "stream"),
            ("size=-1", "size=-1"),
            ("abort=1&abort-percent=101", "abort-percent=101"),
        ] {
            let error = steering(query, &[]).err().unwrap_or_default();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }

    #[test]
    fn what_steers_nothing_is_left_alone() {
        assert_eq!(steering("page=2&sort=asc", &[]), Ok(Steering::default()));
    }
}
