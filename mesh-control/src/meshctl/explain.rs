//! `meshctl explain`: where a request would go, and why, told by the code that routes it.

use super::{args::ExplainArgs, input};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use mesh_core::{
    config::{Accepted, Level, Options},
    explain::{Explanation, explain},
    health::States,
    identity::TrustDomain,
    route::Head,
    snapshot::{MeshSettings, Viewer, compile},
};
use std::{fmt::Write as _, io::Write as _};

pub(crate) fn run(args: &ExplainArgs, json: bool) -> Result<(), String> {
    let accepted = Accepted::default().update(&input::read(&args.config)?, &Options::default());
    for finding in accepted.diagnostics.iter().filter(|finding| finding.level == Level::Error) {
        eprintln!("{finding}");
    }
    let (namespace, account) = args.from.split_once('/').ok_or("--from: write NAMESPACE/SERVICE_ACCOUNT")?;
    let mut labels: std::collections::BTreeMap<_, _> = args.labels.iter().cloned().collect();
    labels.entry("app".to_owned()).or_insert_with(|| account.to_owned());
    let viewer = Viewer { namespace: namespace.to_owned(), service: Some(account.to_owned()), labels };
    let settings = MeshSettings::new(TrustDomain::cluster_local());
    let (snapshot, _) = compile("", &accepted.resources, &viewer, &settings, &States::default());
    let request = Request::of(args)?;
    let story = explain(&snapshot, &request.head());
    let text = match json {
        true => serde_json::to_string_pretty(&story).map_err(|error| error.to_string())? + "\n",
        false => as_text(&story),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("writing the explanation: {error}"))
}

struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Request {
    fn of(args: &ExplainArgs) -> Result<Self, String> {
        let uri: Uri = args.url.parse().map_err(|error| format!("--url {:?}: {error}", args.url))?;
        if uri.authority().is_none() {
            return Err(format!("--url {:?} names no host; write e.g. http://reviews/", args.url));
        }
        let method = args
            .method
            .parse()
            .map_err(|_| format!("--method {:?} is no HTTP method; write e.g. GET", args.method))?;
        let mut headers = HeaderMap::new();
        for line in &args.headers {
            let wrong = || format!("-H {line:?}: write 'name: value'");
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| wrong())?);
        }
        Ok(Self { method, uri, headers })
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: self.uri.scheme_str().unwrap_or("http"),
            authority: self.uri.authority().map_or("", |authority| authority.as_str()),
            path_and_query: self.uri.path_and_query().map_or("/", |path| path.as_str()),
            headers: &self.headers,
        }
    }
}

fn as_text(story: &Explanation) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = tell(story, &mut text);
    text
}

fn tell(story: &Explanation, out: &mut String) -> std::fmt::Result {
    let none = || "none".to_owned();
    let from = |field: &str| match story.sources.get(field) {
        None => "default".to_owned(),
        Some(place) => format!("{} ({}:{})", place.resource, place.file, place.line),
    };
    let known = story.virtual_host.as_deref();
    writeln!(
        out,
        "virtual host  {}",
        known.unwrap_or("none: no service and no VirtualService has this host")
    )?;
    if known.is_some() {
        writeln!(out, "              from {}", from("virtualHost"))?;
    }
    for (index, tried) in story.tried.iter().enumerate() {
        let label = if index == 0 { "routes tried" } else { "" };
        let verdict = tried.failed.as_ref().map_or("matched".to_owned(), |failed| format!("no: {failed}"));
        writeln!(out, "{label:<13} {}  {verdict}", tried.route)?;
    }
    let action =
        serde_json::to_value(story.action).ok().and_then(|action| action.as_str().map(str::to_owned));
    writeln!(out, "action        {}", action.unwrap_or_else(none))?;
    for to in &story.destinations {
        let subset = to.subset.as_deref().map_or_else(String::new, |subset| format!(" subset {subset}"));
        writeln!(out, "destination   {}{subset} port {}  weight {}", to.host, to.port, to.weight)?;
    }
    if let Some(cluster) = &story.cluster {
        writeln!(out, "cluster       {cluster}  policy from {}", from("cluster"))?;
        writeln!(
            out,
            "mTLS          {}",
            story.mtls.unwrap_or("none: no such cluster, answered with 503, flag NC")
        )?;
        let timeout = story.timeout_ms.map_or_else(none, |timeout| format!("{timeout} ms"));
        writeln!(out, "timeout       {timeout}  from {}", from("timeout"))?;
        let retries = story.retries.as_ref().map_or_else(none, |retries| {
            let each =
                retries.per_try_timeout_ms.map_or_else(String::new, |limit| format!(", {limit} ms each"));
            format!("{} on {}{each}", retries.attempts, retries.retry_on.join(","))
        });
        writeln!(out, "retries       {retries}  from {}", from("retries"))?;
    }
    Ok(())
}
