//! Why a document is not readable, and what to write instead.

use super::Key;
use crate::config::{decode::shortened, diagnostic::Code, resource::Mark};
use granit_parser::{ErrorKind, ScanError};

/// Why a document is not readable.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) at: Mark,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Fault {
    pub(super) fn unreadable(at: Mark, message: impl Into<String>) -> Self {
        Self { code: Code::UNREADABLE, at, message: message.into(), help: None }
    }

    pub(super) fn too_large(at: Mark, message: impl Into<String>) -> Self {
        Self { code: Code::TOO_LARGE, ..Self::unreadable(at, message) }
    }

    pub(super) fn too_deep(at: Mark, depth_max: usize) -> Self {
        Self::too_large(at, format!("collections are nested more than {depth_max} levels deep"))
    }

    pub(super) fn help(self, help: &str) -> Self {
        Self { help: Some(help.to_owned()), ..self }
    }

    pub(super) fn duplicate(key: &Key, earlier: Mark) -> Self {
        let (name, lines) = (shortened(&key.text), (earlier.line, key.at.line));
        let message = format!("key `{name}` is written twice, on lines {} and {}", lines.0, lines.1);
        Self::unreadable(key.at, message).help("remove one of them")
    }

    pub(super) fn collection_as_key(at: Mark) -> Self {
        Self::unreadable(at, "a list or mapping stands where a key is expected").help(
            "quote a value that begins with `{` or `[`; `{{ ... }}` is a template that was not rendered",
        )
    }

    pub(super) fn of_syntax(error: &ScanError, at: Mark, depth_max: usize) -> Self {
        if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
            return Self::too_deep(at, depth_max);
        }
        let help = help_for(error.kind()).map(str::to_owned);
        Self { help, ..Self::unreadable(at, format!("not readable as YAML: {}", error.info())) }
    }
}

fn help_for(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "indent with spaces: YAML allows no tabs there",
        ErrorKind::UnexpectedEof
        | ErrorKind::UnexpectedEofBlockMapping
        | ErrorKind::UnexpectedEofBlockSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofImplicitFlowMapping => {
            "the document ends in the middle: is the file complete?"
        }
        ErrorKind::UnclosedFlowCollection { .. } => "close the bracket, or is the file incomplete?",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            "close the quote, or is the file incomplete?"
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "write `key: value`, with a space after the colon"
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::MappingValueNotAllowed => {
            "check the indentation of this line and the one above; quote a text that holds `: `"
        }
        ErrorKind::UnexpectedCharacter { .. } => "quote a text that begins with this character",
        ErrorKind::UnknownAnchor => "a text that begins with `*` must be quoted, as in `\"*.example.com\"`",
        _ => return None,
    })
}
