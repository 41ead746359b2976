//! Checks that the documents still speak of this code: every file and every test that they name exists.

use crate::{Outcome, sources};
use std::{collections::BTreeSet, path::Path};

/// The documents that are maps of the code.
const MAPS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "docs/ISTIO.md",
    "docs/DEFAULTS.md",
    "docs/RELIABILITY.md",
    "docs/SECURITY.md",
    "docs/FAULTS_OF_OTHERS.md",
];

/// A word with at least this many underscores is the name of a test: they are sentences.
const UNDERSCORES_MIN: usize = 4;

/// Checks every map.
pub(crate) fn check(root: &Path) -> Outcome {
    let files = match sources::rust_files(root) {
        Ok(files) => files,
        Err(why) => return Outcome::Failed(why),
    };
    let functions: BTreeSet<&str> = files.iter().flat_map(|(_, text)| functions(text)).collect();
    let mut found = Vec::new();
    for map in MAPS {
        let text = match std::fs::read_to_string(root.join(map)) {
            Ok(text) => text,
            Err(error) => return Outcome::Failed(format!("{map}: {error}")),
        };
        for (line, span) in spans(&text) {
            let is_missing =
                (is_test(span) && !functions.contains(span)) || (is_path(span) && !root.join(span).exists());
            if is_missing {
                found.push(format!("{map}:{line}: there is no `{span}`"));
            }
        }
    }
    sources::verdict(&found, "out of date")
}

/// Returns the names of the functions in `text`.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("fn ").filter_map(|(at, _)| {
        let rest = &text[at + 3..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        (end > 0).then(|| &rest[..end])
    })
}

/// Returns the names of the tests in `text`: functions with an attribute that says so.
pub(crate) fn tests(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let attribute = line.trim_start().strip_prefix("#[");
        is_test |= attribute.is_some_and(|rest| rest.starts_with("test]") || rest.starts_with("tokio::test"));
        if let Some(name) = functions(line).next() {
            found.extend(std::mem::take(&mut is_test).then_some(name));
        }
    }
    found
}

/// Returns line and text of what stands between backticks, code blocks left out.
fn spans(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span)));
        }
    }
    found
}

fn is_test(span: &str) -> bool {
    span.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
        && span.matches('_').count() >= UNDERSCORES_MIN
}

fn is_path(span: &str) -> bool {
    let is_plain = span.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-./".contains(&c));
    is_plain && span.contains('/') && (span.ends_with(".rs") || span.ends_with(".md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tests_and_paths_are_told_from_other_code() {
        let text = "`a_request_is_never_sent_twice`, `mesh-core/src/lib.rs`\n```\n`left_out_of_the_check`\n```\n`MESH_A`";
        let spans = spans(text);
        assert_eq!(spans, [(1, "a_request_is_never_sent_twice"), (1, "mesh-core/src/lib.rs"), (5, "MESH_A")]);
        assert_eq!(spans.iter().filter(|(_, span)| is_test(span)).count(), 1);
        assert_eq!(spans.iter().filter(|(_, span)| is_path(span)).count(), 1);
    }

    #[test]
    fn tests_are_told_from_their_helpers() {
        let text = "#[test]\nfn a_b() {\n}\nfn c() {}\n  #[tokio::test(start_paused = true)]\n  #[rustfmt::skip]\n  async fn d() {";
        assert_eq!(tests(text), ["a_b", "d"]);
    }

    #[test]
    fn functions_are_found_by_name() {
        let text = "fn a() {}\n#[tokio::test]\nasync fn b_c() {}\npub(crate) fn d<T>() {}\nlet f: fn (u8);";
        assert_eq!(functions(text).collect::<Vec<_>>(), ["a", "b_c", "d"]);
    }
}
