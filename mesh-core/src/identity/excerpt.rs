//! Text from a peer, made fit for an error message and a log line. Not for text that is to be compared or used.

use std::fmt;

/// The beginning of a text that somebody else wrote: escaped, and cut to a length fit for a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Returns the beginning of `text`, escaped.
    pub fn of(text: &str) -> Self {
        let mut shown: String = text.chars().take(EXCERPT_CHARS_MAX).flat_map(char::escape_debug).collect();
        if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
            shown.push('…');
        }
        Self(shown.into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A line of a terminal; the longest IDs seen in practice are shorter.
const EXCERPT_CHARS_MAX: usize = 100;
