//! Names as Kubernetes takes them, checked where they enter: at the start of a workload and at the control endpoint, by
//! one rule, so that nobody starts under a name that the endpoint would refuse for ever.

/// Checks that `text`, called `what`, is a DNS label: a namespace, a service, a port.
///
/// # Errors
///
/// Says what to write.
// spec: rfc1123 section 2.1, as kubernetes apimachinery validation IsDNS1123Label reads it
pub fn label(what: &str, text: &str) -> Result<(), String> {
    if is_label(text) {
        return Ok(());
    }
    Err(format!(
        "{what} {} is not a name: write 1 to 63 of a-z, 0-9 and `-`, first and last no `-`",
        quoted(text)
    ))
}

/// Checks that `text`, called `what`, is a DNS name: labels with dots between, as service accounts may have.
///
/// # Errors
///
/// Says what to write.
// spec: kubernetes apimachinery validation IsDNS1123Subdomain
pub fn subdomain(what: &str, text: &str) -> Result<(), String> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    Err(format!(
        "{what} {} is not a name: write 1 to 253 of a-z, 0-9, `-` and `.`, each part between a letter or digit and a \
         letter or digit",
        quoted(text)
    ))
}

/// Checks the name of an instance: what a host name, an address with a port or a UUID consists of.
///
/// # Errors
///
/// Says what to write.
pub fn instance(text: &str) -> Result<(), String> {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if (1..=253).contains(&text.len()) && text.bytes().all(taken) {
        return Ok(());
    }
    Err(format!("instance {} is not a name: write 1 to 253 letters, digits and `-._:[]`", quoted(text)))
}

/// Checks the key of a label: `[prefix/]name`.
///
/// # Errors
///
/// Says what to write.
// spec: kubernetes apimachinery validation IsQualifiedName
pub fn label_key(text: &str) -> Result<(), String> {
    let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    if is_label_text(name) && !name.is_empty() && prefix.is_none_or(|prefix| subdomain("", prefix).is_ok()) {
        return Ok(());
    }
    Err(format!("{} is not a label key: write `name` or `prefix/name`", quoted(text)))
}

/// Checks the value of a label.
///
/// # Errors
///
/// Says what to write.
// spec: kubernetes apimachinery validation IsValidLabelValue
pub fn label_value(text: &str) -> Result<(), String> {
    if is_label_text(text) {
        return Ok(());
    }
    Err(format!(
        "{} is not a label value: write at most 63 letters, digits and `-_.`, first and last a letter or digit",
        quoted(text)
    ))
}

/// Checks a locality: `region/zone/subzone`, from the left as many as are known.
///
/// # Errors
///
/// Says what to write.
pub fn locality(text: &str) -> Result<(), String> {
    let taken = |part: &str| part.is_empty() || label_value(part).is_ok();
    if text.split('/').count() <= 3 && text.split('/').all(taken) {
        return Ok(());
    }
    Err(format!("locality: {}; write `region/zone/subzone`, of letters, digits and `-_.`", quoted(text)))
}

/// Returns `text` in quotes, shortened and with nothing in it that could forge a line of a log.
pub fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    format!("{shown:?}{}", if shown.len() < text.len() { ".." } else { "" })
}

/// How many labels a workload may have: more is data, not description.
pub const LABELS_MAX: usize = 64;

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_label_text(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && edge(text.bytes().next())
        && edge(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_refused_as_kubernetes_does() {
        let long = "a".repeat(64);
        type Check = fn(&str) -> Result<(), String>;
        let table: [(Check, &[&str], &[&str]); 5] = [
            (|t| label("x", t), &["a", "a-1", "0"], &["", "-a", "a-", "A", "a.b", "a/b", "a_b", "é", &long]),
            (|t| subdomain("x", t), &["a", "a.b-c.d"], &["", ".a", "a.", "a..b", "A.b", "a/b", &long]),
            (instance, &["a", "127.0.0.1:80", "[::1]:80", "A_b"], &["", "a/b", "a b", "a%2fb", "\n"]),
            (label_key, &["app", "a.b/c", "A_b.c"], &["", "a/", "/a", "a/b/c", "-a", "A/b", &long]),
            (label_value, &["", "v1", "A_b.c-d"], &["-a", "a-", "a b", "a/b", &long]),
        ];
        for (row, (check, good, bad)) in table.into_iter().enumerate() {
            for text in good {
                assert_eq!(check(text), Ok(()), "row {row}: {text:?}");
            }
            for text in bad {
                assert!(check(text).is_err(), "row {row}: {text:?}");
            }
        }
    }

    #[test]
    fn what_is_quoted_is_short_and_on_one_line() {
        assert_eq!(quoted("a\nb"), r#""a\nb""#);
        assert!(quoted(&"x".repeat(10_000)).len() < 100);
    }
}
