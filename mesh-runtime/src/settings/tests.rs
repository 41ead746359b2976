use super::*;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

#[test]
fn the_service_alone_is_enough_and_the_rest_has_its_defaults() {
    let settings = read(&[("MESH_SERVICE", "checkout")]).unwrap();
    assert_eq!(settings.namespace, "default");
    assert_eq!(settings.service_account, "checkout");
    assert_eq!(settings.service_port, 80);
    assert_eq!(settings.labels, BTreeMap::from([("app".to_owned(), "checkout".to_owned())]));
    assert!(settings.admin.is_none() && settings.config.is_empty() && !settings.has_identity_source());
}

#[test]
fn every_variable_reaches_its_field() {
    let token = token("prod", "pay");
    let settings = read(&[
        ("MESH_CONTROL", "https://control.mesh:15010"),
        ("MESH_JOIN_TOKEN", &token),
        ("MESH_NAMESPACE", "prod"),
        ("MESH_SERVICE", "payment-service"),
        ("MESH_SERVICE_ACCOUNT", "pay"),
        ("MESH_SERVICE_PORT", "8080"),
        ("MESH_LABELS", "version=v1, app=payments,"),
        ("MESH_ADVERTISE", "10.1.2.3:9000"),
        ("MESH_LOCALITY", "eu/eu-1/a"),
        ("MESH_CACHE_DIR", "/var/cache/mesh"),
        ("MESH_ADMIN", "127.0.0.1:15000"),
    ])
    .unwrap();
    assert_eq!(settings.control.as_deref(), Some("https://control.mesh:15010"));
    assert_eq!(settings.join_token.as_ref().unwrap().expose(), token);
    assert_eq!((settings.namespace.as_str(), settings.service.as_str()), ("prod", "payment-service"));
    assert_eq!((settings.service_account.as_str(), settings.service_port), ("pay", 8080));
    let labels = [("app", "payments"), ("version", "v1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(settings.labels, BTreeMap::from(labels));
    assert_eq!(settings.advertise.as_deref(), Some("10.1.2.3:9000"));
    assert_eq!(settings.locality, "eu/eu-1/a");
    assert_eq!(settings.cache_dir, Some("/var/cache/mesh".into()));
    assert_eq!(settings.admin, Some(SocketAddr::from(([127, 0, 0, 1], 15000))));
    assert!(settings.has_identity_source());
}

#[cfg(feature = "spiffe")]
#[test]
fn a_workload_api_is_the_one_source_of_an_identity_and_its_svid_may_be_named() {
    let socket = ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock");
    let settings = read(&[("MESH_SERVICE", "a"), socket, ("MESH_SVID", "internal")]).unwrap();
    assert!(settings.has_identity_source() && settings.brings_identity());
    assert_eq!(settings.svid.as_deref(), Some("internal"));
    // It proves itself to a control endpoint, but not where no certificate can be shown.
    assert!(read(&[("MESH_SERVICE", "a"), socket, ("MESH_CONTROL", "https://c:1")]).is_ok());
    assert!(read(&[("MESH_SERVICE", "a"), socket, ("MESH_CONTROL", "http://localhost:1")]).is_err());
    for (wrong, variable) in [
        (vec![("SPIFFE_ENDPOINT_SOCKET", "/run/agent.sock")], "SPIFFE_ENDPOINT_SOCKET"),
        (vec![socket, ("MESH_SVID", "spiffe://")], "MESH_SVID"),
        (vec![("MESH_SVID", "internal")], "MESH_SVID"),
        (
            vec![socket, ("MESH_CERT", "c"), ("MESH_KEY", "k"), ("MESH_BUNDLES", "a=b")],
            "SPIFFE_ENDPOINT_SOCKET",
        ),
    ] {
        let variables: Vec<_> = wrong.iter().copied().chain([("MESH_SERVICE", "a")]).collect();
        assert_eq!(read(&variables).unwrap_err().variable, variable, "{wrong:?}");
    }
}

#[cfg(not(feature = "spiffe"))]
#[test]
fn a_build_that_cannot_ask_a_workload_api_does_not_run_without_the_identity_it_would_have_given() {
    let socket = ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock");
    let error = read(&[("MESH_SERVICE", "a"), socket]).unwrap_err();
    assert!(error.to_string().contains("built without the feature `spiffe`"), "{error}");
    let files = [("MESH_CERT", "c"), ("MESH_KEY", "k"), ("MESH_BUNDLES", "a=b")];
    let settings = read(&[&[("MESH_SERVICE", "a"), socket], &files[..]].concat()).unwrap();
    assert!(settings.workload_api.is_none() && settings.identity_files.is_some());
}

#[test]
fn an_identity_from_files_names_a_bundle_per_trust_domain() {
    let settings = read(&[
        ("MESH_SERVICE", "a"),
        ("MESH_CERT", "c.pem"),
        ("MESH_KEY", "k.pem"),
        ("MESH_BUNDLES", "one.org=1.pem,two.org=2.pem"),
        ("MESH_CONFIG", "mesh.yaml,more/"),
    ])
    .unwrap();
    let files = settings.identity_files.unwrap();
    assert_eq!((files.cert, files.key), ("c.pem".into(), "k.pem".into()));
    assert_eq!(
        files.bundles,
        [("one.org".to_owned(), "1.pem".into()), ("two.org".to_owned(), "2.pem".into())]
    );
    assert_eq!(settings.config, [PathBuf::from("mesh.yaml"), PathBuf::from("more/")]);
}

#[test]
fn an_admin_address_without_a_host_is_loopback() {
    for text in ["15000", ":15000", "localhost:15000", "127.0.0.1:15000"] {
        let settings = read(&[("MESH_SERVICE", "a"), ("MESH_ADMIN", text)]).unwrap();
        assert_eq!(settings.admin, Some(SocketAddr::from(([127, 0, 0, 1], 15000))), "{text}");
    }
}

#[test]
fn a_wrong_value_is_refused_by_its_variable_with_the_value_and_the_form() {
    // (variable, value, what the message must hold)
    let table: &[(&str, &str, &[&str])] = &[
        ("MESH_SERVICE", "", &["not set", "checkout"]),
        ("MESH_SERVICE", "Pay ments", &["`Pay ments`", "lower-case"]),
        ("MESH_SERVICE", "../../etc", &["`../../etc`"]),
        ("MESH_SERVICE", "-a", &["`-a`"]),
        ("MESH_SERVICE", "a.b", &["`a.b`", "lower-case"]),
        ("MESH_NAMESPACE", "a.b", &["`a.b`"]),
        ("MESH_NAMESPACE", "a/b", &["`a/b`"]),
        ("MESH_NAMESPACE", "a..b", &["`a..b`"]),
        ("MESH_SERVICE_ACCOUNT", "a%2fb", &["`a%2fb`"]),
        ("MESH_SERVICE_PORT", "http", &["`http`", "1 to 65535"]),
        ("MESH_SERVICE_PORT", "65536", &["`65536`"]),
        ("MESH_SERVICE_PORT", "0", &["1 to 65535"]),
        ("MESH_LABELS", "version", &["`version`", "name=value"]),
        ("MESH_LABELS", "version=v1/../..", &["`version=v1/../..`"]),
        ("MESH_LABELS", "=v1", &["`=v1`"]),
        ("MESH_LABELS", "version=-x", &["`version=-x`", "starting and ending"]),
        ("MESH_LABELS", "-version=x", &["`-version=x`"]),
        ("MESH_LABELS", "A/version=x", &["`A/version=x`"]),
        ("MESH_ADVERTISE", "0.0.0.0", &["`0.0.0.0`", "10.1.2.3"]),
        ("MESH_ADVERTISE", "[::]:80", &["`[::]:80`"]),
        ("MESH_ADVERTISE", "10.0.0.1:0", &["`10.0.0.1:0`"]),
        ("MESH_ADVERTISE", "224.0.0.1", &["`224.0.0.1`"]),
        ("MESH_ADVERTISE", "255.255.255.255", &["`255.255.255.255`"]),
        ("MESH_ADVERTISE", "host.example", &["`host.example`"]),
        ("MESH_LOCALITY", "a/b/c/d", &["`a/b/c/d`", "region/zone/subzone"]),
        ("MESH_LOCALITY", "a//c", &["`a//c`"]),
        ("MESH_LOCALITY", "us west/1", &["`us west/1`", "letters"]),
        ("MESH_ADMIN", "all", &["`all`", "127.0.0.1:15000"]),
        ("MESH_ADMIN", "1.2.3.4:99999", &["`1.2.3.4:99999`"]),
        ("MESH_CONTROL", "10.0.0.1:15010", &["10.0.0.1:15010", "https://"]),
        ("MESH_CONTROL", "http://10.0.0.1:15010", &["http://10.0.0.1:15010", "loopback"]),
        ("MESH_CONTROL", "https://h:15010/path", &["https://h:15010/path"]),
        ("MESH_CONTROL", "https://h:15010", &["https://h:15010", "MESH_JOIN_TOKEN", "meshctl token"]),
        ("MESH_JOIN_TOKEN", "secret", &["not a join token", "meshctl token"]),
    ];
    for (variable, value, parts) in table {
        let error = read(&[("MESH_SERVICE", "a"), (variable, value)]).unwrap_err();
        assert_eq!(error.variable, *variable, "{value}: {error}");
        for part in *parts {
            assert!(error.to_string().contains(part), "{variable}={value}: `{error}` lacks `{part}`");
        }
    }
}

#[test]
fn variables_that_contradict_each_other_are_refused() {
    let token = token("default", "a");
    let foreign = self::token("prod", "a");
    let other = self::token("default", "b");
    let control = ("MESH_CONTROL", "https://h:1");
    // (variables beside MESH_SERVICE=a, the variable that is named)
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[control, ("MESH_JOIN_TOKEN", &token), ("MESH_CONFIG", "x.yaml")], "MESH_CONFIG"),
        (&[("MESH_JOIN_TOKEN", &token)], "MESH_JOIN_TOKEN"),
        (&[("MESH_JOIN_TOKEN", &token), ("MESH_CONFIG", "x.yaml")], "MESH_JOIN_TOKEN"),
        (&[control, ("MESH_JOIN_TOKEN", &foreign)], "MESH_NAMESPACE"),
        (&[control, ("MESH_JOIN_TOKEN", &other)], "MESH_SERVICE_ACCOUNT"),
        (&[("MESH_CACHE_DIR", "/tmp")], "MESH_CACHE_DIR"),
        (
            &[
                ("MESH_CONTROL", "http://127.0.0.1:1"),
                ("MESH_CERT", "c"),
                ("MESH_KEY", "k"),
                ("MESH_BUNDLES", "a.org=f"),
            ],
            "MESH_CONTROL",
        ),
        (&[("MESH_CERT", "c")], "MESH_KEY"),
        (&[("MESH_KEY", "k")], "MESH_CERT"),
        (&[("MESH_CERT", "c"), ("MESH_KEY", "k")], "MESH_BUNDLES"),
        (&[("MESH_BUNDLES", "a.org=f")], "MESH_CERT"),
        (&[("MESH_CERT", "c"), ("MESH_KEY", "k"), ("MESH_BUNDLES", "f.pem")], "MESH_BUNDLES"),
        (&[("MESH_CERT", "c"), ("MESH_KEY", "k"), ("MESH_BUNDLES", "a.org=f,a.org=g")], "MESH_BUNDLES"),
        (&[("MESH_CERT", "c"), ("MESH_KEY", "k"), ("MESH_BUNDLES", "A B=f")], "MESH_BUNDLES"),
    ];
    for (variables, named) in table {
        let variables: Vec<_> = [("MESH_SERVICE", "a")].iter().chain(*variables).copied().collect();
        assert_eq!(read(&variables).unwrap_err().variable, *named, "{variables:?}");
    }
}

#[test]
fn no_error_shows_a_token() {
    let error = read(&[("MESH_SERVICE", "a"), ("MESH_JOIN_TOKEN", "mesh1.e30.c2VjcmV0")]).unwrap_err();
    assert!(!error.to_string().contains("c2VjcmV0"), "{error}");
    let error = read(&[("MESH_SERVICE", "a"), ("MESH_JOIN_TOKEN", &token("prod", "a"))]).unwrap_err();
    assert!(!error.to_string().contains("dGFn"), "{error}");
}

fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    // The last of two values for one variable counts, as a flag wins over the environment.
    let find =
        |name: &str| variables.iter().rfind(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Settings::from_variables(find)
}

fn token(namespace: &str, account: &str) -> String {
    let claims = serde_json::json!({
        "namespace": namespace,
        "service_account": account,
        "expires": 4_000_000_000_u64,
        "ca_sha256": "ab".repeat(32),
        "nonce": "1",
    });
    format!("mesh1.{}.dGFn", URL_SAFE_NO_PAD.encode(claims.to_string()))
}
