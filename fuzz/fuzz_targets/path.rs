//! Any bytes as a target and a host: no panic, and one spelling.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mesh_server::{Normalise, Step as _};

fuzz_target!(|input: (&str, &str)| -> Corpus {
    let (target, host) = input;
    let Ok(request) = http::Request::get(target).header("host", host).body(()) else { return Corpus::Reject };
    let mut head = request.into_parts().0;
    for step in [Normalise::default(), Normalise::default().merge_slashes()] {
        if step.on_request(&mut head).is_err() {
            return Corpus::Keep;
        }
        let (uri, host) = (head.uri.clone(), head.headers.get("host").cloned());
        assert!(step.on_request(&mut head).is_ok());
        assert_eq!((&head.uri, head.headers.get("host")), (&uri, host.as_ref()));
        assert!(!uri.path().split('/').any(|segment| matches!(segment, "." | "..")));
    }
    Corpus::Keep
});
