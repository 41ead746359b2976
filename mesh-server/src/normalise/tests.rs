use super::*;
use http::Request;

fn walk(step: Normalise, request: http::request::Builder) -> Result<Parts, Reply> {
    let mut head = request.body(()).unwrap().into_parts().0;
    step.on_request(&mut head).map(|()| head)
}

fn path(step: Normalise, path: &str) -> Result<String, Reply> {
    walk(step, Request::get(path).header("host", "a")).map(|head| head.uri.to_string())
}

#[test]
fn a_path_has_one_spelling() {
    let table = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a?x=/../%2f", "/a?x=/../%2f"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/../b?q", "/b?q"),
        ("/a/b/../../c", "/c"),
        ("/../../c", "/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%61dmin", "/admin"),
        ("/%7Ea", "/~a"),
        ("/a%20b", "/a%20b"),
        ("/a%25%32%66b", "/a%252fb"),
        ("/a%252fb", "/a%252fb"),
        ("/a%zz", "/a%zz"),
        ("/a%", "/a%"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("//a", "//a"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/a;x/..a;/.b;", "/a;x/..a;/.b;"),
        ("/.hidden/...", "/.hidden/..."),
        ("*", "*"),
    ];
    for (written, read) in table {
        assert_eq!(path(Normalise::default(), written).as_deref(), Ok(read), "{written}");
    }
}

#[test]
fn what_two_parsers_read_differently_is_refused() {
    for written in [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/a%00",
        "/%2e%2e%2fadmin",
        "/..;/admin",
        "/a/%2e.;x/b",
        "/a\\.;",
    ] {
        assert_eq!(path(Normalise::default(), written), Err(Reply::BadPath), "{written}");
        let kept = Normalise::default().keep_escaped_slashes();
        assert!(path(kept, written).is_ok(), "{written}");
    }
}

#[test]
fn an_escape_that_spells_another_escape_is_refused() {
    for written in [
        "/%%32fadmin",
        "/%2%66admin",
        "/pub/%%32e%%32e/admin",
        "/%%35cadmin",
        "/%%30%30",
        "/%%361dmin",
        "/%%32%%32f",
    ] {
        assert_eq!(path(Normalise::default(), written), Err(Reply::BadPath), "{written}");
    }
    for written in ["/pub/%%32e%%32e/admin", "/%%361dmin"] {
        let kept = Normalise::default().keep_escaped_slashes();
        assert_eq!(path(kept, written), Err(Reply::BadPath), "{written}");
    }
}

#[test]
fn slashes_merge_only_on_request() {
    for (written, read) in
        [("//a", "/a"), ("/a///b", "/a/b"), ("/a//", "/a/"), ("//", "/"), ("/a//../b", "/b")]
    {
        assert_eq!(path(Normalise::default().merge_slashes(), written).as_deref(), Ok(read), "{written}");
    }
}

/// Spelling it twice changes nothing: else a handler that normalises again would see another path.
#[test]
fn a_spelling_is_final() {
    let alphabet = [
        "/", ".", "..", "%2e", "%61", "%25", "2e", "\\", "a", ";", "%", "%2", "%32", "%65", "%66", "f", "5c",
    ];
    let seed = fastrand::u64(..);
    let mut dice = fastrand::Rng::with_seed(seed);
    for step in [Normalise::default(), Normalise::default().merge_slashes()] {
        for _ in 0..5_000 {
            let written: String = std::iter::once("/")
                .chain((0..dice.usize(1..9)).map(|_| *dice.choice(&alphabet).unwrap()))
                .collect();
            let Ok(once) = step.path(&written) else { continue };
            assert_eq!(step.path(&once).as_deref(), Ok(&*once), "seed {seed}: {written}");
            assert!(
                !once.split('/').any(|segment| segment == ".." || segment == "."),
                "seed {seed}: {written}"
            );
        }
    }
}

