//! Which version of each object is in force after an edit, good or bad.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use mesh_core::config::{
    Accepted, Code, Diagnostic, Level, Options, Resource, SourceFile, Spec, accept::LastGood,
};
use std::sync::Arc;

#[test]
fn a_good_edit_is_in_force_and_a_deleted_object_is_gone() {
    let first = load(&[("a.yaml", &[rule("v1"), route("v1")].join("---\n"))]);
    assert_eq!(in_force(&first), ["DestinationRule default/reviews v1", "VirtualService default/reviews v1"]);
    let second = edit(&first, &[("a.yaml", &rule("v1,v2"))]);
    assert_eq!(in_force(&second), ["DestinationRule default/reviews v1,v2"]);
    assert_eq!(second.diagnostics, []);
    assert_eq!(in_force(&edit(&second, &[])), [""; 0]);
}

#[test]
fn an_object_that_did_not_change_is_the_same_arc() {
    let text = [rule("v1"), route("v1")].join("---\n");
    let first = load(&[("a.yaml", &text)]);
    let second = edit(&first, &[("a.yaml", &text.replace("attempts: 1", "attempts: 2"))]);
    assert!(Arc::ptr_eq(&first.resources[0], &second.resources[0]));
    assert!(!Arc::ptr_eq(&first.resources[1], &second.resources[1]));
}

/// One row per way to break a file that held `rule` and `route`: the edit, and what the finding is about.
#[test]
fn a_broken_edit_changes_nothing_that_worked_and_says_what_was_kept() {
    let (rule, route) = (rule("v1"), route("v1"));
    let good = [rule.as_str(), &route].join("---\n");
    let first = load(&[("a.yaml", &good)]);
    for (text, about) in [
        (good.replace("attempts: 1", "attempts: -1"), Some("VirtualService default/reviews")),
        (good.replace("hosts:", "hots:"), Some("VirtualService default/reviews")),
        (good.replace("hosts: [reviews]", "hosts: [reviews"), Some("VirtualService default/reviews")),
        (good.replace("subset: v1", "subset: v3"), Some("VirtualService default/reviews")),
        (good.replace("kind: VirtualService", "kind: VirtualServce"), None),
        (good.replace("  name: reviews\nspec:\n  hosts", "  nam: reviews\nspec:\n  hosts"), None),
        (format!("{rule}---\n{}", &route[..route.len() / 2].replace("kind", "ki\tnd")), None),
        (format!("{{\n---\n{rule}"), None),
        (good.replace("host: reviews\n", "host: 'reviews\n"), Some("DestinationRule default/reviews")),
        (good.replace("name: v1", "name: v2"), Some("DestinationRule default/reviews")),
        (route.clone(), Some("DestinationRule default/reviews")),
        ("}".to_owned(), None),
        ("x".repeat(9 * 1024 * 1024), None),
    ] {
        let second = edit(&first, &[("a.yaml", &text)]);
        assert_eq!((in_force(&second), attempts(&second)), (in_force(&first), 1), "{text:.400}");
        let error = second.diagnostics.iter().find(|finding| finding.is_error()).unwrap();
        assert_eq!(error.resource.as_ref().map(ToString::to_string).as_deref(), about, "{error}");
        let kept = error.kept.as_ref().unwrap();
        assert!(kept.contains("in force"), "{error}");
        assert_eq!(&*error.location.as_ref().unwrap().file, "a.yaml");

        // It stays so however often the file is read, and the next good edit ends it.
        let third = edit(&second, &[("a.yaml", &text)]);
        assert_eq!(third.resources, second.resources);
        assert_eq!(third.diagnostics, second.diagnostics);
        let mended = edit(&third, &[("a.yaml", &good.replace("attempts: 1", "attempts: 7"))]);
        assert_eq!((mended.diagnostics.len(), attempts(&mended)), (0, 7));
    }
}

