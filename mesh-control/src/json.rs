//! JSON bodies, read into their types with an error that names the field.

use serde::de::DeserializeOwned;

/// Returns the body, or what is wrong with it and where.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
    serde_json::from_str(text).map_err(|error| {
        match path_before(text, offset(text, error.line(), error.column())) {
            path if path.is_empty() => format!("the body: {error}"),
            path => format!("{path}: {error}"),
        }
    })
}

/// Returns where in `text` serde_json's place is: lines count from 1, columns count bytes.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (start + column).min(text.len())
}

/// Returns the path of the field that is being read at `end`, as `ports.http` or `a[2].b`.
///
/// It follows JSON no further than to tell keys from values; where that fails, the path is shorter, not wrong.
fn path_before(text: &str, end: usize) -> String {
    let mut stack: Vec<Step> = Vec::new();
    let mut bytes = text.bytes().enumerate().take(end);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'{' => stack.push(Step::Field(None)),
            b'[' => stack.push(Step::Index(0)),
            // The error of a closing bracket belongs to what it closes.
            b'}' | b']' if at + 1 < end => drop(stack.pop()),
            b',' if at + 1 < end => match stack.last_mut() {
                Some(Step::Index(index)) => *index += 1,
                Some(Step::Field(key)) => *key = None,
                None => {}
            },
            b'"' => {
                let mut escaped = false;
                let closing = bytes.find(|(_, byte)| {
                    let closes = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    closes
                });
                let stop = closing.map_or(end, |(at, _)| at);
                if let Some(Step::Field(key @ None)) = stack.last_mut() {
                    *key = text.get(at + 1..stop).map(|key| key.chars().take(KEY_CHARS_MAX).collect());
                }
            }
            _ => {}
        }
        if stack.len() > DEPTH_MAX {
            return String::new();
        }
    }
    stack.iter().fold(String::new(), |path, step| match step {
        Step::Field(None) => path,
        Step::Field(Some(key)) if path.is_empty() => key.clone(),
        Step::Field(Some(key)) => format!("{path}.{key}"),
        Step::Index(index) => format!("{path}[{index}]"),
    })
}

enum Step {
    Field(Option<String>),
    Index(usize),
}

/// serde_json's own limit.
const DEPTH_MAX: usize = 128;
const KEY_CHARS_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::control::wire::{Lease, Report};
    use proptest::prelude::*;

    #[test]
    fn an_error_names_the_field_and_the_place() {
        let table = [
            (r#"{"address": 1, "ports": {}}"#, "address: invalid type: integer `1`"),
            (r#"{"address": "a", "ports": {"http": "x"}}"#, "ports.http: invalid type: string"),
            (r#"{"address": "a", "ports": {"http": 70000}}"#, "ports.http: invalid value: integer `70000`"),
            ("{\"address\": \"a\",\n \"ports\": {}, \"weight\": 1}", "weight: unknown field `weight`"),
            (r#"{"ports": {}}"#, "missing field `address`"),
            (r#"{"address": "a", "address": "b"}"#, "address: duplicate field `address`"),
            (r#"{"address": "a", "#, "EOF while parsing"),
            ("", "the body: EOF while parsing"),
            ("[]", "invalid length 0"),
        ];
        for (body, expected) in table {
            let error = read::<Lease>(body.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
            assert!(error.contains(" at line "), "{error}");
        }
        let report = r#"{"service": "a", "instance": "b", "version": "c", "rejected": [{"resource": 1}]}"#;
        let error = read::<Report>(report.as_bytes()).unwrap_err();
        assert!(error.starts_with("rejected[0].resource: invalid type"), "{error}");
    }

    #[test]
    fn a_body_nested_ten_thousand_deep_is_an_error() {
        for body in ["[".repeat(10_000), r#"{"labels":"#.to_owned() + &r#"{"a":"#.repeat(10_000)] {
            assert!(read::<Lease>(body.as_bytes()).is_err());
            assert!(read::<serde_json::Value>(body.as_bytes()).unwrap_err().contains("recursion limit"));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[{}\[\]",:a\\\\1é \n]{0,60}"#) {
            let _ = read::<Report>(text.as_bytes());
        }
    }
}
