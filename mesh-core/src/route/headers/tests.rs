use super::*;
use std::net::Ipv4Addr;

#[test]
fn operations_are_applied_as_remove_then_set_then_add() {
    let operations = HeaderOperations {
        set: vec![("a".into(), "new".into())],
        add: vec![("a".into(), "more".into()), ("p".into(), "100%%".into())],
        remove: vec!["a".into(), "gone".into()],
    };
    let headers = applied(&operations, &[("a", "old"), ("gone", "x")]);
    let values: Vec<_> = headers.get_all("a").iter().collect();
    assert_eq!(values, ["new", "more"]);
    assert_eq!(headers["p"], "100%");
    assert!(!headers.contains_key("gone"));
}

#[test]
fn what_cannot_be_compiled_is_named_and_left_out() {
    let operations = HeaderOperations {
        set: vec![
            ("bad name".into(), "x".into()),
            ("a".into(), "%START_TIME%".into()),
            ("b".into(), "ok".into()),
        ],
        add: vec![("c".into(), "line\nbreak".into()), ("d".into(), "%REQ(x)% \u{7f}".into())],
        remove: vec![String::new()],
    };
    let (ops, errors) = HeaderOps::compile(&operations);
    assert_eq!(errors.len(), 5, "{errors:?}");
    let mut headers = HeaderMap::new();
    ops.apply(&mut headers, CitedValues::default());
    assert_eq!(headers.len(), 1);
}

#[test]
fn setting_the_host_is_a_rewrite_of_the_authority() {
    let operations = HeaderOperations { set: vec![("Host".into(), "other".into())], ..Default::default() };
    assert_eq!(authority_of(&operations), Some("other"));
    assert!(HeaderOps::compile(&operations).0.is_empty());
}

#[test]
fn a_format_command_cites_the_request() {
    for (written, value) in [
        ("%REQ(x-user)%", Some("jason")),
        ("%REQ(X-User)%", Some("jason")),
        ("%REQ(x-user):3%", Some("jas")),
        ("%REQ(x-user):99%", Some("jason")),
        ("%REQ(x-none?x-user)%", Some("jason")),
        ("%REQ(x-none?:path)%", Some("/a?q=1")),
        ("%REQ(:METHOD)% %REQ(:scheme)%://%REQ(:authority)%%REQ(:path)%", Some("GET http://shop:80/a?q=1")),
        ("%REQ(host)%", Some("shop:80")),
        ("%PROTOCOL%", Some("HTTP/2")),
        ("<%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%>", Some("<10.0.0.9>")),
        ("100%% of %REQ(x-user)%%%", Some("100% of jason%")),
        ("%REQ(x-none)%", None),
        ("%REQ(x-none)%%REQ(x-none):2%", None),
        ("by %REQ(x-none)%", Some("by ")),
        ("", None),
    ] {
        let operations = HeaderOperations { set: vec![("a".into(), written.into())], ..Default::default() };
        let headers = applied(&operations, &[("x-user", "jason"), ("x-user", "second")]);
        assert_eq!(headers.get("a").map(|value| value.to_str().unwrap()), value, "{written}");
    }
}

#[test]
fn a_command_that_is_not_supported_is_an_error_that_quotes_it() {
    for (written, quoted) in [
        ("%", "%"),
        ("50%", "%"),
        ("%REQ(x)", "%REQ(x)"),
        ("%UPSTREAM_HOST%", "UPSTREAM_HOST"),
        ("%REQ%", "REQ"),
        ("%REQ()%", "REQ()"),
        ("%REQ(a b)%", "REQ(a b)"),
        ("%REQ(x):y%", "REQ(x):y"),
        ("%REQ(x)y%", "REQ(x)y"),
        ("%protocol%", "protocol"),
    ] {
        let error = HeaderOpError::Format { name: "a".into(), command: quoted.into() };
        assert_eq!(check_header_value("a", written), Err(error), "{written}");
    }
}

#[test]
fn a_value_cites_what_was_there_before_any_operation_wrote_and_after_the_removals() {
    let operations = HeaderOperations {
        set: vec![
            ("a".into(), "new".into()),
            ("b".into(), "%REQ(a)%".into()),
            ("c".into(), "%REQ(d)%".into()),
        ],
        add: vec![("a".into(), "%REQ(a)%".into())],
        remove: vec!["d".into()],
    };
    let headers = applied(&operations, &[("a", "old"), ("d", "gone")]);
    assert_eq!(headers["b"], "old");
    assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["new", "old"]);
    assert!(!headers.contains_key("c"));
}

fn applied(operations: &HeaderOperations, headers: &[(&'static str, &'static str)]) -> HeaderMap {
    let (ops, errors) = HeaderOps::compile(operations);
    assert_eq!(errors, []);
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = "/a?q=1".parse().unwrap();
    let remote = Ipv4Addr::new(10, 0, 0, 9).into();
    ops.apply_to_request(&mut request, Caller { scheme: "http", authority: "shop:80", remote });
    request.headers().clone()
}
