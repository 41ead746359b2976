//! Regular expressions as users write them: in RE2 syntax, bounded, and with a note where one costs more than what it
//! does is worth.
// spec: istio pkg/config/validation validateStringRegexp; re2 wiki Syntax

use crate::config::{
    decode::{self, Decoder, PROGRAM_BYTES_MAX, shortened},
    diagnostic::{Code, Diagnostic, Level},
    resource::Mark,
    tree::Node,
};
use regex::{Error, Regex, RegexBuilder};

/// Reads an expression that has to match a whole text.
pub(super) fn whole(decoder: &mut Decoder<'_>, node: &Node) -> Option<Regex> {
    let text = decode::name(decoder, node)?;
    whole_of(decoder, &text, node.at)
}

/// Reads the expression `text`, which has to match a whole text and stands at `at`.
pub(super) fn whole_of(decoder: &mut Decoder<'_>, text: &str, at: Mark) -> Option<Regex> {
    check(decoder, text, at)?;
    // By itself first: `a)|(?:b` is no expression, but would become one between the anchors' parentheses.
    let pattern = as_re2(text);
    parse(decoder, at, text, &pattern)?;
    let regex = compile(decoder, at, text, &format!("^(?:{pattern})$"))?;
    note_plain(decoder, at, text);
    Some(regex)
}

/// Reads an expression that may match any part of a text.
pub(super) fn part(decoder: &mut Decoder<'_>, node: &Node) -> Option<Regex> {
    let text = decode::name(decoder, node)?;
    check(decoder, &text, node.at)?;
    compile(decoder, node.at, &text, &as_re2(&text))
}

fn check(decoder: &mut Decoder<'_>, text: &str, at: Mark) -> Option<()> {
    if text.len() > CHARS_MAX {
        let reason = format!("it has {} bytes, and at most {CHARS_MAX} are allowed", text.len());
        refuse(decoder, at, text, &reason);
        return None;
    }
    match Scan::of(text) {
        Scan { count, .. } if count > COUNT_MAX => {
            refuse(decoder, at, text, &format!("it repeats {count} times, and RE2 at most {COUNT_MAX}"));
            return None;
        }
        Scan { count, .. } if count > COUNT_CHEAP => {
            let message = format!("the expression is compiled as if its part stood there {count} times");
            let help = "write `*` or `+`, and check the length elsewhere";
            decoder.find(at, Diagnostic::warning(Code::REGEX_COST, message).help(help));
        }
        Scan { nested: true, .. } => {
            let message = "a repetition within a repetition makes an expression large and hard to read";
            let help = "write the inner part without its own `*` or `+`";
            decoder.find(at, Diagnostic::warning(Code::REGEX_COST, message).help(help));
        }
        Scan { .. } => {}
    }
    Some(())
}

/// Looks at the syntax alone: with no room for a program, none is made.
fn parse(decoder: &mut Decoder<'_>, at: Mark, text: &str, pattern: &str) -> Option<()> {
    match RegexBuilder::new(pattern).size_limit(0).build() {
        Ok(_) | Err(Error::CompiledTooBig(_)) => Some(()),
        Err(error) => refuse_syntax(decoder, at, text, &error),
    }
}

/// Writes the classes of letters, digits and spaces out: in RE2 they are those of ASCII, here those of every script. What
/// has a meaning only here, within a class, is escaped.
// spec: re2 wiki Syntax, Perl character classes
fn as_re2(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('b') if !in_class => written.push_str(r"(?-u:\b)"),
                Some(escaped) => match class(escaped) {
                    Some(class) => written.push_str(class),
                    None => written.extend(['\\', escaped]),
                },
                None => written.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                written.push('[');
                written.extend(chars.next_if_eq(&'^'));
                // A `]` that comes first is a member.
                written.extend(chars.next_if_eq(&']'));
            }
            // Of `[:alpha:]` within a class.
            '[' if chars.peek() == Some(&':') => {
                written.push('[');
                for inner in chars.by_ref() {
                    written.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' | '&' | '~' if in_class => written.extend(['\\', c]),
            c => {
                in_class &= c != ']';
                written.push(c);
            }
        }
    }
    written
}