#[test]
fn a_good_object_beside_a_broken_one_is_in_force_at_once() {
    let first = load(&[("a.yaml", &[rule("v1"), route("v1")].join("---\n"))]);
    let text = [rule("v1,v2"), route("v1").replace("attempts: 1", "attempts: x")].join("---\n");
    let second = edit(&first, &[("a.yaml", &text)]);
    assert_eq!(
        in_force(&second),
        ["DestinationRule default/reviews v1,v2", "VirtualService default/reviews v1"]
    );
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_held() {
    let first = load(&[("a.yaml", &rule("v1")), ("b.yaml", &route("v1"))]);
    let unreadable = SourceFile { name: "a.yaml".into(), text: Err("permission denied".into()) };
    let second = first.update(&[unreadable, file("b.yaml", &route("v1"))], &Options::default());
    assert_eq!(second.resources, first.resources);
    let said = second.diagnostics[0].to_string();
    assert!(
        said.contains("a.yaml:1:1")
            && said.contains("permission denied")
            && said.contains("DestinationRule default/reviews"),
        "{said}"
    );
}

#[test]
fn a_directory_that_cannot_be_listed_keeps_what_its_files_held() {
    let held = [rule("v1"), route("v1")];
    let first = load(&[
        ("etc/mesh/a.yaml", &held[0]),
        ("etc/mesh/deep/b.yaml", &held[1]),
        ("etc/mesh.yaml", &rule("v1").replace("name: reviews", "name: ratings")),
    ]);
    assert_eq!(in_force(&first).len(), 3);
    for directory in ["etc/mesh", "etc/mesh/"] {
        let unreadable =
            SourceFile { name: directory.to_owned(), text: Err("too many open files".to_owned()) };
        let second = first.update(&[unreadable], &Options::default());
        assert_eq!(in_force(&second).len(), 2, "{directory}: that of the file beside it is gone");
        let [finding] = &second.diagnostics[..] else { panic!("{:#?}", second.diagnostics) };
        assert!(finding.message.contains("too many open files"), "{finding}");
        let third = second.update(&[], &Options::default());
        assert_eq!(in_force(&third), [""; 0], "once it lists, what is not there is gone");
    }
}

#[test]
fn a_broken_object_that_never_was_good_is_left_out() {
    let first = load(&[("a.yaml", &route("v1").replace("attempts: 1", "attempts: -1"))]);
    assert_eq!(in_force(&first), [""; 0]);
    assert_eq!(
        first.diagnostics[0].kept.as_deref(),
        Some("nothing is in force: there is no earlier version")
    );
}

#[test]
fn a_broken_security_object_keeps_its_last_good_version_and_fails_closed_without_one() {
    let good = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n\
                spec: {selector: {matchLabels: {app: a}}, action: DENY, rules: [{}]}\n";
    let broken = good.replace("rules: [{}]", "rules: 1");
    let first = load(&[("a.yaml", &broken)]);
    let [resource] = &first.resources[..] else { panic!() };
    let Spec::Malformed { selector: Some(selector), deny: true } = &resource.spec else {
        panic!("{resource:?}")
    };
    assert_eq!(selector["app"], "a");
    let kept = first.diagnostics[0].kept.clone().unwrap();
    assert!(kept.contains("every request to the workloads app=a of namespace shop is denied"), "{kept}");

    let second = edit(&first, &[("a.yaml", good)]);
    assert!(matches!(second.resources[0].spec, Spec::AuthorizationPolicy(_)));
    let third = edit(&second, &[("a.yaml", &broken)]);
    assert_eq!(third.resources, second.resources);
    // A document that breaks off is no deletion either, and neither is an action that cannot be honoured.
    assert_eq!(edit(&third, &[("a.yaml", &good.replace("[{}]", "[{}"))]).resources, second.resources);
    assert_eq!(edit(&third, &[("a.yaml", &good.replace("DENY", "CUSTOM"))]).resources, second.resources);
    assert_eq!(edit(&third, &[("a.yaml", &good.replace("name: p", "nme: p"))]).resources, second.resources);
    assert_eq!(edit(&third, &[]).resources, []);

    for (kind, version, part) in [
        ("PeerAuthentication", "security.istio.io/v1", "STRICT for namespace shop"),
        ("MeshPolicy", "authentication.istio.io/v1alpha1", "STRICT for the whole mesh"),
        ("RequestAuthentication", "security.istio.io/v1", "every request to namespace shop"),
    ] {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: default, namespace: shop}}\nspec: 1\n"
        );
        let accepted = load(&[("a.yaml", &text)]);
        assert!(matches!(accepted.resources[0].spec, Spec::Malformed { .. }), "{kind}");
        assert!(accepted.diagnostics[0].kept.as_ref().unwrap().contains(part), "{:?}", accepted.diagnostics);
    }
}

