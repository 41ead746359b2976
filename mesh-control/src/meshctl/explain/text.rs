//! An explanation for people: what happens on the left, where it is written on the right.

use mesh_core::explain::{Arrival, Effective, Explanation, Place};
use std::fmt::{Result, Write as _};

/// Returns `story` in lines.
pub(super) fn of(story: &Explanation) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = Story { story, out: &mut out }.tell();
    out
}

struct Story<'a> {
    story: &'a Explanation,
    out: &'a mut String,
}

impl Story<'_> {
    fn tell(mut self) -> Result {
        self.host()?;
        self.routes()?;
        self.action()?;
        self.destinations()?;
        self.policy()?;
        self.story.arrivals.iter().try_for_each(|arrival| self.arrival(arrival))
    }

    fn line(&mut self, label: &str, text: &str) -> Result {
        writeln!(self.out, "{label:<13} {text}")
    }

    fn written(&self, field: &str) -> String {
        written(self.story.sources.get(field))
    }

    fn host(&mut self) -> Result {
        let Some(host) = &self.story.virtual_host else {
            return self.line("virtual host", "none: no service and no VirtualService has this host");
        };
        self.line("virtual host", host)?;
        if let Some(because) = &self.story.because {
            self.line("", because)?;
        }
        let written = match self.story.sources.get("virtualHost") {
            None => "the service itself: no VirtualService rules it".to_owned(),
            Some(place) => format!("routed by {}", shown(place)),
        };
        self.line("", &written)
    }

    fn routes(&mut self) -> Result {
        for (index, tried) in self.story.tried.iter().enumerate() {
            let label = if index == 0 { "routes tried" } else { "" };
            let verdict =
                tried.failed.as_ref().map_or("matches".to_owned(), |failed| format!("no: {failed}"));
            self.line(label, &format!("{}  {verdict}", tried.route))?;
        }
        if self.story.route.is_some() {
            let written = self.written("route");
            self.line("route", &written)?;
        }
        Ok(())
    }

    fn action(&mut self) -> Result {
        let action = serde_json::to_value(self.story.action).ok();
        let action = action.as_ref().and_then(|action| action.as_str()).unwrap_or("none");
        let flag = self.story.flag.map_or_else(String::new, |flag| format!(", response flag {flag:?}"));
        self.line("action", &format!("{action}{flag}"))?;
        let lines = &self.story.on_the_way;
        lines
            .iter()
            .enumerate()
            .try_for_each(|(index, line)| self.line(if index == 0 { "on the way" } else { "" }, line))
    }

    fn destinations(&mut self) -> Result {
        for (index, to) in self.story.destinations.iter().enumerate() {
            let subset = to.subset.as_deref().map_or_else(String::new, |subset| format!(" subset {subset}"));
            let label = if index == 0 { "destinations" } else { "" };
            self.line(label, &format!("{}{subset} port {}  weight {}", to.host, to.port, to.weight))?;
        }
        Ok(())
    }

    fn policy(&mut self) -> Result {
        let Some(cluster) = &self.story.cluster else { return Ok(()) };
        let none = || "none".to_owned();
        let timeout = self.story.timeout_ms.map_or_else(none, |timeout| format!("{timeout} ms"));
        let line = format!("{timeout}  {}", self.written("timeout"));
        self.line("timeout", &line)?;
        let retries = self.story.retries.as_ref().map_or_else(none, |retries| {
            let each =
                retries.per_try_timeout_ms.map_or_else(String::new, |limit| format!(", {limit} ms each"));
            let hedge = retries
                .hedge_after_ms
                .map_or_else(String::new, |after| format!(", one of them beside a try of {after} ms"));
            format!("{} on {}{each}{hedge}", retries.attempts, retries.retry_on.join(","))
        });
        let line = format!("{retries}  {}", self.written("retries"));
        self.line("retries", &line)?;
        let line = format!("{cluster}  {}", self.written("cluster"));
        self.line("cluster", &line)?;
        let mtls = match self.story.mtls {
            None => "none: there is no such cluster, and 503 is the answer".to_owned(),
            Some(mode) if self.story.sources.contains_key("mtls") => {
                format!("{mode}  {}", self.written("mtls"))
            }
            Some(mode) => format!("{mode}  (what the endpoints speak: no rule says otherwise)"),
        };
        self.line("mTLS", &mtls)?;
        let widest = self.story.policy.iter().map(|row| row.field.len()).max().unwrap_or(0);
        for (index, Effective { field, value, source }) in self.story.policy.iter().enumerate() {
            let label = if index == 0 { "policy" } else { "" };
            let line = format!("{field:<widest$}  {value}  {}", written(source.as_ref()));
            self.line(label, &line)?;
        }
        Ok(())
    }

    fn arrival(&mut self, arrival: &Arrival) -> Result {
        let labels: Vec<_> = arrival.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(",") };
        let count = match arrival.endpoints {
            0 => "no endpoint known yet".to_owned(),
            1 => "1 endpoint".to_owned(),
            count => format!("{count} endpoints"),
        };
        self.line("arrives at", &format!("port {} of {labels}  {count}", arrival.port))?;
        self.line("", &format!("mutual TLS: {}  {}", arrival.mtls, written(arrival.mtls_source.as_ref())))?;
        self.line("", &format!("as {}", arrival.peer.as_deref().unwrap_or("nobody it could prove")))?;
        let verdict = if arrival.allowed { "allowed" } else { "DENIED" };
        self.line("", &format!("{verdict}: {}", arrival.reason))?;
        for policy in &arrival.authorization.tried {
            let trial = if policy.on_trial { ", on trial" } else { "" };
            let verdict = if policy.matched { "matches" } else { "does not match" };
            self.line("", &format!("  {}{trial} {verdict}  {}", policy.action, shown(&policy.place)))?;
            if let Some(reason) = policy.reason {
                self.line("", &format!("    {reason}"))?;
            }
            for rule in &policy.rules {
                let verdict = rule.failed.as_deref().map_or("matches".to_owned(), |why| format!("no: {why}"));
                self.line("", &format!("    rule {} {verdict}", rule.rule))?;
            }
        }
        Ok(())
    }
}

fn written(place: Option<&Place>) -> String {
    place.map_or_else(|| "(default)".to_owned(), |place| format!("({})", shown(place)))
}

fn shown(place: &Place) -> String {
    format!("{}, {}:{}", place.resource, place.file, place.line)
}
