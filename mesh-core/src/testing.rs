//! Configuration as unit tests: a team asserts in `cargo test` what its own YAML does, offline, in microseconds.
//!
//! Nothing is imitated: the files are read, compiled and asked by the code that serves them.
//!
//! ```
//! use mesh_core::testing::TestMesh;
//! use std::time::Duration;
//!
//! # let yaml = "
//! # {apiVersion: v1, kind: Service, metadata: {name: payment}, spec: {ports: [{name: http, port: 80}]}}
//! # ---
//! # {apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: payment}, spec: {host: payment,
//! # subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}}
//! # ---
//! # {apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: payment}, spec: {hosts: [payment],
//! # http: [{name: refunds, match: [{uri: {prefix: /refunds}}], timeout: 2s,
//! # route: [{destination: {host: payment, subset: v1}}]},
//! # {route: [{destination: {host: payment, subset: v1}, weight: 90},
//! # {destination: {host: payment, subset: v2}, weight: 10}]}]}}
//! # ---
//! # {apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: payment}, spec:
//! # {rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/checkout]}}]}]}}
//! # ";
//! let mesh = TestMesh::of_yaml(yaml); // or include_str!("../deploy/mesh.yaml")
//! mesh.assert_no_errors();
//!
//! let checkout = mesh.caller("default/checkout");
//! checkout.get("http://payment/").assert_split(&[("payment v1", 90), ("payment v2", 10)]);
//! checkout.post("http://payment/refunds/7").assert_route("refunds").assert_timeout(Duration::from_secs(2));
//! checkout.get("http://payment/").assert_allowed();
//! mesh.caller("default/stranger").get("http://payment/").assert_denied();
//! ```
#![expect(clippy::panic, reason = "an assertion that does not hold panics: that is what a test is told by")]

use crate::{
    config::{Accepted, Diagnostic, Options, Resource, SourceFile},
    explain::{Action, Explanation, Setting, explain, explain_arrival},
    health::States,
    identity::{SpiffeId, TrustDomain},
    route::Head,
    snapshot::{MeshSettings, Snapshot, Viewer, compile},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

/// A mesh of configuration files, as they would be served.
#[derive(Debug)]
pub struct TestMesh {
    files: Vec<SourceFile>,
    settings: MeshSettings,
    accepted: Accepted,
}

/// Somebody in the mesh who calls others.
#[derive(Debug)]
pub struct Caller {
    viewer: Viewer,
    id: SpiffeId,
    snapshot: Snapshot,
    resources: Vec<Arc<Resource>>,
    settings: MeshSettings,
}

/// A call that is not made, only asked about.
#[derive(Clone, Debug)]
pub struct Call<'c> {
    caller: &'c Caller,
    method: Method,
    url: Uri,
    headers: HeaderMap,
}

impl TestMesh {
    /// Returns the mesh of one text of YAML or JSON, with Istio's defaults and the trust domain `cluster.local`.
    ///
    /// Objects that do not read are not in force, as they would not be in a mesh; [`Self::assert_no_errors`] tells.
    pub fn of_yaml(yaml: &str) -> Self {
        Self::of_files(vec![SourceFile { name: "mesh.yaml".to_owned(), text: Ok(yaml.to_owned()) }])
    }

    /// Returns the mesh of several files.
    pub fn of_files(files: Vec<SourceFile>) -> Self {
        let settings = MeshSettings::new(TrustDomain::cluster_local());
        let accepted = Accepted::default().update(&files, &Options::default());
        Self { files, settings, accepted }
    }

    /// Returns this mesh with the MeshConfig `yaml`, as `meshctl analyze --mesh-config` takes it.
    ///
    /// # Panics
    ///
    /// If it has errors.
    #[must_use]
    #[track_caller]
    pub fn with_mesh_config(mut self, yaml: &str) -> Self {
        let (settings, findings) = MeshSettings::of_file("mesh-config.yaml", yaml, &Options::default());
        if let Some(error) = findings.iter().find(|finding| finding.is_error()) {
            panic!("the MeshConfig has errors\n\n{}", error.render(Some(yaml)));
        }
        self.settings = settings;
        self
    }

    /// Returns everything that `meshctl analyze` would say.
    pub fn findings(&self) -> Vec<Diagnostic> {
        crate::analyze::analyze(&self.files, &Options::default(), &self.settings)
    }