#[test]
fn a_policy_that_fails_closed_does_not_vanish_when_its_file_breaks_off() {
    let broken = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p}\n\
                  spec: {action: DENY, rules: 1}\n";
    let first = load(&[("a.yaml", broken)]);
    assert!(matches!(first.resources[0].spec, Spec::Malformed { deny: true, .. }));
    let second = edit(&first, &[("a.yaml", "{")]);
    assert_eq!(second.resources, first.resources);
    let kept = second.diagnostics[0].kept.as_deref().unwrap();
    assert!(kept.contains("stays in force: AuthorizationPolicy default/p"), "{kept}");
    assert_eq!(edit(&second, &[("a.yaml", "[")]).resources, first.resources, "nor at the next edit");
    // What reads well, here or elsewhere, and what is gone do away with it.
    let good = broken.replace("rules: 1", "rules: [{}]");
    for files in [&[("a.yaml", &*good)][..], &[("a.yaml", "{"), ("b.yaml", &good)]] {
        assert!(matches!(edit(&second, files).resources[0].spec, Spec::AuthorizationPolicy(_)));
    }
    assert_eq!(edit(&second, &[("a.yaml", "")]).resources, []);
}

#[test]
fn of_two_documents_of_one_object_the_first_counts() {
    let (one, two) = (route("v1"), route("v1").replace("attempts: 1", "attempts: 2"));
    let rule = rule("v1");
    let first = load(&[("a.yaml", &[rule.as_str(), &one].join("---\n")), ("b.yaml", &two)]);
    assert_eq!(attempts(&first), 1);
    let [finding] = &first.diagnostics[..] else { panic!("{:#?}", first.diagnostics) };
    assert_eq!((finding.code, finding.level), (Code::DUPLICATE_OBJECT, Level::Error));
    assert!(
        finding.to_string().starts_with("b.yaml:1:1: ") && finding.message.contains("a.yaml:11:1"),
        "{finding}"
    );

    // The first breaks: its last good version is in force, not the other document, which was refused all the time.
    let broken = [rule.as_str(), &one.replace("attempts: 1", "attempts: -1")].join("---\n");
    let second = edit(&first, &[("a.yaml", &broken), ("b.yaml", &two)]);
    assert_eq!(second.resources, first.resources);
    // The first is deleted: the other is the only one.
    let third = edit(&second, &[("a.yaml", &rule), ("b.yaml", &two)]);
    assert_eq!((attempts(&third), third.diagnostics.len()), (2, 0));
    // The same document twice is no contradiction.
    let twice = load(&[("a.yaml", &rule), ("b.yaml", &rule)]);
    assert_eq!(twice.diagnostics.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Warning]);
}

