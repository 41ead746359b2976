//! A part of the Common Expression Language, enough for the filters of access logs that people write.
//!
//! Attributes, numbers, texts, `true` and `false`; `==` `!=` `<` `<=` `>` `>=`; `&&` `||` `!`; parentheses; and `has`.
//! No arithmetic, no functions, no lists: what is not here is not evaluated, and said so.
// spec: google cel-spec doc/langdef.md; envoy intro/arch_overview/advanced/attributes

mod parse;

use std::cmp::Ordering;

/// A condition on a request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `a && b`.
    And(Box<Self>, Box<Self>),
    /// `a || b`.
    Or(Box<Self>, Box<Self>),
    /// `!a`.
    Not(Box<Self>),
    /// `has(a)`.
    Has(Attribute),
    /// A comparison: the orderings for which it holds.
    Compare(Operand, &'static [Ordering], Operand),
    /// A value that is true or false by itself.
    Is(Operand),
}

/// A value in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// One that is written.
    Literal(Literal),
    /// One of the request's.
    Attribute(Attribute),
}

/// A value that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text.
    Text(String),
}

/// What an expression may ask of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// `response.code`.
    ResponseCode,
    /// `response.grpc_status`.
    ResponseGrpcStatus,
    /// `response.flags`.
    ResponseFlags,
    /// `request.method`.
    RequestMethod,
    /// `request.host`.
    RequestHost,
    /// `request.path`: with the query.
    RequestPath,
    /// `request.url_path`: without it.
    RequestUrlPath,
    /// `request.scheme`.
    RequestScheme,
    /// `request.protocol`.
    RequestProtocol,
    /// `request.headers['name']`, in lower case.
    RequestHeader(String),
    /// `response.headers['name']`, in lower case.
    ResponseHeader(String),
    /// `connection.mtls`.
    ConnectionMtls,
    /// `source.address`.
    SourceAddress,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// Returns what is not understood, and is not evaluated for that reason.
    ///
    /// ```
    /// # use mesh_core::config::istio::{Attribute, Expression, Literal};
    /// let filter = Expression::parse("response.code >= 400 || connection.mtls == false").unwrap();
    /// let plain_and_fine = |attribute: &Attribute| match attribute {
    ///     Attribute::ResponseCode => Some(Literal::Number(200)),
    ///     Attribute::ConnectionMtls => Some(Literal::Flag(false)),
    ///     _ => None,
    /// };
    /// assert!(filter.holds(plain_and_fine));
    /// assert!(Expression::parse("size(request.headers) > 3").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::Parser::new(text)?.whole()
    }

    /// Returns whether it holds for the request of which `of` knows the attributes. What cannot be told does not hold.
    // spec: envoy extensions/access_loggers/filters/cel: a filter that fails logs nothing
    pub fn holds(&self, of: impl Fn(&Attribute) -> Option<Literal>) -> bool {
        self.truth(&of).unwrap_or(false)
    }

    /// `None` is CEL's error: an attribute is absent, or values of two kinds are compared. The other side of an `&&` or
    /// `||` may decide all the same.
    // spec: google cel-spec doc/langdef.md, logical operators
    fn truth(&self, of: &impl Fn(&Attribute) -> Option<Literal>) -> Option<bool> {
        match self {
            Self::And(a, b) => match (a.truth(of), b.truth(of)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (a, b) => Some(a? && b?),
            },
            Self::Or(a, b) => match (a.truth(of), b.truth(of)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (a, b) => Some(a? || b?),
            },
            Self::Not(a) => a.truth(of).map(|truth| !truth),
            Self::Has(attribute) => Some(of(attribute).is_some()),
            Self::Compare(a, orderings, b) => {
                Some(orderings.contains(&compare(&a.value(of)?, &b.value(of)?)?))
            }
            Self::Is(operand) => match operand.value(of)? {
                Literal::Flag(flag) => Some(flag),
                Literal::Number(_) | Literal::Text(_) => None,
            },
        }
    }
}

impl Operand {
    /// Reads a value that stands alone.
    ///
    /// # Errors
    ///
    /// Returns what is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::Parser::new(text)?.operand_alone()
    }

    /// Returns the value for the request of which `of` knows the attributes.
    pub fn value(&self, of: &impl Fn(&Attribute) -> Option<Literal>) -> Option<Literal> {
        match self {
            Self::Literal(literal) => Some(literal.clone()),
            Self::Attribute(attribute) => of(attribute),
        }
    }
}

