//! Point 5: what a stranger sees first.

use crate::harness::{Process, Town, command, eventually, within};
use std::{process::Command, time::Duration};

#[test]
fn the_quickstart_shows_every_step_and_ends_by_itself() {
    let mut quickstart = Process::start("quickstart", &mut command("quickstart"));
    // It takes 20 s by itself, and tens more where the workloads' back-off or the machine is slow.
    let status = within(Duration::from_secs(120), || quickstart.ended());
    let output = quickstart.output();
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {output}");
    assert!(!output.contains('\x1b'), "no escape sequence where stdout is no terminal: {output}");
    for expected in
        ["90/10", "50/50", "0/100", "spiffe://cluster.local/ns/default/sa/checkout", "every step held"]
    {
        assert!(output.contains(expected), "{expected} is missing: {output}");
    }
}

#[test]
fn the_server_of_the_readme_greets_the_client_of_the_readme_by_name() {
    let town = Town::start();
    let meshed = |example: &str, service: &str| -> Command {
        let mut command = command(example);
        let token = town.token(service, &[]);
        command.envs([("MESH_CONTROL", town.control.url.as_str()), ("MESH_JOIN_TOKEN", &token)]);
        command.env("MESH_SERVICE", service);
        command
    };
    let _server = Process::start("hello_server", &mut meshed("hello_server", "hello"));
    let greeting = eventually("the server has registered and the client is greeted", || {
        let output = meshed("hello_client", "visitor").output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert_eq!(greeting, "hello spiffe://cluster.local/ns/default/sa/visitor\n");
}