#[test]
fn an_object_that_moves_to_another_file_is_there_all_the_time() {
    let first = load(&[("a.yaml", &[rule("v1"), route("v1")].join("---\n")), ("b.yaml", "")]);
    let moved = route("v1").replace("attempts: 1", "attempts: 3");
    let second = edit(&first, &[("a.yaml", &rule("v1")), ("b.yaml", &moved)]);
    assert_eq!((attempts(&second), second.diagnostics.len()), (3, 0));
    // Also if it arrives broken.
    let third = edit(
        &second,
        &[("a.yaml", &[rule("v1"), moved.replace("attempts: 3", "attempts: -3")].join("---\n"))],
    );
    assert_eq!(attempts(&third), 3);
}

#[test]
fn a_subset_that_never_was_defined_is_an_error_that_names_the_rule_and_its_subsets() {
    let first = load(&[("a.yaml", &[rule("v1,v2"), route("v3")].join("---\n"))]);
    assert_eq!(first.resources.len(), 2, "accepted: requests get the answer of a dangling destination");
    let [finding] = &first.diagnostics[..] else { panic!("{:#?}", first.diagnostics) };
    assert_eq!((finding.code, finding.level), (Code::REFERENCE_NOT_FOUND, Level::Error));
    assert_eq!(finding.message, "subset \"v3\" is not defined in any DestinationRule for host \"reviews\"");
    assert_eq!(finding.help.as_deref(), Some("DestinationRule default/reviews (a.yaml:1:1) defines v1, v2"));
    assert_eq!(finding.path, "spec.http[0].route[0].destination.subset");
    assert_eq!(finding.location.as_ref().unwrap().to_string(), "a.yaml:21:44");

    // A later edit that leaves it as it is, is no edit that made it dangle.
    let second = edit(
        &first,
        &[("a.yaml", &[rule("v1,v2"), route("v3").replace("attempts: 1", "attempts: 9")].join("---\n"))],
    );
    assert_eq!((attempts(&second), second.diagnostics.len()), (9, 1));
}

/// One row per pair of namespaces and spellings: the route's destination, the rule's host, and whether they meet.
#[test]
fn hosts_meet_by_their_full_names() {
    for (destination, rule_namespace, rule_host, found) in [
        ("reviews", "default", "reviews", true),
        ("reviews", "default", "reviews.default.svc.cluster.local", true),
        ("reviews", "other", "reviews.default.svc.cluster.local", true),
        ("reviews.default.svc.cluster.local", "default", "reviews", true),
        ("Reviews", "default", "rEVIEWS.default.svc.cluster.local.", true),
        ("reviews", "default", "*.default.svc.cluster.local", true),
        ("reviews", "default", "*", true),
        ("reviews", "other", "reviews", false),
        ("reviews.other.svc.cluster.local", "default", "reviews", false),
        ("reviews", "default", "*.other.svc.cluster.local", false),
    ] {
        let rule = rule("v1").replace("host: reviews", &format!("host: '{rule_host}'"));
        let rule =
            rule.replace("  name: reviews\n", &format!("  name: reviews\n  namespace: {rule_namespace}\n"));
        let route = route("v1").replace("host: reviews,", &format!("host: {destination},"));
        let accepted = load(&[("a.yaml", &rule), ("b.yaml", &route)]);
        assert_eq!(accepted.diagnostics.is_empty(), found, "{destination} {rule_namespace}/{rule_host}");
    }
}

#[test]
fn a_route_of_a_gateway_needs_no_subset_of_ours() {
    let route = route("v3").replace("hosts:", "gateways: [edge]\n  hosts:");
    let accepted = load(&[("a.yaml", &route)]);
    let paths: Vec<_> = accepted.diagnostics.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(
        paths,
        ["spec.gateways", "spec.gateways[0]"],
        "it is for a gateway, and the gateway is missing"
    );
}

