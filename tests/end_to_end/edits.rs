//! Point 2: the configuration is edited while calls run, well and badly.

mod sockets;

use crate::harness::{ARTICLE, Caller, Echo, Refused, Town, eventually, weights};

const PAYMENT: &str = "http://payment-service/";

/// Waits until `checkout` calls only `version`.
#[track_caller]
fn await_only(checkout: &Echo, version: &str) {
    eventually(&format!("all calls go to {version}"), || {
        checkout.call(PAYMENT, 50).iter().all(|call| call.version() == version).then_some(())
    });
}

#[test]
fn edited_weights_come_into_force_without_a_failed_call_or_a_closed_connection() {
    let (town, [v1, v2, checkout]) = Town::with_the_article(&[]);
    let caller = Caller::of(&checkout, PAYMENT);
    let before = [sockets::established(v1.mesh), sockets::established(v2.mesh)];
    assert!(
        !sockets::are_shown() || !before.iter().any(Vec::is_empty),
        "both versions are connected: {before:?}"
    );

    town.edit(&weights(0, 100));
    await_only(&checkout, "v2");
    town.edit(&weights(100, 0));
    await_only(&checkout, "v1");
    town.edit(&weights(50, 50));
    eventually("the calls split evenly", || {
        let calls = checkout.call(PAYMENT, 200);
        let v1 = calls.iter().filter(|call| call.version() == "v1").count();
        // Five standard deviations of 200 throws of a coin.
        (65..=135).contains(&v1).then_some(())
    });

    let after = [sockets::established(v1.mesh), sockets::established(v2.mesh)];
    for (before, after) in before.iter().zip(&after) {
        let closed: Vec<_> = before.iter().filter(|peer| !after.contains(peer)).collect();
        assert!(closed.is_empty(), "connections from {closed:?} were closed for an edit; left are {after:?}");
    }
    let calls = caller.end();
    assert!(calls.made > 0);
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);
}

/// An edit that must be refused.
struct Broken {
    what: &'static str,
    text: String,
    /// A piece of the line that the refusal must point at; any line will do if it is empty.
    line_with: &'static str,
    /// The object that the refusal must name; any if it is empty.
    resource: &'static str,
}

fn broken_edits() -> Vec<Broken> {
    // All of these would send everything to v1, if they came into force.
    let wider = weights(100, 0);
    let route = "VirtualService default/payment-route";
    vec![
        Broken {
            what: "a YAML mistake",
            text: wider.replace("hosts: [payment-service]", "hosts: [payment-service"),
            line_with: "",
            resource: "",
        },
        Broken {
            what: "a negative weight",
            text: ARTICLE.replace("weight: 90", "weight: -90"),
            line_with: "weight: -90",
            resource: route,
        },
        Broken {
            what: "a subset that nobody defined",
            text: wider.replace("subset: v2}", "subset: v3}"),
            line_with: "subset: v3}",
            resource: route,
        },
        Broken {
            what: "an unknown field",
            text: wider.replace("  hosts: [payment-service]", "  hosts: [payment-service]\n  retrys: {}"),
            line_with: "retrys",
            resource: route,
        },
        Broken {
            what: "a wrong type",
            text: ARTICLE.replace("weight: 90", "weight: many"),
            line_with: "weight: many",
            resource: route,
        },
        Broken {
            what: "a duplicate key",
            text: wider.replace("  hosts: [payment-service]", "  hosts: [payment-service]\n  hosts: [other]"),
            line_with: "hosts: [other]",
            resource: "",
        },
        Broken {
            what: "a file that ends in the middle",
            text: ARTICLE[..ARTICLE.find("weight: 90").unwrap()].to_owned() + "weight: \"9",
            line_with: "",
            resource: "",
        },
    ]
}

#[test]
fn a_broken_edit_changes_nothing_and_the_status_and_the_log_say_where_it_is_wrong() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    town.edit(&weights(0, 100));
    await_only(&checkout, "v2");
    let caller = Caller::of(&checkout, PAYMENT);
    for broken in broken_edits() {
        town.edit(&broken.text);
        let refused = eventually(&format!("the status shows {}", broken.what), || {
            Some(town.control.refused(&town.data())).filter(|refused| !refused.is_empty())
        });
        assert!(refused.iter().any(|one| fits(one, &broken)), "{}: {refused:?}", broken.what);
        let calls = checkout.call(PAYMENT, 50);
        let strays: Vec<_> = calls.iter().filter(|call| !call.is_fine() || call.version() != "v2").collect();
        assert!(strays.is_empty(), "{}: {strays:?}", broken.what);

        town.edit(&weights(0, 100));
        eventually(&format!("{} is mended", broken.what), || {
            town.control.refused(&town.data()).is_empty().then_some(())
        });
    }
    let calls = caller.end();
    assert_eq!(calls.failed, [] as [String; 0], "of {} calls", calls.made);
    let log = town.control.process.log();
    assert!(
        log.contains("payment-route") && log.contains("v3"),
        "the log names neither object nor value: {log}"
    );
}

/// Returns whether a refusal says where the mistake is, what is wrong, and what was kept.
fn fits(refused: &Refused, broken: &Broken) -> bool {
    let lines: Vec<&str> = broken.text.lines().collect();
    let line = refused.line.checked_sub(1).and_then(|index| lines.get(index as usize));
    refused.file.ends_with("mesh.yaml")
        && line.is_some_and(|line| line.contains(broken.line_with))
        && (broken.resource.is_empty() || refused.resource == broken.resource)
        && !refused.message.is_empty()
        && !refused.kept.is_empty()
}

#[test]
fn a_broken_object_does_not_hold_up_the_mending_of_another() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    let stray = "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: stray}\n\
                 spec: {hosts: [stray], http: [{route: [{destination: {host: stray}, weight: -1}]}]}\n";
    town.edit(&(weights(0, 100) + stray.trim_start()));
    await_only(&checkout, "v2");
    let refused = town.control.refused(&town.data());
    assert!(refused.iter().any(|one| one.resource.ends_with("/stray")), "{refused:?}");
}

#[test]
fn an_object_that_is_deleted_from_its_file_is_gone() {
    let (town, [_v1, _v2, checkout]) = Town::with_the_article(&[]);
    town.edit(&weights(0, 100));
    await_only(&checkout, "v2");
    let documents: Vec<&str> = ARTICLE.split("---\n").collect();
    town.edit(&[documents[0], documents[2]].join("---\n"));
    eventually("without the route, calls go to both versions again", || {
        checkout.call(PAYMENT, 50).iter().any(|call| call.version() == "v1").then_some(())
    });
}