#[test]
fn a_host_has_one_spelling() {
    for (written, read) in [
        ("reviews", "reviews"),
        ("Reviews.Shop", "reviews.shop"),
        ("reviews.", "reviews"),
        ("REVIEWS.:8080", "reviews:8080"),
        ("[::1]:80", "[::1]:80"),
        ("[FE80::A]", "[fe80::a]"),
        ("10.0.0.1:80", "10.0.0.1:80"),
    ] {
        let head = walk(Normalise::default(), Request::get("/").header("host", written)).unwrap();
        assert_eq!(head.headers[header::HOST], read, "{written}");
        let head = walk(Normalise::default(), Request::get(format!("http://{written}/"))).unwrap();
        assert_eq!(head.uri.authority().unwrap().as_str(), read, "{written}");
    }
}

#[test]
fn no_host_two_hosts_and_a_contradiction_are_refused() {
    let refused = [
        Request::get("/"),
        Request::get("/").header("host", ""),
        Request::get("/").header("host", "."),
        Request::get("/").header("host", "a").header("host", "a"),
        Request::get("/").header("host", "a").header("host", "b"),
        Request::get("/").header("host", "a b"),
        Request::get("/").header("host", "a/b"),
        Request::get("/").header("host", "u@a"),
        Request::get("/").header("host", "a:b"),
        Request::get("/").header("host", "a:99999"),
        Request::get("http://a/").header("host", "b"),
        Request::get("http://a:80/").header("host", "a:81"),
        Request::get("http://u@a/"),
    ];
    for request in refused {
        let shown = format!("{request:?}");
        assert_eq!(walk(Normalise::default(), request).err(), Some(Reply::BadHost), "{shown}");
    }
    assert!(walk(Normalise::default(), Request::get("http://A./").header("host", "a")).is_ok());
    assert!(walk(Normalise::default(), Request::get("/").version(Version::HTTP_10)).is_ok());
}

#[test]
fn policy_sees_the_host_with_the_port_that_the_request_names() {
    for (written, read) in [("A.:80", "a:80"), ("[::1]:80", "[::1]:80"), ("a.", "a")] {
        let head = walk(Normalise::default(), Request::get("/").header("host", written)).unwrap();
        assert_eq!(host(&head), read);
    }
}

#[test]
fn only_slashes_that_stand_beside_each_other_can_be_merged() {
    let mut paths = vec![String::new()];
    for _ in 0..6 {
        let longer: Vec<_> = paths
            .iter()
            .flat_map(|path| ["/", ".", "\\", "a", "%2e", "%2f"].map(|piece| path.clone() + piece))
            .collect();
        for path in longer.iter().filter(|path| path.starts_with('/') && !has_adjacent_slashes(path)) {
            for own in [Normalise::default(), Normalise::default().keep_escaped_slashes()] {
                assert_eq!(own.path(path), own.merge_slashes().path(path), "{path}");
            }
        }
        paths = longer;
    }
}

/// Also run without bound: fuzz/fuzz_targets/path.rs.
mod any_request {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Policy and handler see one spelling: to spell it again changes nothing, and no decoder finds a segment in it
        /// that was not judged.
        #[test]
        fn a_spelling_is_spelled_once(target in target(), host in "[a-cA-C.:0-9\\[\\]@]{0,8}", merges in any::<bool>()) {
            let step = if merges { Normalise::default().merge_slashes() } else { Normalise::default() };
            let Ok(request) = Request::get(target.as_str()).header("host", host.as_str()).body(()) else { return Ok(()) };
            let mut head = request.into_parts().0;
            if step.on_request(&mut head).is_err() {
                return Ok(());
            }
            let (uri, host) = (head.uri.clone(), super::super::host(&head).to_owned());
            step.on_request(&mut head).unwrap();
            prop_assert_eq!((&head.uri, super::super::host(&head)), (&uri, &*host));
            prop_assert!(!host.is_empty() && !host.ends_with('.') && !host.contains(|c: char| c.is_ascii_uppercase()));
            let path = uri.path().to_ascii_lowercase();
            prop_assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{}", path);
            prop_assert!(!["\\", "%2f", "%5c", "%00", "%2e"].iter().any(|bad| path.contains(bad)), "{}", path);
            prop_assert!(!(merges && path.contains("//")), "{}", path);
        }
    }

    /// Paths of what is read in more than one way.
    fn target() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", "\\", "%", "%%", "%25", "%32", "66", "%00",
            "a", "A", ";", "#", "?", "&", "=", "%61", "%c0%af", "~", "\"", "{", "*",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }
}
