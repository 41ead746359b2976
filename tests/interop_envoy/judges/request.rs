//! Random requests, plain and odd, as the bytes that go over the wire.

use std::fmt::{self, Write as _};

/// A request, and which of the callers makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) caller: usize,
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) host: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
}

impl Request {
    pub(crate) fn random(dice: &mut fastrand::Rng, callers: usize) -> Self {
        let headers = (0..dice.usize(..4)).map(|_| {
            let name = ["x-role", "X-Role", "x-role", "x-other"][dice.usize(..4)];
            (name, VALUES[dice.usize(..VALUES.len())])
        });
        Self {
            headers: headers.collect(),
            caller: dice.usize(..callers),
            method: METHODS[dice.usize(..METHODS.len())],
            target: target(dice),
            host: HOSTS[dice.usize(..HOSTS.len())],
        }
    }

    /// Returns it as it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, target, host, .. } = self;
        write!(f, "{method} {target} HTTP/1.1\r\nhost: {host}\r\n")?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, "{name}: {value}\r\n"))?;
        f.write_str("content-length: 0\r\n\r\n")
    }
}

/// Returns a target that policies name, or one of pieces that parsers disagree about.
fn target(dice: &mut fastrand::Rng) -> String {
    if dice.bool() {
        return TARGETS[dice.usize(..TARGETS.len())].to_owned();
    }
    let mut target = String::new();
    for _ in 0..dice.usize(1..=5) {
        let _ = write!(target, "/{}", PIECES[dice.usize(..PIECES.len())]);
    }
    if dice.u8(..8) == 0 {
        target.push_str(["?", "?x=/../admin", "?a=%2f", "#admin", ";x"][dice.usize(..5)]);
    }
    target
}

const METHODS: [&str; 9] = ["GET", "GET", "GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"];

const TARGETS: [&str; 20] = [
    "/",
    "/admin",
    "/admin/",
    "/admin/users",
    "/administrator",
    "/ADMIN",
    "/a/b",
    "/a//b",
    "/a/b/c",
    "/a/x/y/c",
    "/index.html",
    "/x/admin",
    "/~user",
    "/%7Euser",
    "/caf%C3%A9",
    "/caf%c3%a9",
    "//admin",
    "/admin?x",
    "/admin/../a/b",
    "http://echo/admin",
];

const PIECES: [&str; 28] = [
    "a",
    "b",
    "c",
    "admin",
    "users",
    "",
    ".",
    "..",
    "...",
    "%2e",
    "%2e%2e",
    "%2E.",
    "%61dmin",
    "adm%69n",
    "..;",
    "..;a=b",
    "%2f",
    "%2Fadmin",
    "%5c",
    "a\\b",
    "\\..\\admin",
    "%00",
    "%25",
    "%252e",
    "%%32f",
    "%zz",
    "x.html",
    "a%20b",
];

const VALUES: [&str; 9] =
    ["admin", "user", "", "administrator", "ADMIN", "admin,user", "xmin", "a b", "\u{e9}"];

const HOSTS: [&str; 10] = [
    "echo",
    "ECHO",
    "Echo.Default",
    "echo.default",
    "echo:80",
    "echo:8080",
    "echo.",
    "other",
    "127.0.0.1:80",
    "[::1]",
];
