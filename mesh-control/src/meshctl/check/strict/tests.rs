use super::*;
use mesh_core::config::SourceFile;
use mesh_runtime::control::wire::Callers;

#[test]
fn strict_cuts_off_exactly_those_who_prove_nothing_where_it_is_in_force() {
    let status = status(vec![
        caller(CallsBy::Plaintext, "10.0.0.7", 8080, &["/a"]),
        caller(CallsBy::Anonymous, "10.0.0.8", 8080, &["/a"]),
        caller(CallsBy::Plaintext, "10.0.0.7", 9090, &["/healthz"]),
        caller(CallsBy::MutualTls, CHECKOUT, 8080, &["/a"]),
    ]);
    let cut_off = |yaml: &str| -> Vec<(String, u16)> {
        let outlook = Outlook::of(&status, &wanted(yaml));
        assert_eq!(outlook.is_clear(), outlook.cut_off.is_empty());
        outlook.cut_off.into_iter().map(|it| (it.caller.unwrap(), it.port)).collect()
    };
    let everybody =
        [("10.0.0.7".to_owned(), 8080), ("10.0.0.8".to_owned(), 8080), ("10.0.0.7".to_owned(), 9090)];
    assert_eq!(cut_off(""), everybody);
    assert_eq!(cut_off(&modes("mtls: {mode: STRICT}")), everybody);
    assert_eq!(cut_off(&modes("mtls: {mode: PERMISSIVE}")), []);
    let but_for_health = "selector: {matchLabels: {app: payment}}, mtls: {mode: STRICT}, portLevelMtls: {9090: {mode: DISABLE}}";
    assert_eq!(cut_off(&modes(but_for_health)), everybody[..2]);
}

#[test]
fn policies_deny_what_they_say_and_what_they_cannot_be_asked_about_may_be_denied() {
    let status = status(vec![
        caller(CallsBy::MutualTls, CHECKOUT, 8080, &["/pay", "/admin/x"]),
        caller(CallsBy::MutualTls, "spiffe://cluster.local/ns/shop/sa/search", 8080, &["/pay"]),
    ]);
    let denied = |yaml: &str| -> Vec<(String, String, bool, bool)> {
        let outlook = Outlook::of(&status, &wanted(yaml));
        assert_eq!(outlook.cut_off, []);
        let account = |id: &str| id.rsplit('/').next().unwrap().to_owned();
        let told = |it: Denied| {
            (format!("{} {}", account(&it.caller), it.asked.path), it.policy, it.certain, it.on_trial)
        };
        outlook.denied.into_iter().map(told).collect()
    };
    let row =
        |who: &str, policy: &str, certain, on_trial| (who.to_owned(), policy.to_owned(), certain, on_trial);
    let admin = policy("no-admin", "", "action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]");
    assert_eq!(denied(&admin), [row("checkout /admin/x", "ns[shop]-policy[no-admin]-rule[0]", true, false)]);
    let viewers = policy("viewers", "", "rules: [{from: [{source: {serviceAccounts: [shop/checkout]}}]}]");
    assert_eq!(
        denied(&viewers),
        [row("search /pay", "none of AuthorizationPolicy shop/viewers", true, false)]
    );
    let tried = policy(
        "viewers",
        ", annotations: {istio.io/dry-run: 'true'}",
        "rules: [{from: [{source: {serviceAccounts: [shop/checkout]}}]}]",
    );
    assert_eq!(denied(&tried), [row("search /pay", "none of AuthorizationPolicy shop/viewers", true, true)]);
    let header = policy(
        "team",
        "",
        "action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}], when: [{key: 'request.headers[x-team]', notValues: [ops]}]}]",
    );
    assert_eq!(denied(&header), [row("checkout /admin/x", "ns[shop]-policy[team]-rule[0]", false, false)]);
    let elsewhere = policy("elsewhere", "", "selector: {matchLabels: {app: other}}");
    assert_eq!(denied(&elsewhere), []);
}

#[test]
fn what_two_instances_say_of_one_caller_is_one_line() {
    let mut status = status(vec![
        caller(CallsBy::Plaintext, "10.0.0.7", 8080, &["/a"]),
        caller(CallsBy::MutualTls, CHECKOUT, 8080, &["/a"]),
    ]);
    let second = WorkloadStatus { instance: "payment-2".into(), ..status.workloads[0].clone() };
    status.workloads.push(second);
    let outlook = Outlook::of(&status, &wanted(&policy("nobody", "", "")));
    let requests: Vec<_> = outlook.cut_off.iter().map(|it| it.requests).collect();
    let denied: Vec<_> = outlook.denied.iter().map(|it| it.asked.count).collect();
    assert_eq!((requests, denied), (vec![2], vec![2]));
}

#[test]
fn what_is_not_known_is_said() {
    let mut status = status(vec![]);
    let notes = |status: &Status| Outlook::of(status, &wanted("")).notes.join("\n");
    assert!(notes(&status).contains("has recorded for 60 s only"), "{}", notes(&status));
    status.workloads[0].callers = None;
    assert!(notes(&status).contains("nothing is known"), "{}", notes(&status));
}

const CHECKOUT: &str = "spiffe://cluster.local/ns/shop/sa/checkout";

fn status(callers: Vec<CallerRecord>) -> Status {
    let workload = WorkloadStatus {
        namespace: "shop".into(),
        service: "payment".into(),
        instance: "payment-1".into(),
        spiffe_id: "spiffe://cluster.local/ns/shop/sa/payment".into(),
        version: "v1".into(),
        age_seconds: 1,
        labels: BTreeMap::from([("app".to_owned(), "payment".to_owned())]),
        certificate_seconds: Some(100),
        callers: Some(Callers { recorded_seconds: 60, callers, ..Callers::default() }),
    };
    Status { version: "v1".into(), workloads: vec![workload], rejected: Vec::new() }
}

fn caller(by: CallsBy, who: &str, port: u16, paths: &[&str]) -> CallerRecord {
    let asked = |path: &&str| AskedRecord {
        method: "GET".into(),
        host: "payment".into(),
        path: (*path).to_owned(),
        count: 1,
    };
    let (identity, address) = match by {
        CallsBy::MutualTls => (Some(who.to_owned()), None),
        _ => (None, Some(who.to_owned())),
    };
    CallerRecord {
        by,
        identity,
        address,
        port,
        connections: 1,
        refused: 0,
        requests: paths.len() as u64,
        last_seen_seconds: 3,
        asked: paths.iter().map(asked).collect(),
        asked_more: 0,
    }
}

fn wanted(yaml: &str) -> Wanted {
    let file = SourceFile { name: "test.yaml".to_owned(), text: Ok(yaml.to_owned()) };
    let accepted = Accepted::default().update(&[file], &Options::default());
    assert!(accepted.diagnostics.iter().all(|it| it.level != Level::Error), "{:?}", accepted.diagnostics);
    let sets_modes = accepted.resources.iter().any(|it| it.kind == Kind::PeerAuthentication);
    Wanted { resources: accepted.resources, settings: None, sets_modes }
}

fn modes(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: default, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

fn policy(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: shop{annotations}}}\nspec: {{{spec}}}\n"
    )
}
