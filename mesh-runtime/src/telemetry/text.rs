//! Prometheus's text format.
// spec: prometheus docs/instrumenting/exposition_formats, version 0.0.4

use std::fmt::{self, Write as _};

/// Labels, escaped when they are put in.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels(String);

/// An exposition under construction.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    family: &'static str,
}

impl Labels {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a label. `name` is a word of ours; `value` may be anything.
    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0.push_str(comma);
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Text {
    /// Begins a family; the samples that follow belong to it.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    pub(super) fn sample(&mut self, labels: &Labels, value: impl fmt::Display) {
        self.named("", labels, value);
    }

    pub(super) fn histogram(&mut self, labels: &Labels, cumulative: &[(f64, u64)], sum: f64) {
        for &(bound, count) in cumulative {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.named("_bucket", &labels.clone().with("le", &bound), count);
        }
        self.named("_sum", labels, sum);
        self.named("_count", labels, cumulative.last().map_or(0, |&(_, count)| count));
    }

    pub(super) fn finish(self) -> String {
        self.text
    }

    fn named(&mut self, suffix: &str, labels: &Labels, value: impl fmt::Display) {
        let family = self.family;
        match labels.as_str() {
            "" => self.line(format_args!("{family}{suffix} {value}")),
            labels => self.line(format_args!("{family}{suffix}{{{labels}}} {value}")),
        }
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_value_cannot_break_out_of_its_quotes() {
        let labels = Labels::new().with("a", "x\"} 1\nevil{b=\"\\").with("c", "ü");
        assert_eq!(labels.as_str(), r#"a="x\"} 1\nevil{b=\"\\",c="ü""#);
    }

    #[test]
    fn a_histogram_is_written_as_prometheus_reads_it() {
        let mut text = Text::default();
        text.family("d", "histogram", "Help.");
        text.histogram(&Labels::new().with("a", "b"), &[(0.5, 1), (1.0, 2), (f64::INFINITY, 3)], 7.25);
        text.family("n", "gauge", "Help.");
        text.sample(&Labels::new(), 1);
        let expected = "# HELP d Help.\n# TYPE d histogram\n\
                        d_bucket{a=\"b\",le=\"0.5\"} 1\nd_bucket{a=\"b\",le=\"1\"} 2\nd_bucket{a=\"b\",le=\"+Inf\"} 3\n\
                        d_sum{a=\"b\"} 7.25\nd_count{a=\"b\"} 3\n# HELP n Help.\n# TYPE n gauge\nn 1\n";
        assert_eq!(text.finish(), expected);
    }
}