    /// Asserts that no finding is an error.
    ///
    /// # Panics
    ///
    /// If one is; the message shows each as `meshctl analyze` does.
    #[track_caller]
    pub fn assert_no_errors(&self) -> &Self {
        let errors: String =
            self.findings().iter().filter(|it| it.is_error()).map(|it| self.shown(it)).collect();
        assert!(errors.is_empty(), "the configuration has errors\n\n{errors}");
        self
    }

    fn shown(&self, finding: &Diagnostic) -> String {
        let file = |name: &str| self.files.iter().find(|file| file.name == name)?.text.as_deref().ok();
        finding.render(finding.location.as_ref().and_then(|place| file(&place.file)))
    }

    /// Returns the workload of service account `caller`, as `NAMESPACE/ACCOUNT`, whose label `app` is the account.
    ///
    /// # Panics
    ///
    /// If `caller` is written in another way.
    #[track_caller]
    pub fn caller(&self, caller: &str) -> Caller {
        self.caller_with_labels(caller, &[])
    }

    /// Returns the workload of service account `caller` with these labels, for rules that look at them.
    ///
    /// # Panics
    ///
    /// If `caller` is not `NAMESPACE/ACCOUNT`.
    #[track_caller]
    pub fn caller_with_labels(&self, caller: &str, labels: &[(&str, &str)]) -> Caller {
        let Some((namespace, account)) = caller.split_once('/') else {
            panic!("{caller:?} is no caller; write NAMESPACE/ACCOUNT");
        };
        let app = std::iter::once(("app", account));
        let labels =
            app.chain(labels.iter().copied()).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let viewer = Viewer {
            namespace: namespace.to_owned(),
            service: Some(account.to_owned()),
            labels: labels.collect::<BTreeMap<_, _>>(),
        };
        let resources = &self.accepted.resources;
        let (snapshot, _) = compile("test", resources, &viewer, &self.settings, &States::default());
        let id = SpiffeId::of_account(&self.settings.trust_domain, namespace, account);
        let Ok(id) = id else { panic!("{caller:?} is no caller; write NAMESPACE/ACCOUNT") };
        Caller { viewer, id, snapshot, resources: resources.clone(), settings: self.settings.clone() }
    }
}

impl Caller {
    /// Returns a GET of `url`.
    ///
    /// # Panics
    ///
    /// If `url` is none with a host.
    #[track_caller]
    pub fn get(&self, url: &str) -> Call<'_> {
        self.call("GET", url)
    }

    /// Returns a POST to `url`.
    ///
    /// # Panics
    ///
    /// If `url` is none with a host.
    #[track_caller]
    pub fn post(&self, url: &str) -> Call<'_> {
        self.call("POST", url)
    }

    /// Returns a call of `url`.
    ///
    /// # Panics
    ///
    /// If `method` is no method, or `url` none with a host.
    #[track_caller]
    pub fn call(&self, method: &str, url: &str) -> Call<'_> {
        let Ok(method) = method.parse() else { panic!("{method:?} is no HTTP method") };
        match url.parse::<Uri>() {
            Ok(url) if url.authority().is_some() => {
                Call { caller: self, method, url, headers: HeaderMap::new() }
            }
            _ => panic!("{url:?} is no URL with a host; write e.g. http://reviews/"),
        }
    }
}

