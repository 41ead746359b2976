//! Where in a request a rule's tokens stand. Every token there must be good, so that no handler takes a bad one for the
//! good one that was verified.
// spec: envoy source/extensions/filters/http/jwt_authn/extractor.cc

use crate::config::istio::{JwtRule, TokenHeader};
use http::{HeaderMap, HeaderValue, Uri, header, request::Parts, uri::PathAndQuery};
use std::borrow::Cow;

/// The places of one rule, in the order in which Envoy looks at them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    headers: Box<[TokenHeader]>,
    params: Box<[String]>,
    cookies: Box<[String]>,
}

impl Places {
    pub(super) fn of(rule: &JwtRule) -> Self {
        let JwtRule { from_headers, from_params, from_cookies, .. } = rule;
        let (mut headers, mut params) = (from_headers.clone(), from_params.clone());
        if headers.is_empty() && params.is_empty() && from_cookies.is_empty() {
            headers.push(TokenHeader { name: header::AUTHORIZATION, prefix: "Bearer ".to_owned() });
            params.push("access_token".to_owned());
        }
        headers.sort_by(|a, b| (a.name.as_str(), &a.prefix).cmp(&(b.name.as_str(), &b.prefix)));
        params.sort();
        let mut cookies = from_cookies.clone();
        cookies.sort();
        Self { headers: headers.into(), params: params.into(), cookies: cookies.into() }
    }

    /// Returns every token that `head` brings, and what stands in the place of one.
    pub(super) fn tokens<'h>(&self, head: &'h Parts) -> Vec<Cow<'h, str>> {
        let headers = self.headers.iter().flat_map(|header| in_header(header, &head.headers));
        let params = self.params.iter().flat_map(|name| in_query(name, &head.uri));
        let cookies = self.cookies.iter().flat_map(|name| in_cookies(name, &head.headers));
        headers.chain(params).chain(cookies).collect()
    }

    /// Returns these places without those that are among `others`.
    pub(super) fn without(&self, others: &Self) -> Self {
        let is_others = |name| others.headers.iter().any(|header| header.name == name);
        Self {
            headers: self.headers.iter().filter(|header| !is_others(&header.name)).cloned().collect(),
            params: self.params.iter().filter(|name| !others.params.contains(name)).cloned().collect(),
            cookies: self.cookies.iter().filter(|name| !others.cookies.contains(name)).cloned().collect(),
        }
    }

    /// Takes the tokens out of `head`.
    pub(super) fn clear(&self, head: &mut Parts) {
        for header in &self.headers {
            head.headers.remove(&header.name);
        }
        let is_token = |pair: &&str| self.params.iter().any(|name| *name == param_name(pair));
        if let Some(query) = head.uri.query()
            && query.split('&').any(|pair| is_token(&pair))
        {
            let kept: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
            head.uri = with_query(&head.uri, &kept.join("&"));
        }
        if !self.cookies.is_empty() {
            clear_cookies(&mut head.headers, &self.cookies);
        }
    }
}

/// Returns the token of each value of a header; with a prefix, of those that have it.
fn in_header<'h>(header: &TokenHeader, headers: &'h HeaderMap) -> impl Iterator<Item = Cow<'h, str>> {
    headers.get_all(&header.name).iter().filter_map(|value| match String::from_utf8_lossy(value.as_bytes()) {
        Cow::Borrowed(text) => after_prefix(text, &header.prefix).map(Cow::Borrowed),
        Cow::Owned(text) => after_prefix(&text, &header.prefix).map(|token| Cow::Owned(token.to_owned())),
    })
}

/// Returns what follows `prefix` in `text`, from the first character on that a token may begin with.
fn after_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    if prefix.is_empty() {
        return Some(text);
    }
    let behind = &text[text.find(prefix)? + prefix.len()..];
    let may_begin = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    Some(behind.find(may_begin).map_or(text, |start| &behind[start..]))
}

/// Returns every value of a parameter of the query: who writes it twice may mean another one than the first.
fn in_query<'h>(name: &str, uri: &'h Uri) -> impl Iterator<Item = Cow<'h, str>> {
    let pairs = uri.query().into_iter().flat_map(|query| query.split('&'));
    pairs.filter(move |pair| param_name(pair) == name).map(|pair| {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        unescaped(value)
    })
}

fn param_name(pair: &str) -> Cow<'_, str> {
    unescaped(pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// Returns every value of a cookie, without quotes around it.
fn in_cookies<'h>(name: &str, headers: &'h HeaderMap) -> impl Iterator<Item = Cow<'h, str>> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(cookies);
    pairs.filter(move |pair| is_called(pair, name)).map(move |pair| {
        let value = &pair[name.len() + 1..];
        let quoted = || value.strip_prefix(b"\"")?.strip_suffix(b"\"");
        String::from_utf8_lossy(quoted().unwrap_or(value))
    })
}

