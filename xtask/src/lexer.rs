//! Enough of Rust's lexical grammar to tell code from comments, strings and tests.
//!
//! No parser: it yields words and single punctuation characters, which is all that the scans look at.

/// A word, or one character of punctuation, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

/// Returns the tokens of `source` without comments, literals, and items under `#[cfg(test)]`.
pub(crate) fn code(source: &str) -> Vec<Token> {
    without_tests(&tokens(source))
}

fn tokens(source: &str) -> Vec<Token> {
    let mut lexer = Lexer { rest: source, line: 1, tokens: Vec::new() };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    /// Takes one token, comment, literal or blank; false at the end.
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else { return false };
        let length = match first {
            '/' if self.rest.starts_with("//") => self.rest.find('\n').unwrap_or(self.rest.len()),
            '/' if self.rest.starts_with("/*") => block_comment(self.rest),
            '"' => 1 + quoted(&self.rest[1..], '"'),
            'r' | 'b' | 'c' if string_prefix(self.rest).is_some() => prefixed_string(self.rest),
            '\'' => quote(self.rest),
            c if c.is_alphabetic() || c == '_' => return self.word(),
            c if c.is_whitespace() => c.len_utf8(),
            c => {
                self.push(c.len_utf8());
                return true;
            }
        };
        self.skip(length);
        true
    }

    fn word(&mut self) -> bool {
        let length = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        self.push(length);
        true
    }

    fn push(&mut self, length: usize) {
        self.tokens.push(Token { text: self.rest[..length].to_owned(), line: self.line });
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest[..length].matches('\n').count();
        self.rest = &self.rest[length..];
    }
}

/// Returns the length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Returns the length up to and with the closing `quote`, past escapes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Returns the prefix (`r#`, `b`, `br##`, `c` …) if `text` begins with a prefixed string.
fn string_prefix(text: &str) -> Option<&str> {
    let end = text.find('"')?;
    let letters = text[..end].trim_end_matches('#');
    let is_prefix = matches!(letters, "r" | "b" | "c" | "br" | "cr");
    let is_plain = letters.len() == end || letters.contains('r');
    (is_prefix && is_plain).then_some(&text[..end])
}

fn prefixed_string(text: &str) -> usize {
    let prefix = string_prefix(text).unwrap_or_default();
    let body = prefix.len() + 1;
    if !prefix.contains('r') {
        return body + quoted(&text[body..], '"');
    }
    let close = format!("\"{}", "#".repeat(prefix.matches('#').count()));
    text[body..].find(&close).map_or(text.len(), |at| body + at + close.len())
}

/// Returns the length of a character literal, or of the quote alone if it begins a lifetime.
fn quote(text: &str) -> usize {
    let mut rest = text[1..].chars();
    match (rest.next(), rest.next()) {
        (Some('\\'), _) => 1 + quoted(&text[1..], '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}

const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_test = tokens.len() - at >= CFG_TEST.len()
            && CFG_TEST.iter().zip(&tokens[at..]).all(|(text, token)| token.is(text));
        if is_test {
            at = item_end(tokens, at + CFG_TEST.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the index behind the item that begins at `at`: behind its `;`, or its outermost `}`.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return at,
            "}" => depth -= 1,
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let table = [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            ("f(\"x \\\" y\")", "f ( )"),
            ("f(r#\"x \" y\"#) z", "f ( ) z"),
            ("f(b\"x\", '\\'', 'x', '\"')", "f ( , , , )"),
            ("fn f<'a>(x: &'a str)", "fn f < a > ( x : & a str )"),
            ("a #[cfg(test)] mod tests { fn b() { c } } d", "a d"),
            ("a #[cfg(test)] mod tests; d", "a d"),
            ("rb(1) break_", "rb ( 1 ) break_"),
        ];
        for (source, expected) in table {
            let texts: Vec<String> = code(source).into_iter().map(|token| token.text).collect();
            assert_eq!(texts.join(" "), expected, "{source}");
        }
    }

    #[test]
    fn tokens_know_their_line_behind_a_string_of_several_lines() {
        let found = code("a\n\"x\ny\"\nb");
        assert_eq!(found.last(), Some(&Token { text: "b".to_owned(), line: 4 }));
    }
}
