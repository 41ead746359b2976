//! A document inside of a document: YAML that stands as a text in a field, as ConfigMaps hold it.

use super::{Decoder, borrowed};
use crate::config::{
    diagnostic::Diagnostic,
    resource::Mark,
    tree::{self, Fault, Node, Value},
};

impl<'n> Decoder<'n> {
    /// Reads the document that `node`, the value of the field whose name stands at `field`, holds as a text.
    ///
    /// What is found in it is placed in the file around it.
    pub(crate) fn embedded<T>(
        &mut self,
        node: &'n Node,
        field: Mark,
        read: impl for<'m> FnOnce(&mut Decoder<'m>, &'m Node) -> Option<T>,
    ) -> Option<T> {
        if let Some(blank) = self.blank() {
            return self.describe_document(|decoder| read(decoder, blank.node()));
        }
        let text = borrowed(self, node)?;
        let place = Place::of(node.at, field, text);
        let mut documents = tree::parse(text).into_iter();
        let document = documents.next().unwrap_or_default();
        if documents.next().is_some() {
            self.refuse(node.at, "expected one document, found several");
        }
        if !document.faults.is_empty() {
            document.faults.iter().for_each(|fault| self.on_fault(fault, &place));
            return None;
        }
        let mut root = document.root.unwrap_or_else(|| Node::null(Mark { line: 1, column: 1 }));
        place.shift(&mut root);
        let mut inner = Decoder::new(self.file, self.lenient).with_program_bytes(self.program_bytes);
        let value = read(&mut inner, &root);
        self.program_bytes = inner.program_bytes;
        let (findings, good) = inner.finish();
        self.failed |= !good;
        findings.into_iter().for_each(|finding| self.adopt(finding));
        value
    }

    fn on_fault(&mut self, fault: &Fault, place: &Place) {
        let mut finding = Diagnostic::error(fault.code, &fault.message);
        finding.help.clone_from(&fault.help);
        self.find(place.outside(fault.at), finding);
    }

    /// Adds a finding of the inner document, which knows its place and its path there.
    fn adopt(&mut self, finding: Diagnostic) {
        if self.is_full() {
            let at = finding.location.map(|place| Mark { line: place.line, column: place.column });
            return self.suppress(at.unwrap_or_default());
        }
        let mut path = self.path();
        if !finding.path.is_empty() {
            path = if finding.path.starts_with('[') { path } else { path + "." };
            path.push_str(&finding.path);
        }
        self.findings.push(finding.path(path));
    }
}

/// Where the text of an inner document stands.
struct Place {
    /// The first character that is not a blank line of a block, or the quote.
    start: Mark,
    /// Whether the text stands line by line as it is, indented: only then is a place in it one in the file too.
    is_block: bool,
    /// How many lines of the text stand before `start`.
    blank: u32,
}

impl Place {
    /// A block scalar (`|`) begins below the name of its field; what is quoted or plain begins beside it.
    fn of(start: Mark, field: Mark, text: &str) -> Self {
        let blank = text.bytes().take_while(|&c| c == b'\n').count();
        let blank = u32::try_from(blank).unwrap_or_default();
        Self { start, is_block: start.line > field.line, blank }
    }

    fn outside(&self, inside: Mark) -> Mark {
        if !self.is_block {
            return self.start;
        }
        Mark {
            line: self.start.line.saturating_add(inside.line).saturating_sub(1 + self.blank),
            column: self.start.column.saturating_add(inside.column).saturating_sub(1),
        }
    }

    fn shift(&self, node: &mut Node) {
        node.at = self.outside(node.at);
        match &mut node.value {
            Value::Scalar { .. } => {}
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.shift(item)),
            Value::Mapping(entries) => {
                for (key, node) in entries {
                    key.at = self.outside(key.at);
                    self.shift(node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::decode::flag;
    use std::sync::Arc;

    #[test]
    fn what_is_found_in_an_inner_document_is_placed_in_the_file_around_it() {
        for (text, at, path) in [
            ("m: |-\n    # a comment\n    a: 1\n", (3, 8), "m.a"),
            ("m: |\n\n\n  a: 1\n", (4, 6), "m.a"),
            ("m: >-\n  a: 1\n", (2, 6), "m.a"),
            ("m: \"x: true\\na: 1\"\n", (1, 4), "m.a"),
            ("m: 'a: 1'\n", (1, 4), "m.a"),
            ("m: |\n  b: true\n", (2, 3), "m.b"),
            ("m: |\n  a: true\n  a: true\n", (3, 3), "m"),
            ("m: |\n  a: [\n", (2, 6), "m"),
            ("m: |\n  a: true\n  ---\n  a: true\n", (2, 3), "m"),
        ] {
            let (file, root) = (Arc::from("f"), tree::parse(text).remove(0).root.unwrap());
            let mut decoder = Decoder::new(&file, false);
            let mut fields = decoder.fields(&root).unwrap();
            let field = fields.place_of("m");
            fields.get("m", |decoder, node| decoder.embedded(node, field, read));
            let (findings, good) = decoder.finish();
            let location = findings[0].location.as_ref().unwrap();
            assert_eq!(((location.line, location.column), findings[0].path.as_str()), (at, path), "{text}");
            assert!(!good, "{text}");
        }
    }

    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<()> {
        let mut fields = decoder.fields(node)?;
        fields.get("a", flag);
        fields.take("x");
        fields.finish();
        Some(())
    }
}
