//! Which version of each object is in force: the new one if it is good, else the last good one.
//!
//! A file with an unreadable document keeps every object last read from it that its readable documents lack; only a
//! file that reads whole, or is gone, deletes. References are judged over the whole set: the edit that makes one
//! dangle is refused.
//!
//! An object that is in force and did read well *is* its last good version, and its location says which file it came
//! from; what else is remembered only saves reading a file again whose text has not changed.

mod claims;
mod delegates;
mod gateways;
mod readings;
mod references;
mod saved;
mod sidecars;

pub use saved::LastGood;

use super::{
    diagnostic::Diagnostic,
    load::Options,
    resource::{Resource, ResourceKey, Spec},
};
use claims::Claims;
use readings::Readings;
use std::{collections::BTreeMap, sync::Arc};

/// A file as it stands on disk now.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name, as it will appear in diagnostics.
    pub name: String,
    /// Its content, or why it could not be read (which keeps what it held).
    pub text: Result<String, String>,
}

/// The objects in force, and what is wrong with the files as they stand.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The objects in force, sorted by key.
    pub resources: Vec<Arc<Resource>>,
    /// Every finding about the files as they stand; those about refused objects say what was kept.
    pub diagnostics: Vec<Diagnostic>,
    readings: Readings,
}

/// Objects by key.
type Objects = BTreeMap<ResourceKey, Arc<Resource>>;

impl Accepted {
    /// Returns what is in force once `files` (all of them, not only the changed ones) replace what `self` was read from.
    ///
    /// Where two documents define one object, the first counts, in the order of `files`.
    ///
    /// ```
    /// # use mesh_core::config::{Accepted, Options, SourceFile};
    /// let file = |text: &str| [SourceFile { name: "mesh.yaml".into(), text: Ok(text.into()) }];
    /// let good = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: a}}";
    ///
    /// let first = Accepted::default().update(&file(good), &Options::default());
    /// let second = first.update(&file("{broken"), &Options::default());
    /// assert_eq!(first.resources, second.resources);
    /// println!("{}", second.diagnostics[0]); // mesh.yaml:1:8: error[MESH0001]: not readable as YAML ...
    /// ```
    #[must_use]
    pub fn update(&self, files: &[SourceFile], options: &Options) -> Self {
        let (closed, before) = self.by_key();
        let mut claims = Claims::new(&before, &closed);
        let mut readings = self.readings.clone();
        for (file, reading) in readings.read(files, options) {
            claims.on_file(&file, &reading);
        }
        let (mut objects, mut diagnostics) = claims.settle();
        references::refuse_dangling(&mut objects, &before, &options.domain, &mut diagnostics);
        gateways::judge(&objects, &options.domain, &mut diagnostics);
        sidecars::judge(&objects, &mut diagnostics);
        delegates::note_unused(&objects, &mut diagnostics);
        let unchanged = |new: Arc<Resource>| match before.get(&new.key) {
            // The same Arc tells whoever compares that nothing changed.
            Some(old) if Arc::ptr_eq(old, &new) || **old == *new => Arc::clone(old),
            _ => new,
        };
        Self { resources: objects.into_values().map(unchanged).collect(), diagnostics, readings }
    }

    /// Returns the objects that fail closed, and those that are their last good versions.
    fn by_key(&self) -> (Objects, Objects) {
        let objects = self.resources.iter().map(|resource| (resource.key.clone(), Arc::clone(resource)));
        objects.partition(|(_, resource)| matches!(resource.spec, Spec::Malformed { .. }))
    }
}
