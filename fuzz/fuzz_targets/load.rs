//! Any bytes as a file: no panic, bounded findings, and what was read is read again from what is served.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mesh_core::config::{Accepted, Options, SourceFile, load};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(bytes) else { return Corpus::Reject };
    let options = Options::default();
    let loaded = load("fuzz.yaml", text, &options);
    assert!(loaded.diagnostics.len() <= 1001);
    for finding in &loaded.diagnostics {
        assert!(!finding.to_string().contains(char::is_control));
        let _ = finding.render(Some(text));
    }
    for resource in &loaded.resources {
        let served = load("served", &resource.document.to_json().to_string(), &options);
        assert_eq!(served.resources.len(), 1, "{:?}", served.diagnostics);
    }
    let file = SourceFile { name: "fuzz.yaml".into(), text: Ok(text.into()) };
    let accepted = Accepted::default().update(std::slice::from_ref(&file), &options);
    let again = accepted.update(&[file], &options);
    assert_eq!(again.resources, accepted.resources);
    Corpus::Keep
});