impl Call<'_> {
    /// Adds a header.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = header else { panic!("{name:?}: {value:?} is no header") };
        self.headers.append(name, value);
        self
    }

    /// Returns where the call would go and what it meets there, and why.
    pub fn explain(&self) -> Explanation {
        let Caller { snapshot, resources, settings, id, .. } = self.caller;
        explain_arrival(snapshot, &self.head(), &Setting { resources, settings, caller: id })
    }

    /// Returns the way of the call, without what it meets at the end.
    fn way(&self) -> Explanation {
        explain(&self.caller.snapshot, &self.head())
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: self.url.scheme_str().unwrap_or("http"),
            authority: self.url.authority().map_or("", |authority| authority.as_str()),
            path_and_query: self.url.path_and_query().map_or("/", |path| path.as_str()),
            headers: &self.headers,
        }
    }

    /// Asserts where the call goes: every destination as `host` or `host subset`, with its weight, in any order.
    ///
    /// # Panics
    ///
    /// If it goes elsewhere; the message tells the whole story.
    #[track_caller]
    pub fn assert_split(&self, expected: &[(&str, u64)]) -> &Self {
        let story = self.way();
        let name = |to: &crate::explain::Destination| match &to.subset {
            Some(subset) => format!("{} {subset}", to.host),
            None => to.host.to_string(),
        };
        let mut found: Vec<_> = story.destinations.iter().map(|to| (name(to), to.weight)).collect();
        let mut expected: Vec<_> = expected.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        found.sort();
        expected.sort();
        self.assert_same("the split", &expected, &found, &story)
    }

    /// Asserts that the call goes to this one destination, `host` or `host subset`.
    ///
    /// # Panics
    ///
    /// If it goes elsewhere.
    #[track_caller]
    pub fn assert_destination(&self, expected: &str) -> &Self {
        self.assert_split(&[(expected, 1)])
    }

    /// Asserts which route takes the call, by its name, or `Kind namespace/name#index` if it has none.
    ///
    /// # Panics
    ///
    /// If another one does, or none.
    #[track_caller]
    pub fn assert_route(&self, expected: &str) -> &Self {
        let story = self.way();
        self.assert_same("the route", &Some(expected), &story.route.as_deref(), &story)
    }

    /// Asserts what happens to the call: that it is answered by a redirect, passed through, and so on.
    ///
    /// # Panics
    ///
    /// If something else does.
    #[track_caller]
    pub fn assert_action(&self, expected: Action) -> &Self {
        let story = self.way();
        self.assert_same("the action", &expected, &story.action, &story)
    }

    /// Asserts the bound of the whole call, retries included.
    ///
    /// # Panics
    ///
    /// If it is another, or none.
    #[track_caller]
    pub fn assert_timeout(&self, expected: Duration) -> &Self {
        let story = self.way();
        let found = story.timeout_ms.map(Duration::from_millis);
        self.assert_same("the timeout", &Some(expected), &found, &story)
    }

    /// Asserts how many retries there are after the first try; 0 is none.
    ///
    /// # Panics
    ///
    /// If there are more or fewer.
    #[track_caller]
    pub fn assert_retries(&self, expected: u32) -> &Self {
        let story = self.way();
        let found = story.retries.as_ref().map_or(0, |retries| retries.attempts);
        self.assert_same("the number of retries", &expected, &found, &story)
    }

    /// Asserts that every workload of the destination with the most weight lets the call in, if it brings no token of an
    /// end user.
    ///
    /// # Panics
    ///
    /// If one does not, or nobody in the mesh is called.
    #[track_caller]
    pub fn assert_allowed(&self) -> &Self {
        self.assert_access(true)
    }

    /// Asserts that no workload of the destination with the most weight lets the call in, if it brings no token of an end
    /// user.
    ///
    /// # Panics
    ///
    /// If one does, or nobody in the mesh is called.
    #[track_caller]
    pub fn assert_denied(&self) -> &Self {
        self.assert_access(false)
    }

    #[track_caller]
    fn assert_access(&self, allowed: bool) -> &Self {
        let story = self.explain();
        let verdict = |allowed| if allowed { "allowed" } else { "denied" };
        if story.arrivals.is_empty() {
            panic!("{}: nobody in the mesh is called, so nobody decides\n{}", self.shown(), tried(&story));
        }
        if let Some(other) = story.arrivals.iter().find(|arrival| arrival.allowed != allowed) {
            let (is, wanted) = (verdict(other.allowed), verdict(allowed));
            panic!("{} is {is} at {:?}, not {wanted}: {}", self.shown(), other.labels, other.reason);
        }
        self
    }

    fn shown(&self) -> String {
        let Viewer { namespace, service, .. } = &self.caller.viewer;
        let account = service.as_deref().unwrap_or_default();
        format!("{} {} as {namespace}/{account}", self.method, self.url)
    }

    #[track_caller]
    fn assert_same<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        expected: &T,
        found: &T,
        story: &Explanation,
    ) -> &Self {
        assert!(
            expected == found,
            "{what} of {} is not what is expected\nexpected: {expected:?}\n   found: {found:?}\n{}",
            self.shown(),
            tried(story),
        );
        self
    }
}

/// Returns the routes that were looked at, a line each.
fn tried(story: &Explanation) -> String {
    let mut text = format!("virtual host: {:?}", story.virtual_host);
    for route in &story.tried {
        let verdict = route.failed.as_deref().unwrap_or("matched");
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {}: {verdict}", route.route);
    }
    text
}
