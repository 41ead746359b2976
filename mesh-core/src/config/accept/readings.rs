//! What each file was read as, so that a file whose text has not changed is not read again.

use super::SourceFile;
use crate::config::{
    diagnostic::{Code, Diagnostic, Location},
    load::{Loaded, Options, load},
    resource::{Mark, Resource, ResourceKey},
};
use std::{collections::HashMap, sync::Arc};

/// The files as they were read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Readings {
    options: Option<Options>,
    by_file: HashMap<String, Arc<Reading>>,
}

/// One file as it was read; its objects stay the same allocations as long as its text does.
#[derive(Debug)]
pub(super) struct Reading {
    text: Result<String, String>,
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) broken: Vec<ResourceKey>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) complete: bool,
}

impl Readings {
    /// Returns what the present `files` say, in their order, and remembers it in place of what was read before.
    pub(super) fn read(&mut self, files: &[SourceFile], options: &Options) -> Vec<(Arc<str>, Arc<Reading>)> {
        let same_options = self.options.as_ref() == Some(options);
        let mut before = std::mem::take(&mut self.by_file);
        self.options = Some(options.clone());
        let mut read = |file: &SourceFile| {
            let known = before.remove(&file.name).filter(|known| same_options && known.text == file.text);
            let reading = known.unwrap_or_else(|| Arc::new(Reading::of(file, options)));
            self.by_file.insert(file.name.clone(), Arc::clone(&reading));
            (file.name.as_str().into(), reading)
        };
        files.iter().map(&mut read).collect()
    }
}

impl Reading {
    fn of(file: &SourceFile, options: &Options) -> Self {
        let Loaded { resources, broken, diagnostics, complete } = match &file.text {
            Ok(text) => load(&file.name, text, options),
            Err(error) => unreadable(&file.name, error),
        };
        let resources = resources.into_iter().map(Arc::new).collect();
        Self { text: file.text.clone(), resources, broken, diagnostics, complete }
    }
}

fn unreadable(file: &str, error: &str) -> Loaded {
    let place = Location::new(&file.into(), Mark { line: 1, column: 1 });
    let finding = Diagnostic::error(Code::UNREADABLE, format!("the file cannot be read: {error}")).at(place);
    Loaded { diagnostics: vec![finding], ..Loaded::default() }
}
