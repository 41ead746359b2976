//! Readers of single values.
//!
//! A string field takes any scalar as it is written; a number or boolean field also takes a quoted one, as protobuf's
//! JSON does.

use super::{Decoder, shortened};
use crate::config::{
    diagnostic::{Code, Diagnostic},
    duration,
    resource::At,
    schema::Shape,
    tree::{Node, Value},
};
use base64::Engine as _;
use std::{collections::BTreeMap, str::FromStr, time::Duration};

/// Reads a text.
pub(crate) fn text(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    borrowed(decoder, node).map(str::to_owned)
}

/// Reads a text that is not empty.
pub(crate) fn name(decoder: &mut Decoder<'_>, node: &Node) -> Option<String> {
    decoder.describe(|| Shape::Name);
    let text = text(decoder, node)?;
    if text.is_empty() {
        decoder.refuse(node.at, "must not be empty");
        return None;
    }
    Some(text)
}

/// Reads a text that is not empty, with its place.
pub(crate) fn name_at(decoder: &mut Decoder<'_>, node: &Node) -> Option<At<String>> {
    Some(At { value: name(decoder, node)?, at: node.at })
}

/// Reads a boolean.
pub(crate) fn flag(decoder: &mut Decoder<'_>, node: &Node) -> Option<bool> {
    decoder.describe(|| Shape::Flag);
    match borrowed(decoder, node)? {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => {
            decoder.wrong_type(node, "true or false");
            None
        }
    }
}

/// Reads a whole number that is not negative.
pub(crate) fn count(decoder: &mut Decoder<'_>, node: &Node) -> Option<u32> {
    number(decoder, node, 0, u32::MAX)
}

/// Reads a port.
pub(crate) fn port(decoder: &mut Decoder<'_>, node: &Node) -> Option<u16> {
    number(decoder, node, 1, u16::MAX)
}

/// Reads a whole percentage.
pub(crate) fn percent(decoder: &mut Decoder<'_>, node: &Node) -> Option<u8> {
    number(decoder, node, 0, 100)
}

/// Reads a whole number between `least` and `most`.
pub(crate) fn number<T>(decoder: &mut Decoder<'_>, node: &Node, least: T, most: T) -> Option<T>
where
    T: Copy + Into<i64> + TryFrom<i64>,
{
    let (least, most) = (least.into(), most.into());
    decoder.describe(|| Shape::Number { least, most });
    let text = borrowed(decoder, node)?;
    let Some(value) = integer(text) else {
        decoder.wrong_type(node, "a whole number");
        return None;
    };
    if (least..=most).contains(&value) {
        return T::try_from(value).ok();
    }
    let what = if value < 0 { "must not be negative" } else { "is out of range" };
    let help = if most < u32::MAX.into() { format!(" to {most}") } else { " on".to_owned() };
    let finding = Diagnostic::error(Code::SCHEMA, format!("{value} {what}"));
    decoder.find(node.at, finding.help(format!("write a number from {least}{help}")));
    None
}

/// Reads a number that may have a fraction, between `least` and `most`.
pub(crate) fn decimal(decoder: &mut Decoder<'_>, node: &Node, least: f64, most: f64) -> Option<f64> {
    decoder.describe(|| Shape::Decimal { least, most });
    let text = borrowed(decoder, node)?;
    let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) else {
        decoder.wrong_type(node, "a number");
        return None;
    };
    if (least..=most).contains(&value) {
        return Some(value);
    }
    let finding = Diagnostic::error(Code::SCHEMA, format!("{} is out of range", shortened(text)));
    let help = if most < f64::MAX { format!(" to {most}") } else { " on".to_owned() };
    decoder.find(node.at, finding.help(format!("write a number from {least}{help}")));
    None
}

/// Reads bytes, written in base64.
pub(crate) fn base64(decoder: &mut Decoder<'_>, node: &Node) -> Option<Vec<u8>> {
    decoder.describe(|| Shape::Base64);
    let text = borrowed(decoder, node)?;
    let read = base64::engine::general_purpose::STANDARD.decode(text);
    if read.is_err() {
        decoder.wrong_type(node, "base64");
    }
    read.ok()
}

