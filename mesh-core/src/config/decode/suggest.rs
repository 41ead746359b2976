//! The name that was probably meant.

/// Returns the one of `names` that is nearest to `written`, if it is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(written: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond that length nobody mistypes a field name, and the table below would grow with what a file says.
    if written.len() > LENGTH_MAX {
        return None;
    }
    let (distance, name) = names.into_iter().map(|name| (distance(written, name), name)).min()?;
    (distance <= 1.max(name.len() / 3)).then_some(name)
}

/// Returns how many insertions, deletions, replacements and swaps of neighbours lie between two words, without regard
/// to case and underscores.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| -> Vec<u8> {
        word.bytes().filter(|&c| c != b'_').map(|c| c.to_ascii_lowercase()).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut rows: [Vec<usize>; 3] = [Vec::new(), Vec::new(), (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        rows[2] = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = best;
        }
    }
    rows[2][b.len()]
}

/// Istio's longest field name has 30 characters.
const LENGTH_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_name_and_another_word_finds_none() {
        let names = ["weight", "destination", "headers", "perTryTimeout"];
        for (written, found) in [
            ("wieght", Some("weight")),
            ("weigth", Some("weight")),
            ("Weight", Some("weight")),
            ("weights", Some("weight")),
            ("destinations", Some("destination")),
            ("per_try_timeout", Some("perTryTimeout")),
            ("pertrytimout", Some("perTryTimeout")),
            ("color", None),
            ("x", None),
            ("", None),
            (&"weight".repeat(10), None),
        ] {
            assert_eq!(nearest(written, names), found, "{written}");
        }
    }
}
