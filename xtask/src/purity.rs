//! Proves that mesh-core is pure: by what it depends on, and by what its sources name.

use crate::{
    Outcome,
    cargo::Cargo,
    lexer::{self, Token},
    sources,
};
use std::path::Path;

/// Crates that bring a runtime, a socket, a clock or dice.
const CRATES: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "rustls",
    "tonic",
    "ring",
    "aws-lc-rs",
    "mio",
    "socket2",
    "async-std",
    "smol",
    "rand",
    "fastrand",
    "getrandom",
    "chrono",
    "time",
    "quanta",
];

/// Types of std that read a clock or open a socket, wherever they are named.
const TYPES: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "ToSocketAddrs",
    "RandomState",
];

/// Modules of std that reach outside of the process.
const MODULES: &[&str] = &["env", "fs", "process", "thread", "os"];

/// Crates named in the source: a second net under [`CRATES`].
const ROOTS: &[&str] = &["tokio", "hyper", "rustls", "rand", "fastrand", "getrandom"];

/// Checks dependencies and sources of mesh-core.
pub(crate) fn check(root: &Path) -> Outcome {
    let mut found = match dependencies(root) {
        Ok(found) => found,
        Err(why) => return Outcome::Failed(why),
    };
    match sources::rust_files(&root.join("mesh-core/src")) {
        Ok(files) if files.is_empty() => return Outcome::Failed("mesh-core/src holds no sources".to_owned()),
        Ok(files) => {
            for (path, text) in files.into_iter().filter(|(path, _)| !sources::is_test(path)) {
                let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                found.extend(scan(&text).into_iter().map(|(line, what)| format!("{shown}:{line}: {what}")));
            }
        }
        Err(why) => return Outcome::Failed(why),
    }
    sources::verdict(&found, "impure")
}

fn dependencies(root: &Path) -> Result<Vec<String>, String> {
    let arguments = ["tree", "-p", "mesh-core", "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = Cargo::at(root).output(&arguments)?;
    Ok(forbidden(&tree)
        .map(|name| format!("mesh-core depends on `{name}` (cargo tree -p mesh-core -i {name})"))
        .collect())
}

fn forbidden(tree: &str) -> impl Iterator<Item = &str> {
    tree.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| CRATES.contains(name))
}

/// Returns the line of everything in `source`, tests aside, that reaches outside of the process, and what it is.
fn scan(source: &str) -> Vec<(usize, String)> {
    let tokens = lexer::code(source);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let token = &tokens[at];
        if TYPES.contains(&token.text.as_str()) {
            found.push((token.line, format!("names `{}`", token.text)));
        } else if MODULES.contains(&token.text.as_str()) && is_of_std(&tokens, at) {
            found.push((token.line, format!("names `std::{}`", token.text)));
        } else if ROOTS.contains(&token.text.as_str()) && is_path_root(&tokens, at) {
            found.push((token.line, format!("names the crate `{}`", token.text)));
        }
    }
    found
}

/// Returns whether the word at `at` follows `std::`, directly or inside the braces of a `use std::{…}`.
fn is_of_std(tokens: &[Token], at: usize) -> bool {
    if at >= 3 && tokens[at - 1].is(":") && tokens[at - 2].is(":") {
        return tokens[at - 3].is("std");
    }
    let statement = tokens[..at].iter().rposition(|token| token.is(";")).map_or(0, |end| end + 1);
    let begin = tokens[statement..at].iter().position(|token| token.is("use")).map(|begin| statement + begin);
    begin.is_some_and(|begin| tokens.get(begin + 1).is_some_and(|token| token.is("std")))
}

fn is_path_root(tokens: &[Token], at: usize) -> bool {
    let follows_path = at >= 1 && tokens[at - 1].is(":");
    let begins_path = tokens.get(at + 1).is_some_and(|token| token.is(":"))
        && tokens.get(at + 2).is_some_and(|token| token.is(":"));
    begins_path && !follows_path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_outside_is_found_and_what_only_looks_so_is_not() {
        let impure = [
            "let t = std::time::Instant::now();",
            "use std::{net::TcpStream, sync::Arc};",
            "use std::time::{Duration, SystemTime};",
            "fn f() { std::env::var(\"X\"); }",
            "use std::{collections::BTreeMap, fs};",
            "std::thread::sleep(x)",
            "let x = rand::random();",
            "use fastrand::Rng;",
        ];
        let pure = [
            "// Instant::now()",
            "/// See [`std::fs`].\nfn f() {}",
            "let s = \"std::env::var\";",
            "use std::net::IpAddr;",
            "let env = 1; let fs = env;",
            "#[cfg(test)]\nmod tests { use std::time::Instant; fn f() { std::fs::read(\"x\"); } }",
            "use crate::rand_like::thread;",
            "mod process { }",
        ];
        for source in impure {
            assert_eq!(scan(source).len(), 1, "{source}: {:?}", scan(source));
        }
        for source in pure {
            assert_eq!(scan(source), [], "{source}");
        }
    }

    #[test]
    fn a_forbidden_crate_is_found_anywhere_in_the_tree() {
        let tree = "mesh-core v0.1.0 (/x)\nbytes v1.12.0\nhttp v1.5.0\ntokio v1.54.1\ntokio-ish v1.0.0 (*)\n";
        assert_eq!(forbidden(tree).collect::<Vec<_>>(), ["tokio"]);
    }
}
