//! `meshctl analyze`: what is wrong with configuration before it is served.

use super::{
    args::{AnalyzeArgs, Threshold},
    input::{self, Settings},
};
use mesh_core::{
    analyze::analyze,
    config::{Diagnostic, Level, Options, SourceFile},
};
use std::io::Write;

/// Returns whether a finding is at or above the threshold.
pub(crate) fn run(args: &AnalyzeArgs, json: bool) -> Result<bool, String> {
    let mut files = input::read(&args.paths)?;
    let mut options = Options::default();
    options.lenient = args.lenient;
    if args.refuse_extensions {
        options.extensions = Level::Error;
    }
    let mesh = Settings::read(args.mesh_config.as_deref(), &options)?;
    let mut findings = mesh.findings;
    findings.extend(analyze(&files, &options, &mesh.settings));
    files.extend(mesh.file);
    let text = if json { as_json(&findings) } else { as_text(&findings, &files) };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("writing the findings: {error}"))?;
    Ok(findings.iter().any(|finding| finding.level >= args.failure_threshold.level()))
}

fn as_json(findings: &[Diagnostic]) -> String {
    let rows = findings.iter().map(|finding| {
        let place = finding.location.as_ref();
        serde_json::json!({
            "code": finding.code,
            "level": finding.level,
            "message": finding.message,
            "help": finding.help,
            "resource": finding.resource.as_ref().map(ToString::to_string),
            "file": place.map(|place| &place.file),
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "path": finding.path,
        })
    });
    format!("{:#}\n", serde_json::Value::Array(rows.collect()))
}

fn as_text(findings: &[Diagnostic], files: &[SourceFile]) -> String {
    if findings.is_empty() {
        return "nothing to report\n".to_owned();
    }
    let source = |finding: &Diagnostic| {
        let file = &finding.location.as_ref()?.file;
        files.iter().find(|known| known.name == **file)?.text.as_deref().ok()
    };
    let mut text = String::new();
    for finding in findings {
        text.push_str(&finding.render(source(finding)));
        text.push('\n');
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    let notes = findings.len() - errors - warnings;
    let counts = [(errors, "error"), (warnings, "warning"), (notes, "note")];
    let counts = counts.map(|(n, what)| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") });
    text + &counts.join(", ") + "\n"
}

impl Threshold {
    fn level(self) -> Level {
        match self {
            Self::Error => Level::Error,
            Self::Warning => Level::Warning,
            Self::Info => Level::Info,
        }
    }
}