/// Takes the cookies called one of `names` out of `headers`, and leaves every other as it is.
fn clear_cookies(headers: &mut HeaderMap, names: &[String]) {
    let is_kept = |pair: &&[u8]| !names.iter().any(|name| is_called(pair, name));
    let all: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for value in all {
        let kept: Vec<&[u8]> = cookies(&value).filter(is_kept).collect();
        if let Ok(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            && !kept.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}

// spec: RFC 6265 4.2.1
fn cookies(header: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    header.as_bytes().split(|&byte| byte == b';').map(<[u8]>::trim_ascii)
}

fn is_called(cookie: &[u8], name: &str) -> bool {
    cookie.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
}

/// Returns `uri` with another query, none if it is empty. What is left of a query makes a URI again.
fn with_query(uri: &Uri, query: &str) -> Uri {
    let path = uri.path();
    let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(path_and_query).ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// Returns `text` with its percent escapes read. What is no UTF-8 then is no token either.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, others @ ..] = rest {
        let escape = match others {
            [high, low, ..] if *first == b'%' => digit(high).zip(digit(low)),
            _ => None,
        };
        bytes.push(escape.map_or(*first, |(high, low)| high * 16 + low));
        rest = if escape.is_some() { &others[2..] } else { others };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn a_token_stands_where_the_rule_says_or_else_where_everybody_expects_it() {
        let default = Places::of(&JwtRule::default());
        let own = Places::of(&JwtRule {
            from_headers: vec![
                TokenHeader { name: "x-token".parse().unwrap(), prefix: String::new() },
                TokenHeader { name: "x-other".parse().unwrap(), prefix: "Token ".to_owned() },
            ],
            from_params: vec!["t".to_owned()],
            from_cookies: vec!["session".to_owned()],
            ..JwtRule::default()
        });
        for (places, uri, headers, tokens) in [
            (&default, "/", &[][..], &[][..]),
            (&default, "/", &[("authorization", "Bearer a.b.c")], &["a.b.c"]),
            (&default, "/", &[("authorization", "Bearer   a.b.c")], &["a.b.c"]),
            (&default, "/", &[("authorization", "Basic x, Bearer a.b.c")], &["a.b.c"]),
            (&default, "/", &[("authorization", "bearer a.b.c")], &[]),
            (&default, "/", &[("authorization", "Bearer é")], &["Bearer é"]),
            (&default, "/", &[("authorization", "Basic x"), ("authorization", "Bearer b")], &["b"]),
            (&default, "/", &[("authorization", "Bearer a"), ("authorization", "Bearer b")], &["a", "b"]),
            (&default, "/?access_token=a.b.c", &[], &["a.b.c"]),
            (&default, "/?x=1&access%5Ftoken=a%2Eb.c&y", &[], &["a.b.c"]),
            (&default, "/?access_token=a&access_token=b", &[("authorization", "Bearer c")], &["c", "a", "b"]),
            (&default, "/?access_token", &[], &[""]),
            (&default, "/", &[("x-token", "a"), ("cookie", "access_token=a")], &[]),
            (
                &own,
                "/?t=p",
                &[("x-token", "h"), ("x-other", "Token o"), ("cookie", "a=b; session=s")],
                &["o", "h", "p", "s"],
            ),
            (&own, "/", &[("authorization", "Bearer a")], &[]),
            (&own, "/", &[("x-other", "o")], &[]),
            (&own, "/", &[("cookie", "session=\"s\""), ("cookie", "session=u")], &["s", "u"]),
        ] {
            let head = head(uri, headers);
            assert_eq!(places.tokens(&head), tokens, "{uri} {headers:?}");
        }
    }

    #[test]
    fn what_is_taken_out_leaves_everything_else_as_it_was() {
        let places = Places::of(&JwtRule {
            from_headers: vec![TokenHeader { name: "x-token".parse().unwrap(), prefix: String::new() }],
            from_params: vec!["t".to_owned()],
            from_cookies: vec!["session".to_owned()],
            ..JwtRule::default()
        });
        for (uri, left) in [
            ("/a?t=1", "/a"),
            ("/a?x=%2f&t=1&y&%74=2", "/a?x=%2f&y"),
            ("/a?tt=1", "/a?tt=1"),
            ("/a", "/a"),
            ("http://h/a?t=1", "http://h/a"),
        ] {
            let mut head = head(uri, &[("x-token", "a"), ("x-token", "b"), ("x-user", "ann")]);
            places.clear(&mut head);
            assert_eq!((head.uri.to_string(), head.headers.len()), (left.to_owned(), 1), "{uri}");
        }
        let mut head =
            head("/", &[("cookie", "a=b;session=s; c=\"d\""), ("cookie", "session=t"), ("cookie", "e")]);
        places.clear(&mut head);
        let left: Vec<_> = head.headers.get_all("cookie").iter().collect();
        assert_eq!(left, ["a=b; c=\"d\"", "e"]);
    }

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }
}
