//! Any text as a SPIFFE ID: no panic, and what is read is the text itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_core::identity::SpiffeId;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        assert!(text.is_ascii() && !text.contains(['%', '?', '#', '@']));
    }
});