fn class(escaped: char) -> Option<&'static str> {
    match escaped {
        'd' => Some("[0-9]"),
        'D' => Some("[^0-9]"),
        'w' => Some("[0-9A-Za-z_]"),
        'W' => Some("[^0-9A-Za-z_]"),
        's' => Some(r"[\t\n\f\r ]"),
        'S' => Some(r"[^\t\n\f\r ]"),
        _ => None,
    }
}

/// Compiles `pattern`, which was written as `text`, within a room that is doubled until it fits: so its size is known, and
/// taken from what the file may hold. What fits into the least room takes nothing: the text of the file bounds those.
fn compile(decoder: &mut Decoder<'_>, at: Mark, text: &str, pattern: &str) -> Option<Regex> {
    let mut room = BYTES_FREE;
    loop {
        match RegexBuilder::new(pattern).size_limit(room).build() {
            Ok(regex) => return Some(regex),
            Err(Error::CompiledTooBig(_)) if room >= BYTES_MAX => {
                refuse(decoder, at, text, &format!("compiled, it exceeds {BYTES_MAX} bytes"));
                return None;
            }
            Err(Error::CompiledTooBig(_)) if decoder.take_program_bytes(room).is_none() => {
                refuse_more(decoder, at, text);
                return None;
            }
            Err(Error::CompiledTooBig(_)) => room *= 2,
            Err(error) => return refuse_syntax(decoder, at, text, &error),
        }
    }
}

fn refuse_syntax<T>(decoder: &mut Decoder<'_>, at: Mark, text: &str, error: &Error) -> Option<T> {
    // The last line of a syntax error says what is wrong; those before draw the pattern.
    let reason = error.to_string();
    refuse(decoder, at, text, reason.lines().last().unwrap_or_default().trim());
    None
}

fn refuse_more(decoder: &mut Decoder<'_>, at: Mark, text: &str) {
    let message = format!(
        "regex `{}` is one too many: compiled, those of one file must not exceed {PROGRAM_BYTES_MAX} bytes together",
        shortened(text)
    );
    let help =
        "write `exact` or `prefix`, repeat smaller parts, or put some of the objects into another file";
    decoder.find(at, Diagnostic::error(Code::TOO_LARGE, message).help(help));
}

fn refuse(decoder: &mut Decoder<'_>, at: Mark, text: &str, reason: &str) {
    let message = format!("regex `{}` is not valid: {reason}", shortened(text));
    let help = "write it in RE2 syntax; a condition is matched against the whole text";
    decoder.find(at, Diagnostic::error(Code::INVALID_REGEXP, message).help(help));
}

/// Notes an expression that is a text, or the beginning of one.
fn note_plain(decoder: &mut Decoder<'_>, at: Mark, text: &str) {
    let body = text.strip_prefix('^').unwrap_or(text);
    let body = body.strip_suffix('$').unwrap_or(body);
    let exact = literal(body).map(|text| ("exact", text));
    let prefix = || body.strip_suffix(".*").and_then(literal).map(|text| ("prefix", text));
    let Some((how, plain)) = exact.or_else(prefix).filter(|(_, plain)| !plain.is_empty()) else { return };
    let message = format!("the regex is no more than the {how} text `{}`", shortened(&plain));
    let finding = Diagnostic::new(Code::REGEX_COST, Level::Info, message);
    decoder.find(at, finding.help(format!("write `{how}: {}`, which is cheaper", shortened(&plain))));
}

/// Returns the text that `pattern` stands for, if it stands for one only.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(char::is_ascii_punctuation)?),
            '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            c => text.push(c),
        }
    }
    Some(text)
}

/// What repeats in an expression, as far as its text shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Scan {
    /// Whether something without end is repeated without end.
    nested: bool,
    /// The largest number of times that something is repeated.
    count: u32,
}

