//! How a server protects itself: `MESH_REQUESTS_MAX`, `MESH_WAITING_MAX`, `MESH_WAIT_MAX`, `MESH_RATE_LIMIT`.

use super::{
    SettingsError,
    read::{error, parts},
};
use mesh_core::{
    config::duration,
    overload::{Overload, RateLimit, RateLimits, RequestsMax},
};

/// Reads what `text` says of overload; what it does not say is not limited.
pub(super) fn read(text: impl Fn(&str) -> Option<String>) -> Result<Overload, SettingsError> {
    let mut overload = Overload::default();
    if let Some(max) = text(REQUESTS_MAX) {
        overload.requests_max = Some(read_requests_max(&max)?);
    }
    if let Some(max) = text(WAITING_MAX) {
        let wrong = |_| error(WAITING_MAX, format!("`{max}` is no number of requests; write e.g. `1024`"));
        overload.queue.waiting_max = max.parse().map_err(wrong)?;
    }
    if let Some(max) = text(WAIT_MAX) {
        overload.queue.wait_max = duration::parse(&max).map_err(|why| error(WAIT_MAX, why))?;
    }
    if let Some(limits) = text(RATE_LIMIT) {
        overload.rate = read_rate_limits(&limits)?;
    }
    let waits = text(WAITING_MAX).and(Some(WAITING_MAX)).or(text(WAIT_MAX).and(Some(WAIT_MAX)));
    match waits {
        Some(variable) if overload.requests_max.is_none() => {
            Err(error(variable, "set, but MESH_REQUESTS_MAX is not: nobody waits where as many run as come"))
        }
        _ => Ok(overload),
    }
}

fn read_requests_max(text: &str) -> Result<RequestsMax, SettingsError> {
    let form = "write how many requests may run at one time, e.g. `200`, or `adaptive` to have that measured";
    match text.parse() {
        _ if text == "adaptive" => Ok(RequestsMax::Adaptive(Default::default())),
        Ok(0) => Err(error(REQUESTS_MAX, format!("0 is a server that answers nobody; {form}"))),
        Ok(max) => Ok(RequestsMax::Fixed(max)),
        Err(_) => Err(error(REQUESTS_MAX, format!("`{text}` is no limit; {form}"))),
    }
}

fn read_rate_limits(text: &str) -> Result<RateLimits, SettingsError> {
    let mut limits = RateLimits::default();
    for part in parts(text) {
        match part.split_once('=') {
            Some((prefix, limit)) => limits.prefixes.push((read_prefix(prefix)?, read_rate_limit(limit)?)),
            None if limits.server.is_none() => limits.server = Some(read_rate_limit(part)?),
            None => {
                let why = format!(
                    "`{part}` in `{text}` is a second limit of the server; write one, and more for prefixes: `/api=20/s`"
                );
                return Err(error(RATE_LIMIT, why));
            }
        }
    }
    Ok(limits)
}

fn read_prefix(text: &str) -> Result<String, SettingsError> {
    let prefix = text.trim();
    let why = || error(RATE_LIMIT, format!("`{prefix}` is no prefix of a path; write e.g. `/api=20/s`"));
    prefix.starts_with('/').then(|| prefix.to_owned()).ok_or_else(why)
}

fn read_rate_limit(text: &str) -> Result<RateLimit, SettingsError> {
    text.trim().parse().map_err(|why| error(RATE_LIMIT, why))
}

const REQUESTS_MAX: &str = "MESH_REQUESTS_MAX";
const WAITING_MAX: &str = "MESH_WAITING_MAX";
const WAIT_MAX: &str = "MESH_WAIT_MAX";
const RATE_LIMIT: &str = "MESH_RATE_LIMIT";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_is_limited_that_no_variable_limits() {
        assert_eq!(read(|_| None), Ok(Overload::default()));
        assert_eq!(Overload::default().requests_max, None);
        assert_eq!(Overload::default().rate, RateLimits::default());
    }

    #[test]
    fn every_variable_of_overload_reaches_its_field() {
        let overload = of(&[
            (REQUESTS_MAX, "200"),
            (WAITING_MAX, "0"),
            (WAIT_MAX, "250ms"),
            (RATE_LIMIT, "1000/s burst 50, /reports/=5/s,/api = 1/10s,"),
        ]);
        let overload = overload.unwrap();
        assert_eq!(overload.requests_max, Some(RequestsMax::Fixed(200)));
        assert_eq!((overload.queue.waiting_max, overload.queue.wait_max), (0, Duration::from_millis(250)));
        let rate = |text: &str| text.parse().unwrap();
        assert_eq!(overload.rate.server, Some(rate("1000/s burst 50")));
        let prefixes = [("/reports/".to_owned(), rate("5/s")), ("/api".to_owned(), rate("1/10s"))];
        assert_eq!(overload.rate.prefixes, prefixes);
        let adaptive = of(&[(REQUESTS_MAX, "adaptive")]).unwrap().requests_max;
        assert_eq!(adaptive, Some(RequestsMax::Adaptive(Default::default())));
    }

    #[test]
    fn what_limits_nothing_is_an_error_that_says_what_to_write() {
        let table: [(&'static str, &str, &[&str]); 11] = [
            (REQUESTS_MAX, "many", &["`many`", "`200`", "`adaptive`"]),
            (REQUESTS_MAX, "0", &["answers nobody"]),
            (REQUESTS_MAX, "-1", &["`-1`"]),
            (WAITING_MAX, "few", &["`few`", "`1024`"]),
            (WAITING_MAX, "10", &["MESH_REQUESTS_MAX"]),
            (WAIT_MAX, "soon", &["soon"]),
            (WAIT_MAX, "1s", &["MESH_REQUESTS_MAX"]),
            (RATE_LIMIT, "100", &["`100`", "`100/s`"]),
            (RATE_LIMIT, "0/s", &["no request could ever come"]),
            (RATE_LIMIT, "api=1/s", &["`api`", "`/api=20/s`"]),
            (RATE_LIMIT, "1/s,2/s", &["`2/s`", "second"]),
        ];
        for (variable, value, said) in table {
            let error = of(&[(variable, value)]).unwrap_err();
            assert_eq!(error.variable, variable, "{value}");
            assert!(said.iter().all(|part| error.why.contains(part)), "{value}: {error}");
        }
    }

    fn of(variables: &[(&str, &str)]) -> Result<Overload, SettingsError> {
        read(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }
}
