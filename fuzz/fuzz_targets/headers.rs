//! Any names of headers: no panic, and none of the mesh's own stays that a stranger sent.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mesh_server::{Step as _, StripSpoofable};

fuzz_target!(|headers: Vec<(&str, &[u8])>| -> Corpus {
    let mut request = http::Request::get("/");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let Ok(request) = request.body(()) else { return Corpus::Reject };
    let mut head = request.into_parts().0;
    assert!(StripSpoofable.on_request(&mut head).is_ok());
    let is_ours = |name: &str| {
        name == "x-forwarded-client-cert" || name.starts_with("x-envoy-") || name.starts_with("x-mesh-")
    };
    assert!(!head.headers.keys().any(|name| is_ours(name.as_str())));
    Corpus::Keep
});