impl Scan {
    fn of(pattern: &str) -> Self {
        let mut scan = Self::default();
        // Per open group: whether something in it repeats without end.
        let mut groups = vec![false];
        // Whether what stands before is a group in which something does.
        let mut before = false;
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            let endless = match c {
                '*' | '+' => true,
                '{' => scan.counted(after),
                _ => false,
            };
            if endless {
                scan.nested |= before;
                groups.last_mut().into_iter().for_each(|group| *group = true);
            }
            before = match c {
                '(' => {
                    groups.push(false);
                    false
                }
                ')' => {
                    let inner = groups.pop().unwrap_or_default();
                    groups.last_mut().into_iter().for_each(|group| *group |= inner);
                    inner
                }
                _ => false,
            };
            rest = match c {
                '\\' => after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(),
                '[' => behind_class(after),
                _ => after,
            };
        }
        scan
    }

    /// Notes the repetition whose `{` stands before `text`; returns whether it is without end.
    fn counted(&mut self, text: &str) -> bool {
        let Some((inside, _)) = text.split_once('}') else { return false };
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let Ok(least) = least.parse::<u32>() else { return false };
        self.count = self.count.max(most.parse().unwrap_or(least));
        most.is_empty()
    }
}

/// Returns what follows the class whose `[` stands before `text`.
fn behind_class(text: &str) -> &str {
    let mut escaped = false;
    // A `]` that comes first is a member.
    let body = text.strip_prefix('^').unwrap_or(text);
    let mut chars = body.char_indices().skip(1);
    let end = chars.find(|(_, c)| {
        let ends = *c == ']' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.and_then(|(at, _)| body.get(at + 1..)).unwrap_or_default()
}

/// Istio's own bound.
const CHARS_MAX: usize = 1024;

/// A hundred times what a path expression needs, and little enough for thousands of routes.
const BYTES_MAX: usize = 1024 * 1024;

/// A path expression without classes of letters fits; thousands of them are compiled as fast as their text is read.
const BYTES_FREE: usize = 8 * 1024;

/// RE2's own bound on one repetition.
const COUNT_MAX: u32 = 1000;

/// A class repeated so often compiles to some ten kilobytes.
const COUNT_CHEAP: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_without_operators_is_a_text() {
        for (pattern, text) in [
            ("/api/v1", Some("/api/v1")),
            (r"/a\.b", Some("/a.b")),
            (r"\d", None),
            ("a.c", None),
            ("a|b", None),
            (r"a\", None),
        ] {
            assert_eq!(literal(pattern).as_deref(), text, "{pattern}");
        }
    }

    #[test]
    fn letters_digits_and_spaces_are_those_of_ascii_as_in_re2() {
        for (pattern, text, matches) in [
            (r"\w+", "a_9", true),
            (r"\w", "\u{e9}", false),
            (r"\W", "\u{e9}", true),
            (r"\d", "\u{664}", false),
            (r"[\d.]+", "1.2", true),
            (r"[\w-.]+", "a-b.c", true),
            (r"[^\w]", "\u{e9}", true),
            (r"[]\d]+", "1]", true),
            (r"[\W\d]+", "1-", true),
            (r"[[:alpha:]\d]+", "a1", true),
            (r"a\sb", "a\u{a0}b", false),
            (r"a\sb", "a b", true),
            (r"\S", "\u{a0}", true),
            (r"a\b.*", "a\u{e9}", true),
            (r"\\w", "\\w", true),
            (r"\[\d]", "[1]", true),
            (r"[[&&a]+", "[&a", true),
        ] {
            let regex = Regex::new(&format!("^(?:{})$", as_re2(pattern))).unwrap();
            assert_eq!(regex.is_match(text), matches, "{pattern} {text:?} {regex}");
        }
    }

    #[test]
    fn repetitions_are_found_outside_of_classes_and_escapes() {
        for (pattern, nested, count) in [
            ("(a+)+", true, 0),
            ("((a*b)c)*", true, 0),
            ("(a{2,})*", true, 2),
            ("(a+)b+", false, 0),
            ("(ab)*", false, 0),
            ("(a+){2,5}", false, 5),
            (r"(a\+)+", false, 0),
            ("([a+*])+", false, 0),
            (r"([]\]+])+", false, 0),
            ("a{300}", false, 300),
            ("a{1,200}b{3}", false, 200),
            ("a{x}{", false, 0),
            ("^(.*?;)?(user=dev)(;.*)?", false, 0),
        ] {
            assert_eq!(Scan::of(pattern), Scan { nested, count }, "{pattern}");
        }
    }
}
