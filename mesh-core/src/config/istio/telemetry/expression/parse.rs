//! From text to expression: words first, then one function per level of binding.

use super::{Attribute, Expression, Literal, Operand};
use std::{cmp::Ordering, iter::Peekable, vec::IntoIter};

/// The words of an expression that are still to be read.
pub(super) struct Parser {
    words: Peekable<IntoIter<Word>>,
    depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// A name with its dots, or a number.
    Name(String),
    Text(String),
    Sign(String),
}

impl Parser {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        Ok(Self { words: words(text)?.into_iter().peekable(), depth: 0 })
    }

    pub(super) fn whole(mut self) -> Result<Expression, String> {
        let expression = self.either()?;
        self.end().map(|()| expression)
    }

    pub(super) fn operand_alone(mut self) -> Result<Operand, String> {
        let operand = self.operand()?;
        self.end().map(|()| operand)
    }

    fn end(&mut self) -> Result<(), String> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(unexpected(Some(&word), "nothing more")),
        }
    }

    fn either(&mut self) -> Result<Expression, String> {
        let mut expression = self.both()?;
        while self.take("||") {
            expression = Expression::Or(Box::new(expression), Box::new(self.both()?));
        }
        Ok(expression)
    }

    fn both(&mut self) -> Result<Expression, String> {
        let mut expression = self.unary()?;
        while self.take("&&") {
            expression = Expression::And(Box::new(expression), Box::new(self.unary()?));
        }
        Ok(expression)
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.deeper(Self::unary)?)));
        }
        if self.take("(") {
            let expression = self.deeper(Self::either)?;
            return self.expect(")").map(|()| expression);
        }
        if self.words.next_if(|word| *word == Word::Name("has".to_owned())).is_some() {
            return self.has();
        }
        self.comparison()
    }

    /// Recursion is bounded by what a person can read.
    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Expression, String>,
    ) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn has(&mut self) -> Result<Expression, String> {
        self.expect("(")?;
        let Operand::Attribute(attribute) = self.operand()? else {
            return Err("`has` takes an attribute".to_owned());
        };
        self.expect(")").map(|()| Expression::Has(attribute))
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.operand()?;
        let sign = self.words.next_if(|word| orderings(word).is_some());
        match sign.as_ref().and_then(orderings) {
            Some(orderings) => Ok(Expression::Compare(left, orderings, self.operand()?)),
            None => Ok(Expression::Is(left)),
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        let negative = self.take("-");
        let word = self.words.next();
        let literal = match &word {
            Some(Word::Text(text)) if !negative => Some(Literal::Text(text.clone())),
            Some(Word::Name(name)) => match name.as_str() {
                "true" if !negative => Some(Literal::Flag(true)),
                "false" if !negative => Some(Literal::Flag(false)),
                name => name
                    .parse::<i64>()
                    .ok()
                    .map(|number| Literal::Number(if negative { number.saturating_neg() } else { number })),
            },
            _ => None,
        };
        match (literal, word) {
            (Some(literal), _) => Ok(Operand::Literal(literal)),
            (None, Some(Word::Name(name))) if !negative => self.attribute(&name).map(Operand::Attribute),
            (None, word) => Err(unexpected(word.as_ref(), "a value")),
        }
    }

    fn attribute(&mut self, name: &str) -> Result<Attribute, String> {
        if let Some((_, attribute)) = ATTRIBUTES.iter().find(|(known, _)| *known == name) {
            return Ok(attribute.clone());
        }
        let header = match name {
            "request.headers" => Attribute::RequestHeader,
            "response.headers" => Attribute::ResponseHeader,
            _ => return Err(format!("`{name}` is not evaluated")),
        };
        if !self.take("[") {
            return Err(format!("`{name}` is not evaluated without the name of a header"));
        }
        match self.words.next() {
            Some(Word::Text(name)) => self.expect("]").map(|()| header(name.to_ascii_lowercase())),
            word => Err(unexpected(word.as_ref(), "the name of a header")),
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        self.words.next_if(|word| matches!(word, Word::Sign(known) if known == sign)).is_some()
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(unexpected(self.words.peek(), &format!("`{sign}`"))) }
    }
}

fn unexpected(word: Option<&Word>, expected: &str) -> String {
    let found = match word {
        None => "the end".to_owned(),
        Some(Word::Name(text) | Word::Sign(text)) => format!("`{text}`"),
        Some(Word::Text(text)) => format!("'{text}'"),
    };
    format!("expected {expected}, found {found}")
}

fn orderings(word: &Word) -> Option<&'static [Ordering]> {
    let Word::Sign(sign) = word else { return None };
    COMPARISONS.iter().find(|(known, _)| known == sign).map(|(_, orderings)| *orderings)
}

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, length) = match first {
            '\'' | '"' => quoted(rest, first)?,
            c if is_name(c) => {
                let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                (Word::Name(rest[..length].to_owned()), length)
            }
            c => {
                let double = rest.get(..2).filter(|two| DOUBLE.contains(two));
                let sign = double.map_or_else(|| c.to_string(), str::to_owned);
                let length = sign.len();
                (Word::Sign(sign), length)
            }
        };
        if words.len() == WORDS_MAX {
            return Err(format!("it is longer than {WORDS_MAX} words"));
        }
        words.push(word);
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.')
}

/// Reads a text in quotes; a backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Result<(Word, usize), String> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c if c == quote => return Ok((Word::Text(value), at + 1)),
            c => value.push(c),
        }
    }
    Err(format!("the text that begins with {quote} has no end"))
}

const COMPARISONS: [(&str, &[Ordering]); 6] = [
    ("==", &[Ordering::Equal]),
    ("!=", &[Ordering::Less, Ordering::Greater]),
    ("<", &[Ordering::Less]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">", &[Ordering::Greater]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
];

const DOUBLE: [&str; 6] = ["==", "!=", "<=", ">=", "&&", "||"];

const ATTRIBUTES: [(&str, Attribute); 11] = [
    ("response.code", Attribute::ResponseCode),
    ("response.grpc_status", Attribute::ResponseGrpcStatus),
    ("response.flags", Attribute::ResponseFlags),
    ("request.method", Attribute::RequestMethod),
    ("request.host", Attribute::RequestHost),
    ("request.path", Attribute::RequestPath),
    ("request.url_path", Attribute::RequestUrlPath),
    ("request.scheme", Attribute::RequestScheme),
    ("request.protocol", Attribute::RequestProtocol),
    ("connection.mtls", Attribute::ConnectionMtls),
    ("source.address", Attribute::SourceAddress),
];

/// Deeper than anybody reads, and far from where the stack ends.
const DEPTH_MAX: usize = 32;

/// Likewise: the words of a chain of `||` nest as well.
const WORDS_MAX: usize = 500;
