//! `meshctl analyze`: what is wrong with configuration before it is served.

use super::{
    args::{AnalyzeArgs, Threshold},
    input,
};
use mesh_core::{
    config::{Accepted, Diagnostic, Level, Options, SourceFile},
    health::States,
    snapshot::{MeshSettings, Viewer, compile},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

/// Returns whether a finding is at or above the threshold.
pub(crate) fn run(args: &AnalyzeArgs, json: bool) -> Result<bool, String> {
    let files = input::read(&args.paths)?;
    let mut options = Options::default();
    options.lenient = args.lenient;
    if args.lenient {
        options.extensions = Level::Warning;
    }
    let findings = findings(&files, &options)?;
    let text = if json { as_json(&findings) } else { as_text(&findings, &files) };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| format!("writing the findings: {error}"))?;
    Ok(findings.iter().any(|finding| finding.level >= args.failure_threshold.level()))
}

/// What reading, accepting and compiling find, as every namespace sees it.
fn findings(files: &[SourceFile], options: &Options) -> Result<Vec<Diagnostic>, String> {
    let accepted = Accepted::default().update(files, options);
    let mut findings = accepted.diagnostics.clone();
    let trust_domain = "cluster.local".parse().map_err(|error| format!("{error}"))?;
    let settings = MeshSettings::new(trust_domain);
    let named: BTreeSet<_> =
        accepted.resources.iter().map(|object| object.key.namespace.to_string()).collect();
    for namespace in named {
        let viewer = Viewer { namespace, service: None, labels: BTreeMap::new() };
        let (_, found) = compile("", &accepted.resources, &viewer, &settings, &States::default());
        for finding in found {
            // A dangling subset has been judged over the whole set already, with the better message.
            let known = |other: &Diagnostic| other.code == finding.code && other.location == finding.location;
            if !findings.iter().any(known) {
                findings.push(finding);
            }
        }
    }
    findings.sort_by(|a, b| a.location.cmp(&b.location).then_with(|| b.level.cmp(&a.level)));
    Ok(findings)
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
    text.push_str(&format!(
        "{errors} errors, {warnings} warnings, {} notes\n",
        findings.len() - errors - warnings
    ));
    text
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
