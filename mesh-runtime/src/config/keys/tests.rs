use super::*;
use crate::Clock;
use http::StatusCode;
use mesh_core::{
    authenticate::KeysError,
    config::{Options, istio::MtlsMode, load},
    snapshot::{MeshSettings, Snapshot, Viewer},
};
use std::{cell::RefCell, collections::VecDeque, sync::Mutex};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, timeout},
};

const KEYS: &str = r#"{"keys": [{"kty": "RSA", "n": "AMBA", "e": "AQAB"}]}"#;

/// CVE-2026-31837, and a day of an issuer: it is down, comes up, is down again, and comes up with other keys.
#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_before_they_are_old_and_a_failure_leaves_the_last_good_ones() {
    let keys = Arc::new(FetchedKeys::default());
    let one = || KeySet::parse(KEYS.as_bytes());
    let down = || Err(FetchError::Status(StatusCode::BAD_GATEWAY));
    let script = [down(), down(), Ok(one().unwrap()), down(), Ok(one().unwrap())];
    let script = RefCell::new(VecDeque::from(script));
    // When each fetch began, and what was known then.
    let seen = RefCell::new(Vec::new());
    let start = Instant::now();
    let fetch = || {
        seen.borrow_mut().push((start.elapsed(), keys.known().is_some()));
        let answer = script.borrow_mut().pop_front();
        async { answer.unwrap_or(Err(FetchError::NoKeys(KeysError::NoSet))) }
    };
    let location = KeyLocation::Uri("https://a.example/keys".into());
    let day = follow(&location, fetch, Arc::downgrade(&keys), || {});
    let _ = timeout(Duration::from_secs(45 * 60), day).await;

    let seen = seen.into_inner();
    let (times, known): (Vec<_>, Vec<_>) = seen.into_iter().take(5).unzip();
    assert_eq!(known, [false, false, false, true, true]);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let soon = Duration::from_secs(1);
    let refresh = Duration::from_secs(18 * 60)..=Duration::from_secs(22 * 60);
    assert!(gaps[0] < soon && gaps[1] < soon && refresh.contains(&gaps[2]) && gaps[3] < soon, "{gaps:?}");
    assert!(keys.known().is_some());
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are_and_what_is_no_answer_is_an_error() {
    let issuer = Issuer::start().await;
    let (base, long) = (issuer.base(), format!("{KEYS}{}", " ".repeat(2 << 20)));
    let discovery = "/.well-known/openid-configuration";
    issuer.answers("/keys", 200, KEYS);
    issuer.answers(discovery, 200, &format!(r#"{{"jwks_uri": "{base}/keys"}}"#));
    issuer.answers("/long", 200, &long);
    issuer.answers("/moved", 302, "");
    issuer.answers("/words", 200, "no keys");
    issuer.answers(&format!("/odd{discovery}"), 200, "{}");
    let uri = |path: &str| KeyLocation::Uri(format!("{base}{path}").into());
    for (location, error) in [
        (uri("/keys"), None),
        (KeyLocation::Issuer(base.as_str().into()), None),
        (KeyLocation::Issuer(format!("{base}/").into()), None),
        (
            KeyLocation::Issuer(format!("{base}/odd").into()),
            Some("its discovery document names no `jwks_uri`"),
        ),
        (uri("/none"), Some("it answers 404 Not Found")),
        (uri("/moved"), Some("it answers 302 Found")),
        (uri("/long"), Some("an answer of more than 1024 KiB")),
        (uri("/words"), Some("the answer: it is no JSON object with a list `keys`")),
        (uri("/hangs"), Some("no answer within 0.05 s")),
        (
            KeyLocation::Issuer("login".into()),
            Some("`login/.well-known/openid-configuration` is no http or https URI"),
        ),
        (KeyLocation::Uri("ftp://a/b".into()), Some("`ftp://a/b` is no http or https URI")),
    ] {
        let limit = Duration::from_millis(if location == uri("/hangs") { 50 } else { 20_000 });
        let fetched = Fetch::new(location.clone(), limit).keys().await;
        let said = fetched.as_ref().err().map(ToString::to_string);
        assert_eq!(said.as_deref(), error, "{location}");
    }
}

#[tokio::test]
async fn a_plain_answer_where_tls_is_due_is_no_answer() {
    let issuer = Issuer::start().await;
    issuer.answers("/keys", 200, KEYS);
    let uri = format!("{}/keys", issuer.base().replace("http:", "https:"));
    let fetched = Fetch::new(KeyLocation::Uri(uri.into()), Duration::from_secs(20)).keys().await;
    assert!(matches!(fetched, Err(FetchError::Tls(_))), "{fetched:?}");
}

#[tokio::test]
async fn keys_that_several_rules_name_are_fetched_once_and_only_while_a_rule_names_them() {
    let issuer = Issuer::start().await;
    issuer.answers("/keys", 200, KEYS);
    let store = Arc::new(ConfigStore::new(Snapshot::empty(MtlsMode::Permissive), Clock::start()));
    let running = tokio::spawn(run(Arc::clone(&store)));
    let rule = format!("{{issuer: ISSUER, jwksUri: '{}/keys'}}", issuer.base());
    let rules = [rule.replace("ISSUER", "a"), rule.replace("ISSUER", "b")].join(", ");
    set_rules(&store, &rules);
    let location = KeyLocation::Uri(format!("{}/keys", issuer.base()).into());
    let keys = store.states().keys(&location);
    let mut answers = store.key_answers.subscribe();
    while keys.is_unanswered() {
        answers.changed().await.unwrap();
    }
    set_rules(&store, &rule.replace("ISSUER", "c"));
    assert!(Arc::ptr_eq(&keys, &store.states().keys(&location)), "an edit finds the keys again");
    assert_eq!((issuer.asked("/keys"), keys.known().map(|keys| keys.len())), (1, Some(1)));

    set_rules(&store, "{issuer: d, jwks: '{\"keys\": []}'}");
    drop(keys);
    // The states of the configuration before the last one are forgotten with the next.
    set_rules(&store, "");
    assert!(store.states().keys(&location).is_unanswered(), "nobody keeps what nobody names");
    running.abort();
}

fn set_rules(store: &ConfigStore, rules: &str) {
    let text = format!(
        "{{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {{name: r}}, spec: {{jwtRules: [{rules}]}}}}"
    );
    let loaded = load("r.yaml", &text, &Options::default());
    let resources: Vec<_> = loaded.resources.into_iter().map(Arc::new).collect();
    let viewer = Viewer { namespace: "default".to_owned(), service: None, labels: BTreeMap::new() };
    store.compile("1", &resources, &viewer, &MeshSettings::new("cluster.local".parse().unwrap()));
}

/// An issuer on loopback that answers as it is told, 404 otherwise, and never on `/hangs`.
struct Issuer {
    address: std::net::SocketAddr,
    shared: Arc<Mutex<Shared>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<String, String>,
    asked: BTreeMap<String, usize>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Mutex<Shared>>::default());
        let known = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let known = Arc::clone(&known);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(byte);
                        if !head.starts_with(&b"GET "[..head.len().min(4)]) {
                            return;
                        }
                    }
                    let path = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                    let answer = {
                        let mut known = known.lock().unwrap();
                        *known.asked.entry(path.clone()).or_default() += 1;
                        known.answers.get(&path).cloned()
                    };
                    if path == "/hangs" {
                        std::future::pending::<()>().await;
                    }
                    let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();
                    let _ = stream.write_all(answer.unwrap_or(none).as_bytes()).await;
                });
            }
        });
        Self { address, shared, task }
    }

    fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answers(&self, path: &str, status: u16, body: &str) {
        let answer = format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.shared.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    fn asked(&self, path: &str) -> usize {
        self.shared.lock().unwrap().asked.get(path).copied().unwrap_or_default()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
