//! The objects in force as data, so that a restart does not forget the last good versions.

use super::Accepted;
use crate::config::{
    diagnostic::Diagnostic,
    load::{Options, load_object},
    resource::{Mark, Spec},
    tree::Node,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The last good version of one object, as it is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastGood {
    /// The file it was read from.
    pub file: String,
    /// Where in that file, from 1.
    pub line: u32,
    /// Where in that line, from 1.
    pub column: u32,
    /// The object, with its namespace.
    pub document: serde_json::Value,
}

impl Accepted {
    /// Returns the last good version of every object in force; security objects that fail closed have none.
    pub fn last_good(&self) -> impl Iterator<Item = LastGood> + '_ {
        let good = self.resources.iter().filter(|resource| !matches!(resource.spec, Spec::Malformed { .. }));
        good.map(|resource| LastGood {
            file: resource.location.file.to_string(),
            line: resource.location.line,
            column: resource.location.column,
            document: resource.document.to_json(),
        })
    }

    /// Returns the state in which `saved` is in force, ready for the first [`Accepted::update`].
    ///
    /// Unknown fields are no errors here, whatever `options` say: what was in force before stays so until its file is
    /// read. What does not read any more is left out, with a finding.
    ///
    /// ```
    /// # use mesh_core::config::{Accepted, Options, SourceFile};
    /// # let good = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a}}";
    /// # let files = [SourceFile { name: "mesh.yaml".into(), text: Ok(good.into()) }];
    /// let accepted = Accepted::default().update(&files, &Options::default());
    /// let json = serde_json::to_string(&accepted.last_good().collect::<Vec<_>>())?;
    /// let restored = Accepted::restore(serde_json::from_str::<Vec<_>>(&json)?, &Options::default());
    /// assert_eq!(restored.resources[0].key, accepted.resources[0].key);
    /// assert_eq!(restored.resources[0].location, accepted.resources[0].location);
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    pub fn restore(saved: impl IntoIterator<Item = LastGood>, options: &Options) -> Self {
        let options = Options { lenient: true, ..options.clone() };
        let mut restored = Self::default();
        for LastGood { file, line, column, document } in saved {
            let node = Node::from_json(&document, Mark { line, column });
            let loaded = load_object(file.into(), node, &options);
            let good =
                loaded.resources.into_iter().filter(|read| !matches!(read.spec, Spec::Malformed { .. }));
            restored.resources.extend(good.map(Arc::new));
            let errors = loaded.diagnostics.into_iter().filter(Diagnostic::is_error);
            restored
                .diagnostics
                .extend(errors.map(|error| error.kept("nothing: the saved version does not read")));
        }
        restored.resources.sort_by(|a, b| a.key.cmp(&b.key));
        restored.resources.dedup_by(|a, b| a.key == b.key);
        restored
    }
}
