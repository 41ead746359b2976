//! The tables of fields in docs/ISTIO.md: made of what the readers say of themselves and of docs/coverage, so that neither
//! support nor proof can be claimed by hand.

use crate::{
    Outcome,
    coverage::{Coverage, Proof},
    prose, sources,
};
use mesh_core::config::{
    Kind,
    schema::{Field, Object, Schema, Shape, Support},
};
use std::{collections::BTreeSet, path::Path};

/// Writes the tables anew.
pub(crate) fn write(root: &Path) -> Result<(), String> {
    let text = generated(&read(root)?, &Section::all(root)?)?;
    std::fs::write(root.join(DOCUMENT), text).map_err(|error| format!("{DOCUMENT}: {error}"))
}

/// Checks that the tables are what would be written, and that every record in docs/coverage is true.
pub(crate) fn check(root: &Path) -> Outcome {
    match findings(root) {
        Ok(found) => sources::verdict(&found, "not documented as it is"),
        Err(why) => Outcome::Failed(why),
    }
}

fn findings(root: &Path) -> Result<Vec<String>, String> {
    let files = sources::rust_files(root)?;
    let tests: BTreeSet<&str> = files.iter().flat_map(|(_, text)| prose::tests(text)).collect();
    let sections = Section::all(root)?;
    let mut found: Vec<_> = sections.iter().flat_map(Section::gaps).collect();
    for section in &sections {
        for proof in &section.coverage.proofs {
            let missing = proof.missing(root, &tests);
            let place = |what| format!("{}:{}: {what}", section.coverage.file, proof.line);
            found.extend(missing.into_iter().map(place));
        }
    }
    let document = read(root)?;
    if generated(&document, &sections)? != document {
        found.push(format!("{DOCUMENT} is not what the readers say: run `cargo xtask docs`"));
    }
    Ok(found)
}

fn read(root: &Path) -> Result<String, String> {
    std::fs::read_to_string(root.join(DOCUMENT)).map_err(|error| format!("{DOCUMENT}: {error}"))
}

/// Returns `document` with every table as it should be.
fn generated(document: &str, sections: &[Section]) -> Result<String, String> {
    let fields = sections.iter().map(|section| (format!("fields of {}", section.name), section.table()));
    let mut text = document.to_owned();
    for (what, table) in fields.chain([("kinds".to_owned(), kinds())]) {
        let begin = format!("<!-- generated: {what} -->\n");
        let wrong = || {
            format!("{DOCUMENT}: there is no `{}` with a `{}` behind it", begin.trim_end(), END.trim_end())
        };
        let from = text.find(&begin).ok_or_else(wrong)? + begin.len();
        let to = from + text[from..].find(END).ok_or_else(wrong)?;
        text.replace_range(from..to, &table);
    }
    Ok(text)
}

/// Returns the table of the kinds that are read.
fn kinds() -> String {
    let mut text = String::from("\n| kind | API versions |\n|---|---|\n");
    for kind in Kind::ALL {
        let versions = Schema::of(kind).api_versions.iter().map(|version| format!("`{version}`"));
        text += &format!("| {kind} | {} |\n", versions.collect::<Vec<_>>().join(", "));
    }
    text + "\n"
}

/// The fields of one kind, or those that every object has.
struct Section {
    name: String,
    fields: Vec<Field>,
    coverage: Coverage,
}

impl Section {
    /// Returns the fields of every object, then those of each kind.
    fn all(root: &Path) -> Result<Vec<Self>, String> {
        let metadata = |field: &Field| field.name == "metadata";
        let envelope = Self::new(root, "every object", "object", Kind::VirtualService, metadata)?;
        let said = |field: &Field| !ENVELOPE.contains(&field.name.as_str());
        let kinds =
            Kind::ALL.into_iter().map(|kind| Self::new(root, kind.as_str(), kind.as_str(), kind, said));
        std::iter::once(Ok(envelope)).chain(kinds).collect()
    }

    /// Returns those fields of `kind` that belong here, with what the file `record` says of them.
    fn new(
        root: &Path,
        name: &str,
        record: &str,
        kind: Kind,
        belongs: impl Fn(&Field) -> bool,
    ) -> Result<Self, String> {
        let fields = Schema::of(kind).fields.into_iter().filter(belongs).collect();
        Ok(Self { name: name.to_owned(), fields, coverage: Coverage::read(root, record)? })
    }

