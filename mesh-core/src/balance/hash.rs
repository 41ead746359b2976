//! What of a request keeps it together with others at one endpoint: the hash of a header, a cookie, a query parameter
//! or the caller's address.
//!
//! It sets no cookie itself: it says that one is due, and the shell adds the header to the answer.
// spec: envoy config.route.v3.RouteAction.HashPolicy

use crate::dice::Dice;
use http::{HeaderMap, HeaderName, header};
use std::{fmt::Write, net::IpAddr, time::Duration};
use twox_hash::XxHash64;

/// What is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashSource {
    /// The value of a header; of several, all, whatever their order.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(Cookie),
    /// The address of the caller's own caller.
    SourceAddress,
    /// The first value of a query parameter, as it is written.
    QueryParameter(String),
}

/// A cookie that keeps a client at one endpoint.
///
/// ```
/// use mesh_core::balance::Cookie;
/// use std::time::Duration;
///
/// let cookie = Cookie {
///     name: "seat".to_owned(),
///     path: "/".to_owned(),
///     ttl: Some(Duration::from_secs(3600)),
///     attributes: vec![("SameSite".to_owned(), "Strict".to_owned())],
/// };
/// assert_eq!(cookie.set("17"), "seat=\"17\"; Max-Age=3600; Path=/; SameSite=Strict; HttpOnly");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// The paths it is for; not said if empty.
    pub path: String,
    /// How long a new one lives, zero until the client is closed; without it none is made.
    pub ttl: Option<Duration>,
    /// Further attributes of a new one: name, and value unless that is empty.
    pub attributes: Vec<(String, String)>,
}

/// What is hashed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its path and query.
    pub path_and_query: &'a str,
    /// Who called the caller, if anybody.
    pub source: Option<IpAddr>,
}

/// What there is to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashInput<'a> {
    /// The hash.
    Hash(u64),
    /// Nothing: any endpoint will do.
    Missing,
    /// No cookie yet: draw one, and set it with the answer.
    NewCookie(&'a Cookie),
}

impl HashSource {
    /// Returns the hash of what `request` has of it.
    pub fn input(&self, request: &Hashed<'_>) -> HashInput<'_> {
        let hash = match self {
            Self::Header(name) => of_header(request.headers, name),
            Self::Cookie(cookie) => return cookie.input(request.headers),
            Self::SourceAddress => request.source.map(|source| of_text(source.to_string().as_bytes())),
            Self::QueryParameter(name) => of_parameter(request.path_and_query, name),
        };
        hash.map_or(HashInput::Missing, HashInput::Hash)
    }
}

impl Cookie {
    /// An empty value counts as none.
    fn input(&self, headers: &HeaderMap) -> HashInput<'_> {
        match value(headers, &self.name) {
            Some(value) if !value.is_empty() => HashInput::Hash(of_text(value)),
            _ if self.ttl.is_some() => HashInput::NewCookie(self),
            _ => HashInput::Missing,
        }
    }

    /// Draws a value for a new one; returns it with its hash.
    ///
    /// Envoy derives it from the addresses of the connection, which a call in process does not have.
    pub fn draw(&self, dice: &mut impl Dice) -> (String, u64) {
        let value = format!("{:016x}", dice.roll());
        let hash = of_text(value.as_bytes());
        (value, hash)
    }

    /// Returns the `set-cookie` header that sets it to `value`.
    // spec: envoy source/common/http/utility.cc makeSetCookieValue
    pub fn set(&self, value: &str) -> String {
        let mut text = format!("{}=\"{value}\"", self.name);
        let seconds = self.ttl.map_or(0, |ttl| ttl.as_secs());
        if seconds > 0 {
            let _ = write!(text, "; Max-Age={seconds}");
        }
        if !self.path.is_empty() {
            let _ = write!(text, "; Path={}", self.path);
        }
        for (name, value) in &self.attributes {
            let equals = if value.is_empty() { "" } else { "=" };
            let _ = write!(text, "; {name}{equals}{value}");
        }
        text + "; HttpOnly"
    }
}

/// Returns the hash of `text` as Envoy takes it.
pub(super) fn of_text(text: &[u8]) -> u64 {
    of_text_from(text, 0)
}

/// Returns the hash of `text` from another start than 0.
pub(super) fn of_text_from(text: &[u8], seed: u64) -> u64 {
    XxHash64::oneshot(seed, text)
}

/// Each of several values starts from the hash of the one before it, in the order of their bytes.
// spec: envoy source/common/http/hash_policy.cc HeaderHashMethod
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(of_text(first)) };
    let mut all: Vec<_> = [first, second].into_iter().chain(values).collect();
    all.sort_unstable();
    Some(all.into_iter().fold(0, |seed, value| of_text_from(value, seed)))
}

fn of_parameter(path_and_query: &str, name: &str) -> Option<u64> {
    let (_, query) = path_and_query.split_once('?')?;
    let parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
    let (_, value) = parameters.into_iter().find(|(key, _)| *key == name)?;
    Some(of_text(value.as_bytes()))
}

