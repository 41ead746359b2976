//! Point 5: what a stranger sees first.

use crate::harness::{Process, command};

#[test]
fn the_quickstart_shows_every_step_and_ends_by_itself() {
    let mut quickstart = Process::start("quickstart", &mut command("quickstart"));
    let status = quickstart.end();
    let output = quickstart.output();
    assert!(status.success(), "{status}: {output}");
    assert!(!output.contains('\x1b'), "no escape sequence where stdout is no terminal: {output}");
    for expected in
        ["90/10", "50/50", "0/100", "spiffe://cluster.local/ns/default/sa/checkout", "every step held"]
    {
        assert!(output.contains(expected), "{expected} is missing: {output}");
    }
}
