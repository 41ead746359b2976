//! Reads the sources of the workspace, and checks what no compiler does: headers and citations.

use crate::Outcome;
use std::path::{Path, PathBuf};

/// Directories that hold no sources of ours.
const FOREIGN: &[&str] = &["target", ".git"];

/// Checks that every file begins with `//!` and every `// spec:` says what it cites.
pub(crate) fn check(root: &Path) -> Outcome {
    let files = match rust_files(root) {
        Ok(files) => files,
        Err(why) => return Outcome::Failed(why),
    };
    let mut found = Vec::new();
    let mut citations = 0;
    for (path, text) in &files {
        let shown = path.strip_prefix(root).unwrap_or(path).display();
        // A `tests.rs` is the end of the file beside it, which says what it is.
        let is_tail = path.file_name().is_some_and(|name| name == "tests.rs");
        if !is_tail && !begins_with_header(text) {
            found.push(format!("{shown}:1: begin the file with `//!`: one sentence that says what it is"));
        }
        for (line, citation) in spec_citations(text) {
            citations += 1;
            if citation.is_empty() {
                found.push(format!("{shown}:{line}: `// spec:` cites nothing; name document and section"));
            }
        }
    }
    eprintln!("{} files, {citations} citations", files.len());
    verdict(&found, "wrong")
}

/// Prints what was found, and returns the outcome it amounts to.
pub(crate) fn verdict(found: &[String], what: &str) -> Outcome {
    for line in found {
        eprintln!("{line}");
    }
    match found.len() {
        0 => Outcome::Passed,
        1 => Outcome::Failed(format!("1 place is {what}")),
        n => Outcome::Failed(format!("{n} places are {what}")),
    }
}

/// Returns whether a file holds nothing but tests.
pub(crate) fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// Returns path and text of every Rust file below `directory`, sorted by path.
pub(crate) fn rust_files(directory: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let mut files = Vec::new();
    collect(directory, &mut files).map_err(|error| format!("{}: {error}", directory.display()))?;
    files.sort();
    Ok(files)
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if !FOREIGN.iter().any(|name| entry.file_name() == *name) {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path.clone(), std::fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

fn begins_with_header(text: &str) -> bool {
    text.starts_with("//!") || text.starts_with("#!")
}

/// Returns line and text of every citation.
fn spec_citations(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let citation = line.trim_start().strip_prefix("// spec:")?;
        Some((index + 1, citation.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_without_text_is_seen_as_empty() {
        let text = "// spec: envoy x#y\nfn f() {}\n    // spec:   \n// other: z\n";
        assert_eq!(spec_citations(text).collect::<Vec<_>>(), [(1, "envoy x#y"), (3, "")]);
    }

    #[test]
    fn a_file_without_header_is_seen() {
        assert!(begins_with_header("//! What it is.\n"));
        assert!(!begins_with_header("use std::fs;\n//! Too late.\n"));
    }
}
