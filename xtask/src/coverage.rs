//! docs/coverage: for each kind, which file obeys a field, and which tests fail if it does not.
//!
//! A line is `FIELD_PATH`, `CODE_FILE`, `TEST[,TEST]`, separated by tabs. It covers the field and all within it, unless a
//! line with a longer path does.

use std::path::Path;

/// What is recorded of one kind.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// The file it was read from, as it is shown.
    pub(crate) file: String,
    pub(crate) proofs: Vec<Proof>,
}

/// Who obeys a field, and who proves it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) line: usize,
    /// The path of the field, as in `spec.http[].fault.delay`.
    pub(crate) path: String,
    /// The file that obeys it.
    pub(crate) code: String,
    /// The tests that fail if it does not.
    pub(crate) tests: Vec<String>,
}

impl Coverage {
    /// Reads the record called `name`; a kind of which nothing is obeyed needs none.
    pub(crate) fn read(root: &Path, name: &str) -> Result<Self, String> {
        let file = format!("docs/coverage/{name}.tsv");
        match std::fs::read_to_string(root.join(&file)) {
            Ok(text) => Self::parse(&file, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { file, proofs: Vec::new() })
            }
            Err(error) => Err(format!("{file}: {error}")),
        }
    }

    fn parse(file: &str, text: &str) -> Result<Self, String> {
        let proof = |(index, line): (usize, &str)| match line.split('\t').collect::<Vec<_>>()[..] {
            [path, code, tests] => Ok(Proof {
                line: index + 1,
                // A list is its items.
                path: path.trim_end_matches("[]").trim_end_matches("{}").to_owned(),
                code: code.to_owned(),
                tests: tests.split(',').map(|test| test.trim().to_owned()).collect(),
            }),
            _ => Err(format!(
                "{file}:{}: expected FIELD_PATH, CODE_FILE and TESTS, separated by tabs",
                index + 1
            )),
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        Ok(Self { file: file.to_owned(), proofs: lines.map(proof).collect::<Result<_, _>>()? })
    }

    /// Returns the nearest record of the field at `path`.
    pub(crate) fn of(&self, path: &str) -> Option<&Proof> {
        self.proofs.iter().filter(|proof| proof.covers(path)).max_by_key(|proof| proof.path.len())
    }
}

impl Proof {
    /// Returns whether this is about the field at `path`, or about one that it stands within.
    pub(crate) fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_covers_a_field_and_only_whole_names_count() {
        let text = "spec.http[]\ta.rs\tone\nspec.http[].fault\tb.rs\ttwo,three\n";
        let coverage = Coverage::parse("x.tsv", text).unwrap_or_default();
        let code = |path| coverage.of(path).map(|proof| proof.code.as_str());
        for (path, expected) in [
            ("spec.http", Some("a.rs")),
            ("spec.http[].name", Some("a.rs")),
            ("spec.http[].fault.delay", Some("b.rs")),
            ("spec.http[].faults", Some("a.rs")),
            ("spec.https", None),
        ] {
            assert_eq!(code(path), expected, "{path}");
        }
        assert_eq!(coverage.proofs[1].tests, ["two", "three"]);
    }

    #[test]
    fn a_line_that_is_no_record_is_named() {
        assert!(
            Coverage::parse("x.tsv", "a\tb.rs\tc\na b c\n").is_err_and(|why| why.starts_with("x.tsv:2: "))
        );
    }
}
