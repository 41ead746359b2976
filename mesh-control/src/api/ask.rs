//! What a request says in its headers, its query and its body, read within bounds.

use super::answer::Failure;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mesh_runtime::control::name::quoted;
use std::time::Duration;
use tokio::time::timeout;

/// The versions that a caller has already (`If-None-Match`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known<'a> {
    These(Vec<&'a str>),
    Any,
}

impl<'a> Known<'a> {
    // spec: rfc9110 section 13.1.2; weak comparison
    pub(super) fn of(headers: &'a HeaderMap) -> Result<Self, String> {
        let mut these = Vec::new();
        for tag in list(headers.get_all(header::IF_NONE_MATCH), "if-none-match")? {
            let bare = tag.strip_prefix("W/").unwrap_or(tag);
            match bare.strip_prefix('"').and_then(|bare| bare.strip_suffix('"')) {
                Some(version) => these.push(version),
                None if tag == "*" => return Ok(Self::Any),
                None => {
                    return Err(format!(
                        "if-none-match: {}; write the ETag as it was sent, in quotes",
                        quoted(tag)
                    ));
                }
            }
        }
        Ok(Self::These(these))
    }

    pub(super) fn has(&self, version: &str) -> bool {
        match self {
            Self::These(these) => these.contains(&version),
            Self::Any => true,
        }
    }

    /// Returns the version in force at the caller, as far as it says so.
    pub(super) fn version(&self) -> Option<&'a str> {
        match self {
            Self::These(these) => these.first().copied(),
            Self::Any => None,
        }
    }
}

/// Returns how long the caller wants to wait for news (`Prefer: wait=N`), at most [`WAIT_MAX`].
// spec: rfc7240 section 4.3; other preferences are ignored
pub(super) fn wait(headers: &HeaderMap) -> Result<Duration, String> {
    for preference in list(headers.get_all("prefer"), "prefer")? {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        if name.trim().eq_ignore_ascii_case("wait") {
            let seconds = value
                .trim()
                .trim_matches('"')
                .parse()
                .map_err(|_| format!("prefer: {}; write `wait=N`, N in seconds", quoted(preference)))?;
            return Ok(Duration::from_secs(seconds).min(WAIT_MAX));
        }
    }
    Ok(Duration::ZERO)
}

/// Returns whether the caller takes gzip.
// spec: rfc9110 section 12.5.3
pub(super) fn accepts_gzip<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> bool {
    list(values, "accept-encoding").unwrap_or_default().into_iter().any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = parts.any(|part| {
            part.strip_prefix("q=").is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
        });
        named && !refused
    })
}

/// Returns the value of `key` in the query, as it stands there, for names need no escapes; `None` if it is empty.
pub(super) fn query<'a>(head: &'a Parts, key: &str) -> Option<&'a str> {
    let mut pairs = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value)
}

/// Reads a body to its end, within bounds of size and time.
pub(super) async fn body<B>(body: B) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let read = timeout(BODY_LIMIT, Limited::new(body, BODY_MAX).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::too_large(BODY_MAX)),
        Ok(Err(error)) => Err(Failure::bad_request(format!("the body broke off: {error}"))),
        Err(_) => Err(Failure::timeout(BODY_LIMIT.as_secs())),
    }
}

/// Returns the members of a list header. No value here may hold a comma in quotes.
fn list<'a>(values: impl IntoIterator<Item = &'a HeaderValue>, name: &str) -> Result<Vec<&'a str>, String> {
    let mut members = Vec::new();
    for value in values {
        let text = value.to_str().map_err(|_| format!("{name}: it is not ASCII"))?;
        members.extend(text.split(',').map(str::trim).filter(|member| !member.is_empty()));
    }
    Ok(members)
}

/// Longer than the 30 s that workloads ask for, shorter than what middle boxes cut.
const WAIT_MAX: Duration = Duration::from_secs(60);
const BODY_LIMIT: Duration = Duration::from_secs(10);
/// A report of a hundred long findings is a tenth of that.
const BODY_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_read_in_all_its_forms() {
        let table: [(&[&str], Result<Known<'_>, ()>); 8] = [
            (&[], Ok(Known::These(vec![]))),
            (&["\"a\""], Ok(Known::These(vec!["a"]))),
            (&["W/\"a\""], Ok(Known::These(vec!["a"]))),
            (&["\"a\", \"b\"", "\"c\""], Ok(Known::These(vec!["a", "b", "c"]))),
            (&["*"], Ok(Known::Any)),
            (&["a"], Err(())),
            (&["\"a"], Err(())),
            (&["\""], Err(())),
        ];
        for (values, expected) in table {
            let headers = headers("if-none-match", values);
            assert_eq!(Known::of(&headers).map_err(drop), expected, "{values:?}");
        }
    }

    #[test]
    fn the_time_to_wait_is_read_and_bounded() {
        let table: [(&[&str], Result<u64, ()>); 9] = [
            (&[], Ok(0)),
            (&["wait=30"], Ok(30)),
            (&["respond-async, Wait = 5"], Ok(5)),
            (&["return=minimal", "wait=\"7\""], Ok(7)),
            (&["wait=99999999999"], Ok(60)),
            (&["wait=-1"], Err(())),
            (&["wait"], Err(())),
            (&["wait=1.5"], Err(())),
            (&["waiting=5"], Ok(0)),
        ];
        for (values, expected) in table {
            let got = wait(&headers("prefer", values)).map(|wait| wait.as_secs()).map_err(drop);
            assert_eq!(got, expected, "{values:?}");
        }
    }

    #[test]
    fn gzip_is_sent_only_to_who_takes_it() {
        let table: [(&[&str], bool); 7] = [
            (&[], false),
            (&["gzip"], true),
            (&["br, GZIP;q=0.5"], true),
            (&["*"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.0"], false),
            (&["deflate", "br"], false),
        ];
        for (values, expected) in table {
            let headers = headers("accept-encoding", values);
            assert_eq!(accepts_gzip(headers.get_all("accept-encoding")), expected, "{values:?}");
        }
    }

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }
}
