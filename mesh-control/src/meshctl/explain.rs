//! `meshctl explain`: where a request would go, and why, told by the code that routes it.

mod text;

use super::{
    args::ExplainArgs,
    input::{self, Settings},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use mesh_core::{
    config::{Accepted, Level, Options, Resource},
    explain::{Explanation, Setting, explain_arrival},
    health::States,
    identity::SpiffeId,
    route::Head,
    snapshot::{MeshSettings, Snapshot, Viewer, compile, compile_gateway},
};
use std::{collections::BTreeMap, io::Write as _, sync::Arc};

pub(crate) fn run(args: &ExplainArgs, json: bool) -> Result<(), String> {
    let options = Options::default();
    let mesh = Settings::read(args.mesh_config.as_deref(), &options)?;
    let accepted = Accepted::default().update(&input::read(&args.config)?, &options);
    let findings = mesh.findings.iter().chain(&accepted.diagnostics);
    for finding in findings.filter(|finding| finding.level == Level::Error) {
        eprintln!("{finding}");
    }
    let request = Request::of(args)?;
    let caller = Caller::of(args)?;
    let story = caller.explain(&accepted.resources, &mesh.settings, &request.head())?;
    let text = match json {
        true => serde_json::to_string_pretty(&story).map_err(|error| error.to_string())? + "\n",
        false => text::of(&story),
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("writing the explanation: {error}"))
}

/// Where a request comes from.
enum Caller {
    Workload { namespace: String, account: String, labels: BTreeMap<String, String> },
    Gateway { namespace: String, name: String },
}

impl Caller {
    fn of(args: &ExplainArgs) -> Result<Self, String> {
        let parts = |text: &str| text.split_once('/').map(|(a, b)| (a.to_owned(), b.to_owned()));
        if let Some(gateway) = &args.gateway {
            let (namespace, name) = parts(gateway).ok_or("--gateway: write NAMESPACE/NAME")?;
            return Ok(Self::Gateway { namespace, name });
        }
        let from = args.from.as_deref().unwrap_or_default();
        let (namespace, account) = parts(from).ok_or("--from: write NAMESPACE/SERVICE_ACCOUNT")?;
        let mut labels: BTreeMap<_, _> = args.labels.iter().cloned().collect();
        labels.entry("app".to_owned()).or_insert_with(|| account.clone());
        Ok(Self::Workload { namespace, account, labels })
    }

    fn explain(
        &self,
        resources: &[Arc<Resource>],
        settings: &MeshSettings,
        head: &Head<'_>,
    ) -> Result<Explanation, String> {
        let snapshot = self.compile(resources, settings)?;
        let (namespace, account) = match self {
            Self::Workload { namespace, account, .. } => (namespace, account),
            // Nobody knows under which account a gateway runs; its own name is the custom.
            Self::Gateway { namespace, name } => (namespace, name),
        };
        let caller = SpiffeId::of_account(&settings.trust_domain, namespace, account)
            .map_err(|error| format!("{namespace}/{account} names no workload: {error}"))?;
        Ok(explain_arrival(&snapshot, head, &Setting { resources, settings, caller: &caller }))
    }

    fn compile(&self, resources: &[Arc<Resource>], settings: &MeshSettings) -> Result<Snapshot, String> {
        let states = States::default();
        match self {
            Self::Workload { namespace, account, labels } => {
                let service = Some(account.clone());
                let viewer = Viewer { namespace: namespace.clone(), service, labels: labels.clone() };
                Ok(compile("", resources, &viewer, settings, &states).0)
            }
            Self::Gateway { namespace, name } => {
                let compiled = compile_gateway((namespace, name), "", resources, settings, &states);
                let (snapshot, _) =
                    compiled.ok_or_else(|| format!("--gateway: there is no Gateway {namespace}/{name}"))?;
                Ok(snapshot)
            }
        }
    }
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