/// Reads a duration.
pub(crate) fn duration(decoder: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    decoder.describe(|| Shape::Duration { least: Duration::ZERO });
    match duration::parse(borrowed(decoder, node)?) {
        Ok(duration) => Some(duration),
        Err(error) => {
            decoder.refuse(node.at, shortened(&error.to_string()));
            None
        }
    }
}

/// Reads a duration of at least a millisecond, and of whole ones.
// spec: istio pkg/config/validation ValidateDuration
pub(crate) fn lasting(decoder: &mut Decoder<'_>, node: &Node) -> Option<Duration> {
    decoder.describe(|| Shape::Duration { least: LASTING_MIN });
    let duration = duration(decoder, node)?;
    if duration < LASTING_MIN {
        decoder.refuse(node.at, "must be at least 1ms; leave the field out to have its default");
        return None;
    }
    if duration.subsec_nanos() % 1_000_000 != 0 {
        decoder.refuse(node.at, "must be a whole number of milliseconds");
        return None;
    }
    Some(duration)
}

/// Reads one of the names in `table`.
pub(crate) fn choice<T: Copy>(decoder: &mut Decoder<'_>, node: &Node, table: &[(&str, T)]) -> Option<T> {
    decoder.describe(|| Shape::Choice(table.iter().map(|(name, _)| (*name).to_owned()).collect()));
    let text = borrowed(decoder, node)?;
    if let Some((_, value)) = table.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
    let near = decoder.meant(text, names.iter().copied());
    let hint = near.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
    let finding = Diagnostic::error(Code::SCHEMA, format!("unknown value `{}`{hint}", shortened(text)))
        .help(format!("the values are {}", names.join(", ")));
    decoder.find(node.at, finding);
    None
}

/// Reads a mapping of text to text.
pub(crate) fn labels<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<BTreeMap<String, String>> {
    let read = |decoder: &mut Decoder<'n>, key: &'n crate::config::tree::Key, node: &'n Node| {
        let value = if node.is_null() { String::new() } else { text(decoder, node)? };
        Some((key.text.to_string(), value))
    };
    Some(decoder.entries(node, read).into_iter().collect())
}

/// Reads whatever `T` parses.
pub(crate) fn parsed<T: FromStr>(decoder: &mut Decoder<'_>, node: &Node, expected: &str) -> Option<T> {
    decoder.describe(|| Shape::Parsed(expected.to_owned()));
    let value = borrowed(decoder, node)?.parse().ok();
    if value.is_none() {
        decoder.wrong_type(node, expected);
    }
    value
}

/// Reads a text without a copy.
pub(crate) fn borrowed<'n>(decoder: &mut Decoder<'_>, node: &'n Node) -> Option<&'n str> {
    decoder.describe(|| Shape::Text);
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => {
            decoder.wrong_type(node, "a text");
            None
        }
    }
}

/// Returns the integer that the core schema sees in `text`.
// spec: yaml 1.2.2, 10.3.2 core schema, tag resolution
fn integer(text: &str) -> Option<i64> {
    let radix = |digits: &str, radix| {
        digits
            .starts_with(|c: char| c.is_ascii_alphanumeric())
            .then(|| i64::from_str_radix(digits, radix).ok())?
    };
    match text.split_at_checked(2) {
        Some(("0x", digits)) => radix(digits, 16),
        Some(("0o", digits)) => radix(digits, 8),
        _ => text.parse().ok(),
    }
}

/// Istio takes less for no time at all.
const LASTING_MIN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_the_core_schema_writes_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("+5", Some(5)),
            ("-5", Some(-5)),
            ("007", Some(7)),
            ("0x1F", Some(31)),
            ("0o17", Some(15)),
            ("0x", None),
            ("0x-1", None),
            ("1.0", None),
            ("1e3", None),
            ("", None),
            ("٣", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(integer(text), value, "{text}");
        }
    }
}