/// Returns the value of the first cookie of that name, without its quotes.
// spec: envoy source/common/http/utility.cc parseCookie
fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
    let mut values = pairs.filter_map(|pair| pair.trim_ascii_start().strip_prefix(name.as_bytes()));
    let value = values.find_map(|rest| rest.strip_prefix(b"="))?;
    Some(value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Lowest;

    // spec: github.com/Cyan4973/xxHash doc/xxhash_spec.md; envoy test/common/common/hash_test.cc
    #[test]
    fn the_hash_is_xxhash64() {
        let hundred: Vec<u8> = (0..100).collect();
        for (text, seed, expected) in [
            (&b""[..], 0, 0xef46_db37_51d8_e999),
            (b"a", 0, 0xd24e_c4f1_a98c_6e5b),
            (b"abc", 0, 0x44bc_2cf5_ad77_0999),
            (&hundred, 0, 0x6ac1_e580_3216_6597),
            (b"42\0", 42, 7_873_697_032_674_743_835),
            (b"foo", 0, 3_728_699_739_546_630_719),
            (b"bar", 0, 5_234_164_152_756_840_025),
            (b"foo\nbar", 0, 8_917_841_378_505_826_757),
            (b"lyft", 0, 4_400_747_396_090_729_504),
        ] {
            assert_eq!(of_text_from(text, seed), expected, "{text:?}");
        }
    }

    #[test]
    fn a_header_is_hashed_and_a_missing_one_is_missing() {
        let source = HashSource::Header(HeaderName::from_static("x-user"));
        assert_eq!(source.input(&request(&[("x-user", "foo")])), HashInput::Hash(of_text(b"foo")));
        assert_eq!(source.input(&request(&[("x-user", "")])), HashInput::Hash(of_text(b"")));
        assert_eq!(source.input(&request(&[("x-other", "foo")])), HashInput::Missing);
    }

    #[test]
    fn several_values_of_a_header_hash_alike_in_any_order() {
        let source = HashSource::Header(HeaderName::from_static("x-user"));
        let expected = HashInput::Hash(of_text_from(b"foo", of_text(b"bar")));
        for values in [["foo", "bar"], ["bar", "foo"]] {
            assert_eq!(source.input(&request(&values.map(|value| ("x-user", value)))), expected);
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let source = HashSource::Cookie(Cookie { name: "seat".to_owned(), ..Cookie::default() });
        for line in ["seat=foo", "a=b; seat=foo", "seats=bar; seat=foo;x", "seat=\"foo\"; seat=bar"] {
            assert_eq!(
                source.input(&request(&[("cookie", line)])),
                HashInput::Hash(of_text(b"foo")),
                "{line}"
            );
        }
        for line in ["seat", "seat=", "Seat=foo", "my-seat=foo", "seat =foo"] {
            assert_eq!(source.input(&request(&[("cookie", line)])), HashInput::Missing, "{line}");
        }
        let second = request(&[("cookie", "a=b"), ("cookie", "seat=foo")]);
        assert_eq!(source.input(&second), HashInput::Hash(of_text(b"foo")));
    }

    #[test]
    fn a_missing_cookie_with_a_time_to_live_is_to_be_made() {
        let cookie =
            Cookie { name: "seat".to_owned(), ttl: Some(Duration::from_secs(5)), ..Cookie::default() };
        let source = HashSource::Cookie(cookie.clone());
        for headers in [&[][..], &[("cookie", "seat=")]] {
            assert_eq!(source.input(&request(headers)), HashInput::NewCookie(&cookie));
        }
    }

    #[test]
    fn the_client_that_sends_a_new_cookie_back_hashes_as_it_did_when_it_was_drawn() {
        let cookie = Cookie { name: "seat".to_owned(), ttl: Some(Duration::ZERO), ..Cookie::default() };
        let (value, hash) = cookie.draw(&mut Lowest);
        let set = cookie.set(&value);
        assert_eq!(set, "seat=\"0000000000000000\"; HttpOnly");
        let back = request(&[("cookie", set.split(';').next().unwrap())]);
        assert_eq!(HashSource::Cookie(cookie).input(&back), HashInput::Hash(hash));
    }

    #[test]
    fn the_first_value_of_a_query_parameter_is_hashed_as_it_is_written() {
        let source = HashSource::QueryParameter("k".to_owned());
        let headers = HeaderMap::new();
        let input =
            |path_and_query| source.input(&Hashed { headers: &headers, path_and_query, source: None });
        assert_eq!(input("/a?x=1&k=foo&k=bar"), HashInput::Hash(of_text(b"foo")));
        assert_eq!(input("/a?k=%66oo"), HashInput::Hash(of_text(b"%66oo")));
        assert_eq!(input("/a?k"), HashInput::Hash(of_text(b"")));
        assert_eq!(input("/k=foo"), HashInput::Missing);
        assert_eq!(input("/a?kk=foo"), HashInput::Missing);
    }

    #[test]
    fn an_address_is_hashed_as_text() {
        let headers = HeaderMap::new();
        let input = |source| {
            HashSource::SourceAddress.input(&Hashed { headers: &headers, path_and_query: "/", source })
        };
        assert_eq!(input(Some([10, 0, 0, 1].into())), HashInput::Hash(of_text(b"10.0.0.1")));
        assert_eq!(input(Some([0, 0, 0, 0, 0, 0, 0, 1].into())), HashInput::Hash(of_text(b"::1")));
        assert_eq!(input(None), HashInput::Missing);
    }

    fn request<'a>(headers: &[(&'static str, &str)]) -> Hashed<'a> {
        let pair =
            |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), value.parse().unwrap());
        let headers: &'static HeaderMap = Box::leak(Box::new(headers.iter().map(pair).collect()));
        Hashed { headers, path_and_query: "/", source: None }
    }
}