    /// Returns obeyed fields that nothing is said to prove, and records of what is no obeyed field.
    fn gaps(&self) -> Vec<String> {
        let mut leaves = Vec::new();
        collect("", &self.fields, &mut leaves);
        leaves.retain(|(_, field)| field.support == Support::Obeyed);
        let file = &self.coverage.file;
        let unproven = leaves.iter().filter(|(path, _)| self.coverage.of(path).is_none());
        let unproven = unproven.map(|(path, _)| format!("{file}: no line covers `{path}`, which is obeyed"));
        let unused =
            self.coverage.proofs.iter().filter(|proof| !leaves.iter().any(|(path, _)| proof.covers(path)));
        let unused =
            unused.map(|proof| format!("{file}:{}: nothing that is obeyed is `{}`", proof.line, proof.path));
        unproven.chain(unused).collect()
    }

    fn table(&self) -> String {
        let mut table = Table {
            coverage: &self.coverage,
            described: Vec::new(),
            rows: String::new(),
            open: Vec::new(),
            others: Vec::new(),
        };
        table.add_fields("", &self.fields);
        table.finish()
    }
}

impl Proof {
    /// Returns what this record names and does not exist.
    fn missing(&self, root: &Path, known: &BTreeSet<&str>) -> Vec<String> {
        let code = (!root.join(&self.code).is_file()).then(|| format!("there is no file `{}`", self.code));
        let tests = self.tests.iter().filter(|test| !known.contains(test.as_str()));
        code.into_iter().chain(tests.map(|test| format!("there is no test `{test}`"))).collect()
    }
}

/// A table that is being written.
struct Table<'s> {
    coverage: &'s Coverage,
    /// The mappings that stand in it already, and where: the second one refers to the first.
    described: Vec<(&'s Object, String)>,
    rows: String,
    /// The mappings that may hold more than what is read of them.
    open: Vec<String>,
    /// Fields that are known, and not the mesh's.
    others: Vec<String>,
}

impl<'s> Table<'s> {
    fn add_fields(&mut self, prefix: &str, fields: &'s [Field]) {
        for field in fields {
            self.add(&join(prefix, &field.name), field);
        }
    }

    fn add(&mut self, path: &str, field: &'s Field) {
        match within(field) {
            _ if field.support == Support::PassedOver => self.others.push(code(path)),
            None => self.add_row(path, field, &field.shape.to_string()),
            Some((steps, object)) => match self.described.iter().find(|(known, _)| *known == object) {
                Some((_, known)) => {
                    let like = format!("{}as {}", plural(&field.shape), code(known));
                    self.add_row(path, field, &like);
                }
                None => {
                    if object.fields.len() >= REPEATED_MIN {
                        self.described.push((object, path.to_owned()));
                    }
                    let path = format!("{path}{steps}");
                    self.open.extend(object.open.then(|| code(&path)));
                    self.add_fields(&path, &object.fields);
                }
            },
        }
    }

    fn add_row(&mut self, path: &str, field: &Field, shape: &str) {
        let required = if field.required { "; required" } else { "" };
        let proof = self.coverage.of(path).filter(|_| field.support == Support::Obeyed);
        let tests = proof.into_iter().flat_map(|proof| &proof.tests).map(|test| format!("`{test}`"));
        let cells = [
            code(path),
            format!("{shape}{required}"),
            answer(field),
            proof.map_or_else(String::new, |proof| format!("`{}`", proof.code)),
            tests.collect::<Vec<_>>().join(", "),
        ];
        for cell in cells {
            self.rows +=
                &if cell.is_empty() { "| ".to_owned() } else { format!("| {} ", cell.replace('|', "\\|")) };
        }
        self.rows += "|\n";
    }

