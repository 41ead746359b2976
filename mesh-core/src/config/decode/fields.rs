//! The fields of one mapping.

use super::{Decoder, shortened};
use crate::config::{
    diagnostic::{Code, Diagnostic},
    resource::Mark,
    schema::{Field, Support},
    tree::{Key, Node, Value},
};
use std::collections::BTreeSet;

/// The fields of a mapping, read one by one by name.
#[derive(Debug)]
pub(crate) struct Fields<'d, 'n> {
    /// For checks that concern several fields.
    pub(crate) decoder: &'d mut Decoder<'n>,
    /// Where the mapping starts.
    pub(crate) at: Mark,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Decoder<'n> {
    /// Returns the fields of `node`; null has none.
    pub(crate) fn fields(&mut self, node: &'n Node) -> Option<Fields<'_, 'n>> {
        let entries: &'n [(Key, Node)] = match &node.value {
            Value::Mapping(entries) => entries,
            _ if self.blank().is_some() => {
                self.describe_fields()?;
                &[]
            }
            _ if node.is_null() => &[],
            _ => {
                self.wrong_type(node, "a mapping");
                return None;
            }
        };
        Some(Fields { decoder: self, at: node.at, entries, known: Vec::new() })
    }
}

impl<'n> Fields<'_, 'n> {
    /// Returns the value of field `name`, which thereby is known, unless it is absent or null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.seek(name, || Field::new(name, Support::PassedOver))
    }

    /// Likewise, for a field that is described as `field`.
    fn seek(&mut self, name: &'static str, field: impl FnOnce() -> Field) -> Option<&'n Node> {
        self.known.push(name);
        if let Some(blank) = self.decoder.blank() {
            self.decoder.describe_field(field);
            return Some(blank.node());
        }
        let (_, node) = self.entries.iter().find(|(key, _)| is_called(&key.text, name))?;
        (!node.is_null()).then_some(node)
    }

    /// Reads field `name`, if it is there.
    pub(crate) fn get<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.seek(name, || Field::new(name, Support::Obeyed))?;
        self.decoder.within(name, |decoder| read(decoder, node))
    }

    /// Reads field `name` and refuses the object if it is absent.
    pub(crate) fn require<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Decoder<'n>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if let Some(node) = self.seek(name, || Field::new(name, Support::Obeyed).required()) {
            return self.decoder.within(name, |decoder| read(decoder, node));
        }
        let at = self.place_of(name);
        self.decoder.within(name, |decoder| decoder.refuse(at, format!("`{name}` is required")));
        None
    }

    /// Reads the items of list `name`; none if it is absent.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(&mut Decoder<'n>, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        self.get(name, |decoder, node| Some(decoder.each(node, read))).unwrap_or_default()
    }

    /// Returns whether field `name` was written and is not null. Does not make it known.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, node)| is_called(&key.text, name) && !node.is_null())
    }

    /// Returns how many items list `name` has as it is written, whether or not they read; `None` if it is no list.
    pub(crate) fn count(&self, name: &str) -> Option<usize> {
        let (_, node) = self.entries.iter().find(|(key, _)| is_called(&key.text, name))?;
        match &node.value {
            Value::Sequence(items) => Some(items.len()),
            _ => None,
        }
    }

    /// Returns the place of field `name`, or of the mapping if it is absent.
    pub(crate) fn place_of(&self, name: &str) -> Mark {
        self.entries.iter().find(|(key, _)| is_called(&key.text, name)).map_or(self.at, |(key, _)| key.at)
    }

    /// Adds a finding about field `name`.
    pub(crate) fn find(&mut self, name: &'static str, finding: Diagnostic) {
        let at = self.place_of(name);
        self.decoder.within(name, |decoder| decoder.find(at, finding));
    }

    /// Adds the finding that Istio's webhook would refuse field `name`.
    pub(crate) fn refuse(&mut self, name: &'static str, message: impl Into<String>) {
        self.find(name, Diagnostic::error(Code::SCHEMA, message));
    }

    /// Warns of field `name`, which is read, if it is there: Istio has deprecated it, and `instead` is what to write.
    pub(crate) fn deprecated(&mut self, name: &'static str, instead: &str) {
        self.decoder.describe_field(|| Field::new(name, Support::PassedOver).deprecated(instead));
        if self.has(name) {
            let finding = Diagnostic::warning(Code::DEPRECATED, format!("`{name}` is deprecated"));
            self.find(name, finding.help(format!("write `{instead}`")));
        }
    }

    /// Warns of each of the fields `names` that is there: it has no effect in this mesh, because of `why`.
    pub(crate) fn no_effect(&mut self, names: &[(&'static str, &str)]) {
        for &(name, why) in names {
            if self.seek(name, || Field::new(name, Support::NoEffect(why.to_owned()))).is_some() {
                let message = format!("`{name}` has no effect here: {why}");
                self.find(name, Diagnostic::warning(Code::NO_EFFECT, message));
            }
        }
    }

    /// Warns once of those of the fields `names` that are there: they are read, and nothing obeys them yet.
    pub(crate) fn not_obeyed(&mut self, names: &[&'static str]) {
        self.describe(names, Support::NoEffect, "nothing obeys it yet in this version");
        let written: Vec<&'static str> = names.iter().copied().filter(|name| self.has(name)).collect();
        if let Some(first) = written.first() {
            let have = if written.len() == 1 { "has" } else { "have" };
            let message = format!("{} {have} no effect yet in this version", written.join(", "));
            self.find(first, Diagnostic::warning(Code::NO_EFFECT, message));
        }
    }

    /// Says what becomes of the fields `names`, which are read to be checked, and why. Their reader warns of them, or
    /// refuses them, in its own words.
    pub(crate) fn describe(&mut self, names: &[&'static str], becomes: fn(String) -> Support, why: &str) {
        for name in names {
            self.decoder.describe_field(|| Field::new(name, becomes(why.to_owned())));
        }
    }

    /// Refuses each of the fields `names` that is there: to leave it out would be worse than to refuse the object.
    pub(crate) fn unsupported(&mut self, names: &[(&'static str, &str)]) {
        for &(name, why) in names {
            if self.seek(name, || Field::new(name, Support::Refused(why.to_owned()))).is_some() {
                let message =
                    format!("`{name}` is not supported by this version, and must not be left out: {why}");
                self.find(name, Diagnostic::error(Code::SCHEMA, message));
            }
        }
    }

    /// Refuses a mapping that says nothing, and every list in it that is empty: where each field is a condition, that
    /// would match everything.
    pub(crate) fn refuse_empty(&mut self) {
        if self.entries.iter().all(|(_, node)| node.is_null()) {
            let at = self.at;
            self.decoder.refuse(at, "at least one field must be set; leave it out to match everything");
        }
        for (key, node) in self.entries {
            if matches!(&node.value, Value::Sequence(items) if items.is_empty()) {
                let message = format!("`{}` must not be empty; leave it out to match everything", key.text);
                self.decoder.refuse(key.at, message);
            }
        }
    }

    /// Reports the fields that nobody asked for.
    pub(crate) fn finish(self) {
        self.decoder.describe_finished();
        for (index, (key, _)) in self.entries.iter().enumerate() {
            let finding = match self.known.iter().find(|name| is_called(&key.text, name)) {
                None => Some(self.unknown(key)),
                Some(name) => {
                    let earlier = self.entries[..index].iter().find(|(key, _)| is_called(&key.text, name));
                    earlier.map(|(first, _)| {
                        let message = format!("`{}` and `{}` are the same field", first.text, key.text);
                        Diagnostic::error(Code::SCHEMA, message).help("remove one of them")
                    })
                }
            };
            if let Some(finding) = finding {
                self.decoder.within(&key.text, |decoder| decoder.find(key.at, finding));
            }
        }
    }

    fn unknown(&self, key: &Key) -> Diagnostic {
        let near = self.decoder.meant(&key.text, self.known.iter().copied());
        let written = shortened(&key.text);
        let (message, help) = match near {
            Some(name) => {
                (format!("unknown field `{written}`, did you mean `{name}`?"), format!("write `{name}`"))
            }
            None => (format!("unknown field `{written}`"), format!("the fields here are {}", self.names())),
        };
        if self.decoder.lenient {
            Diagnostic::warning(Code::SCHEMA_WARNING, format!("{message} (it is left out)")).help(help)
        } else {
            Diagnostic::error(Code::SCHEMA, message).help(help)
        }
    }

    /// Returns the names of the known fields, in order. A reader may have asked for one twice.
    fn names(&self) -> String {
        let mut seen = BTreeSet::new();
        let names: Vec<_> = self.known.iter().copied().filter(|name| seen.insert(*name)).collect();
        names.join(", ")
    }
}

/// Returns whether `written` is field `name`, in camelCase or, as protobuf's JSON also takes it, in snake_case.
// spec: protobuf protojson, field names
pub(crate) fn is_called(written: &str, name: &str) -> bool {
    let mut after_underscore = false;
    let mut camel_case = written.chars().filter_map(|c| match c {
        '_' => {
            after_underscore = true;
            None
        }
        c if std::mem::take(&mut after_underscore) => Some(c.to_ascii_uppercase()),
        c => Some(c),
    });
    written == name || name.chars().all(|c| camel_case.next() == Some(c)) && camel_case.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_called_by_its_camel_case_and_its_snake_case_name_and_by_no_other() {
        for (written, name, is) in [
            ("perTryTimeout", "perTryTimeout", true),
            ("per_try_timeout", "perTryTimeout", true),
            ("pertrytimeout", "perTryTimeout", false),
            ("consecutive_5xx_errors", "consecutive5xxErrors", true),
            ("hos", "host", false),
            ("hosts", "host", false),
        ] {
            assert_eq!(is_called(written, name), is, "{written} {name}");
        }
    }
}