#[test]
fn an_object_without_hosts_is_an_error_unless_another_one_delegates_to_it() {
    let child = route("v1").replace("name: reviews\n", "name: child\n").replace("  hosts: [reviews]\n", "");
    let root = route("v1")
        .replace("  - route:", "  - match: [{uri: {prefix: /a}}]\n    delegate: {name: child}\n  - route:");
    let alone = load(&[("a.yaml", &rule("v1")), ("b.yaml", &child)]);
    let [finding] = &alone.diagnostics[..] else { panic!("{:#?}", alone.diagnostics) };
    assert_eq!((finding.code, finding.level, &finding.path[..]), (Code::SCHEMA, Level::Error, "spec.hosts"));
    assert_eq!(finding.resource.as_ref().unwrap().to_string(), "VirtualService default/child");
    assert!(
        in_force(&alone).contains(&"VirtualService default/child v1".to_owned()),
        "the root may come later"
    );

    let both = edit(&alone, &[("a.yaml", &rule("v1")), ("b.yaml", &child), ("c.yaml", &root)]);
    assert_eq!(both.diagnostics, []);
}

/// One row per edit of a rule (subsets) and a route (subset) that were `v1` and `v1`: what is in force afterwards, and
/// whose edit was refused.
#[test]
fn the_edit_that_makes_a_reference_dangle_is_refused() {
    let first = load(&[("dr.yaml", &rule("v1")), ("vs.yaml", &route("v1"))]);
    for (rules, routes, in_force_then, refused) in [
        // The route is pointed to where nothing is.
        (Some("v1"), Some("v3"), ("v1", "v1"), &["VirtualService"][..]),
        // The rule lets go of what the route uses.
        (Some("v2"), Some("v1"), ("v1", "v1"), &["DestinationRule"]),
        (None, Some("v1"), ("v1", "v1"), &["DestinationRule"]),
        // Both at once, and not together.
        (Some("v2"), Some("v3"), ("v1", "v1"), &["VirtualService", "DestinationRule"]),
        (None, Some("v3"), ("v1", "v1"), &["VirtualService", "DestinationRule"]),
        // Both at once, and together.
        (Some("v2"), Some("v2"), ("v2", "v2"), &[]),
        (Some("v1,v2"), Some("v2"), ("v1,v2", "v2"), &[]),
        (None, None, ("", ""), &[]),
        (Some("v2"), None, ("v2", ""), &[]),
    ] {
        let rules = rules.map(rule);
        let routes = routes.map(route);
        let files = [("dr.yaml", rules.as_deref()), ("vs.yaml", routes.as_deref())];
        let files: Vec<_> = files.iter().filter_map(|(name, text)| Some((*name, (*text)?))).collect();
        let second = edit(&first, &files);
        let expected: Vec<_> = [("DestinationRule", in_force_then.0), ("VirtualService", in_force_then.1)]
            .iter()
            .filter(|(_, subsets)| !subsets.is_empty())
            .map(|(kind, subsets)| format!("{kind} default/reviews {subsets}"))
            .collect();
        assert_eq!(in_force(&second), expected, "{files:?}");
        let about: Vec<_> =
            second.diagnostics.iter().map(|finding| &*finding.resource.as_ref().unwrap().kind).collect();
        assert_eq!(about, refused, "{files:?}");
        for finding in &second.diagnostics {
            assert!(finding.is_error() && finding.code == Code::REFERENCE_NOT_FOUND);
            assert!(finding.kept.as_ref().unwrap().contains(".yaml:1:1, stays in force"), "{finding}");
        }
        // Reading the same files again neither gives in nor forgets.
        let third = edit(&second, &files);
        assert_eq!((in_force(&third), third.diagnostics), (in_force(&second), second.diagnostics));
    }
}

#[test]
fn a_chain_of_edits_that_depend_on_each_other_is_refused_to_its_end() {
    // The route of `a` moves from a:v1 to a:v2, which exists no more than b:v1 does, whose rule goes with that of a.
    let one = |name: &str, subset: &str| route(subset).replace("reviews", name);
    let rules = |name: &str, subsets: &str| rule(subsets).replace("reviews", name);
    let before = [rules("a", "v1"), one("a", "v1"), rules("b", "v1"), one("b", "v1")].join("---\n");
    let after = [rules("a", "v9"), one("a", "v2"), one("b", "v1")].join("---\n");
    let first = load(&[("a.yaml", &before)]);
    let second = edit(&first, &[("a.yaml", &after)]);
    assert_eq!(in_force(&second), in_force(&first));
    assert_eq!(second.diagnostics.len(), 3);
}