    fn finish(self) -> String {
        let mut text = String::from("\n");
        if !self.rows.is_empty() {
            text += "| field | type | answer | obeyed in | proven by |\n|---|---|---|---|---|\n";
            text += &self.rows;
            text.push('\n');
        }
        if !self.others.is_empty() {
            text += &format!("Known, and not the mesh's: {}.\n\n", self.others.join(", "));
        }
        if !self.open.is_empty() {
            text += &format!("Other fields may stand in {}; nobody looks at them.\n\n", self.open.join(", "));
        }
        text
    }
}

fn answer(field: &Field) -> String {
    match (&field.support, &field.deprecated) {
        (Support::NoEffect(why), _) => format!("no effect: {why}"),
        (Support::Refused(why), _) => format!("refused: {why}"),
        (_, Some(instead)) => format!("yes; deprecated, write `{instead}`"),
        (_, None) => "yes".to_owned(),
    }
}

/// Returns how often the mapping within `shape` may occur.
fn plural(shape: &Shape) -> &'static str {
    match shape {
        Shape::List(_) => "list, ",
        Shape::Map(_) => "mapping, ",
        _ => "",
    }
}

/// Collects the fields that have no fields within them.
fn collect<'s>(prefix: &str, fields: &'s [Field], found: &mut Vec<(String, &'s Field)>) {
    for field in fields {
        let path = join(prefix, &field.name);
        match within(field) {
            Some((steps, object)) => collect(&(path + &steps), &object.fields, found),
            None => found.push((path, field)),
        }
    }
}

/// Returns the fields within `field` that have something to say for themselves: none if the whole has no effect.
fn within(field: &Field) -> Option<(String, &Object)> {
    let obeyed = field.support == Support::Obeyed;
    field.shape.within().filter(|(_, object)| obeyed && !object.fields.is_empty())
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// `spec` is where nearly every field stands; to say so in each row helps nobody.
fn code(path: &str) -> String {
    format!("`{}`", path.strip_prefix("spec.").unwrap_or(path))
}

const DOCUMENT: &str = "docs/ISTIO.md";

const END: &str = "<!-- end of generated -->\n";

/// What stands in every object, beside what it says.
const ENVELOPE: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A mapping with fewer fields is written out again: that is as short as to say where it stands.
const REPEATED_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_between_its_marks_and_nothing_else_is_touched() {
        let section = Section { name: "X".to_owned(), fields: Vec::new(), coverage: Coverage::default() };
        let marked = |what: &str| format!("a\n<!-- generated: {what} -->\nold\n{END}b\n");
        let document = marked("fields of X") + &marked("kinds");
        let text = generated(&document, &[section]).unwrap_or_default();
        assert!(text.starts_with("a\n<!-- generated: fields of X -->\n\n<!-- end"), "{text}");
        assert!(
            !text.contains("old") && text.contains("| Service | `v1` |") && text.ends_with("b\n"),
            "{text}"
        );
        assert!(generated(&marked("kinds"), &[]).is_ok_and(|text| text.contains("| Service |")));
        assert!(generated("", &[]).is_err_and(|why| why.contains("<!-- generated: kinds -->")));
    }

    #[test]
    fn an_obeyed_field_without_proof_and_a_proof_without_an_obeyed_field_are_found() {
        let proof = |line, path: &str| Proof {
            line,
            path: path.to_owned(),
            code: "no/such/file.rs".to_owned(),
            tests: vec!["no_such_test".to_owned()],
        };
        let proofs = vec![proof(1, "spec.selector"), proof(2, "spec.mtls.mod")];
        let section = Section {
            name: "PeerAuthentication".to_owned(),
            fields: Schema::of(Kind::PeerAuthentication).fields,
            coverage: Coverage { file: "x.tsv".to_owned(), proofs },
        };
        let gaps = section.gaps();
        assert!(
            gaps.contains(&"x.tsv: no line covers `spec.mtls.mode`, which is obeyed".to_owned()),
            "{gaps:?}"
        );
        assert!(gaps.contains(&"x.tsv:2: nothing that is obeyed is `spec.mtls.mod`".to_owned()), "{gaps:?}");
        assert!(!gaps.iter().any(|gap| gap.contains("selector")), "{gaps:?}");
        let missing = section.coverage.proofs[0].missing(Path::new("."), &BTreeSet::new());
        assert_eq!(missing, ["there is no file `no/such/file.rs`", "there is no test `no_such_test`"]);
    }
}
