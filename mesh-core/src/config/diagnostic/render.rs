//! A finding as a person likes to read it: with the line it is about, and a mark under the word.

use super::Diagnostic;
use std::fmt::Write as _;

impl Diagnostic {
    /// Returns the finding over several lines, as compilers write theirs. `source` is the text of the file it is about;
    /// without it the line is not shown.
    ///
    /// ```
    /// # use mesh_core::config::{Options, load};
    /// let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {hots: a}\n";
    /// let finding = &load("mesh.yaml", text, &Options::default()).diagnostics[1];
    /// assert_eq!(finding.render(Some(text)), "\
    /// error[IST0106]: unknown field `hots`, did you mean `host`?
    ///  --> mesh.yaml:4:8 (DestinationRule default/a, spec.hots)
    ///   |
    /// 4 | spec: {hots: a}
    ///   |        ^^^^
    ///   = help: write `host`
    /// ");
    /// ```
    #[must_use]
    pub fn render(&self, source: Option<&str>) -> String {
        let mut text = format!("{}[{}]: {}\n", self.level, self.code, self.message);
        let line = self.location.as_ref().and_then(|place| source?.lines().nth(place.line as usize - 1));
        let margin = self.location.as_ref().map_or(1, |place| place.line.to_string().len());
        // Writing to a string cannot fail.
        if let Some(place) = &self.location {
            let _ = writeln!(text, "{:margin$}--> {place}{}", "", self.subject());
        }
        if let (Some(place), Some(line)) = (&self.location, line) {
            let (line, before, marked) = window(line, place.column as usize - 1);
            let _ = writeln!(text, "{:margin$} |\n{} | {line}", "", place.line);
            let _ = writeln!(text, "{:margin$} | {:before$}{}", "", "", "^".repeat(marked));
        }
        for (name, note) in [("help", &self.help), ("note", &self.kept)] {
            if let Some(note) = note {
                let _ = writeln!(text, "{:margin$} = {name}: {note}", "");
            }
        }
        text
    }

    /// Returns the object and the field, in parentheses, as far as they are known.
    fn subject(&self) -> String {
        match (&self.resource, self.path.as_str()) {
            (None, "") => String::new(),
            (None, path) => format!(" ({path})"),
            (Some(resource), "") => format!(" ({resource})"),
            (Some(resource), path) => format!(" ({resource}, {path})"),
        }
    }
}

/// Returns the part of `line` around column `column` (from 0), the column in it, and how many characters to mark.
fn window(line: &str, column: usize) -> (String, usize, usize) {
    let characters: Vec<char> = line.chars().collect();
    let column = column.min(characters.len());
    let start = column.saturating_sub(WIDTH / 2);
    let word = |c: &&char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '*');
    let marked = characters[column..].iter().take_while(word).count().clamp(1, WIDTH / 2);
    // A tab or another control character would shift the mark, and may not be what a terminal should see.
    let visible = |c: &char| if c.is_control() { ' ' } else { *c };
    let end = characters.len().min(start + WIDTH);
    (characters[start..end].iter().map(visible).collect(), column - start, marked)
}

/// A line of JSON may be megabytes long; a terminal shows about as many.
const WIDTH: usize = 120;