#[test]
fn the_last_good_versions_survive_a_restart() {
    let good = [rule("v1"), route("v1")].join("---\n");
    let before = load(&[("a.yaml", &good)]);
    let json = serde_json::to_string(&before.last_good().collect::<Vec<_>>()).unwrap();
    let saved: Vec<LastGood> = serde_json::from_str(&json).unwrap();
    let restored = Accepted::restore(saved, &Options::default());
    assert_eq!(in_force(&restored), in_force(&before));
    assert_eq!(restored.diagnostics, []);

    let broken = edit(&restored, &[("a.yaml", &good.replace("attempts: 1", "attempts: -1"))]);
    assert_eq!(in_force(&broken), in_force(&before));
    assert!(broken.diagnostics[0].kept.as_ref().unwrap().contains("a.yaml:11:1"), "{:?}", broken.diagnostics);
    assert_eq!(in_force(&edit(&restored, &[("a.yaml", "{")])), in_force(&before));
    let dangling = edit(&restored, &[("a.yaml", &good.replace("subset: v1", "subset: v3"))]);
    assert_eq!(in_force(&dangling), in_force(&before));
    // What the files say now is what they say, wherever the last good versions came from.
    let same = edit(&restored, &[("a.yaml", &good)]);
    assert_eq!((same.resources, same.diagnostics), (before.resources, Vec::<Diagnostic>::new()));
}

#[test]
fn what_fails_closed_is_not_saved_as_good() {
    let broken = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: 1\n";
    assert_eq!(load(&[("a.yaml", broken)]).last_good().count(), 0);
}

/// A DestinationRule on lines 1 to 8 (and one more per further subset).
fn rule(subsets: &str) -> String {
    let subsets: String = subsets
        .split(',')
        .map(|name| format!("  - name: {name}\n    labels: {{version: {name}}}\n"))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: reviews\nspec:\n  \
         host: reviews\n  subsets:\n{subsets}"
    )
}

fn route(subset: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: reviews\nspec:\n  \
         hosts: [reviews]\n  http:\n  - route:\n    - destination: {{host: reviews, subset: {subset}}}\n    retries:\n      attempts: 1\n"
    )
}

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: Ok(text.to_owned()) }
}

fn edit(before: &Accepted, files: &[(&str, &str)]) -> Accepted {
    let files: Vec<_> = files.iter().map(|(name, text)| file(name, text)).collect();
    before.update(&files, &Options::default())
}

fn load(files: &[(&str, &str)]) -> Accepted {
    edit(&Accepted::default(), files)
}

/// Every object in force, with the subsets it defines or names.
fn in_force(accepted: &Accepted) -> Vec<String> {
    accepted.resources.iter().map(|resource| format!("{} {}", resource.key, subsets(resource))).collect()
}

fn subsets(resource: &Resource) -> String {
    match &resource.spec {
        Spec::DestinationRule(spec) => {
            let names: Vec<_> = spec.subsets.iter().map(|subset| subset.name.as_str()).collect();
            names.join(",")
        }
        Spec::VirtualService(spec) => {
            spec.http[0].route[0].destination.subset.as_ref().unwrap().value.clone()
        }
        other => panic!("{other:?}"),
    }
}

fn attempts(accepted: &Accepted) -> u32 {
    let route = accepted.resources.iter().find_map(|resource| match &resource.spec {
        Spec::VirtualService(spec) => spec.http[0].retries.as_ref(),
        _ => None,
    });
    route.unwrap().attempts.unwrap()
}
