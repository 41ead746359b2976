//! A refused object as compilers show a mistake: the place, the line with a caret, what is wrong, and what was kept.

use mesh::runtime::control::wire::Rejection;

/// Returns the lines that show `rejection`, which is about `text`.
pub(crate) fn lines(rejection: &Rejection, text: &str) -> Vec<String> {
    let (directory, file) = rejection.file.rsplit_once('/').unwrap_or(("", &rejection.file));
    let short = |text: &str| text.replace(&format!("{directory}/"), "");
    let mut lines = vec![
        format!("refused[{}] {}", rejection.code, rejection.resource),
        format!("  --> {file}:{}:{}", rejection.line, rejection.column),
    ];
    if let Some(source) = text.lines().nth(index(rejection.line)) {
        let caret = " ".repeat(index(rejection.column)) + "^";
        lines.push(format!("{:>4} | {source}", rejection.line));
        lines.push(format!("     | {caret}"));
    }
    // The path of the field, what is wrong with it, and what to write: a line each.
    let said = rejection.message.replacen(": ", "; ", usize::from(rejection.message.starts_with("spec")));
    lines.extend(said.split("; ").map(|part| format!("     = {}", short(part))));
    lines.push(format!("     = kept: {}", short(&rejection.kept)));
    lines
}

fn index(counted_from_1: u32) -> usize {
    counted_from_1.saturating_sub(1) as usize
}