fn compare(a: &Literal, b: &Literal) -> Option<Ordering> {
    match (a, b) {
        (Literal::Flag(a), Literal::Flag(b)) => Some(a.cmp(b)),
        (Literal::Number(a), Literal::Number(b)) => Some(a.cmp(b)),
        (Literal::Text(a), Literal::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row per expression: whether it holds for a POST to `/a?b`, answered with 503, over mutual TLS.
    #[test]
    #[rustfmt::skip] // A table: one row, one line.
    fn an_expression_holds_for_what_it_says() {
        for (text, holds) in [
            ("response.code >= 400", true),
            ("response.code >= 503 && response.code < 504", true),
            ("response.code == 503", true),
            ("response.code != 503", false),
            ("response.code <= 502", false),
            ("response.code > 503", false),
            ("400 <= response.code", true),
            ("request.method == 'POST'", true),
            ("request.method == \"GET\"", false),
            ("request.url_path == '/a' && request.path == '/a?b'", true),
            ("request.headers['X-User'] == 'jason'", true),
            ("request.headers[\"x-none\"] == 'jason'", false),
            ("request.headers['x-none'] != 'jason'", false),
            ("has(request.headers['x-user'])", true),
            ("has(request.headers['x-none'])", false),
            ("!has(request.headers['x-none'])", true),
            ("!has(response.grpc_status)", true),
            ("connection.mtls", true),
            ("!connection.mtls", false),
            ("connection.mtls == true", true),
            ("connection.mtls == false", false),
            ("true", true),
            ("false || true", true),
            ("true || false && false", true),
            ("(true || false) && false", false),
            ("!(true && false)", true),
            ("! ! true", true),
            // What cannot be told does not hold, unless the other side decides.
            ("response.grpc_status == 0", false),
            ("response.grpc_status == 0 || true", true),
            ("true || response.grpc_status == 0", true),
            ("!(response.grpc_status == 0)", false),
            ("response.grpc_status == 0 && false || true", true),
            ("response.code == '503'", false),
            ("response.code", false),
            ("request.method == 'it\\'s'", false),
            ("response.code == -1", false),
        ] {
            let of = |attribute: &Attribute| match attribute {
                Attribute::ResponseCode => Some(Literal::Number(503)),
                Attribute::RequestMethod => Some(Literal::Text("POST".to_owned())),
                Attribute::RequestPath => Some(Literal::Text("/a?b".to_owned())),
                Attribute::RequestUrlPath => Some(Literal::Text("/a".to_owned())),
                Attribute::RequestHeader(name) => (name == "x-user").then(|| Literal::Text("jason".to_owned())),
                Attribute::ConnectionMtls => Some(Literal::Flag(true)),
                _ => None,
            };
            assert_eq!(Expression::parse(text).unwrap().holds(of), holds, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("", "the end"),
            ("response.code >=", "the end"),
            ("response.code = 400", "`=`"),
            ("response.code & 400", "`&`"),
            ("response.codes == 400", "`response.codes`"),
            ("size(request.headers) > 1", "`size`"),
            ("request.headers", "`request.headers`"),
            ("request.headers.foo == 'a'", "`request.headers.foo`"),
            ("response.code == 'a", "no end"),
            ("(true", "`)`"),
            ("true)", "`)`"),
            ("true false", "`false`"),
            ("1 == 1 == 1", "`==`"),
            ("response.code + 1 > 2", "`+`"),
            ("99999999999999999999 > 2", "`99999999999999999999`"),
            ("has(1)", "an attribute"),
            ("true ? 1 : 2", "`?`"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = "(".repeat(100) + "true" + &")".repeat(100);
        assert!(Expression::parse(&deep).unwrap_err().contains("nested"));
        assert!(Expression::parse(&"!".repeat(100)).is_err());
        assert!(Expression::parse(&"true || ".repeat(100_000)).unwrap_err().contains("longer"));
    }

    #[test]
    fn a_value_alone_is_a_literal_or_an_attribute() {
        assert_eq!(Operand::parse("'a b'"), Ok(Operand::Literal(Literal::Text("a b".to_owned()))));
        assert_eq!(Operand::parse("request.host"), Ok(Operand::Attribute(Attribute::RequestHost)));
        assert!(Operand::parse("request.host + 'a'").is_err());
        assert!(Operand::parse("istio_canonical_revision").is_err());
    }
}
