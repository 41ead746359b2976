//! One JWT rule, compiled: which tokens are good by it, and what it passes on of them.

use super::{FetchedKeys, KeyLocation, KeySet, Signatures, TokenFault, places::Places, token::Token};
use crate::{
    authorize::Claims,
    config::istio::{JwtRule, KeySource, Lists, OutputClaim},
    health::States,
};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use serde_json::{Map, Value};
use std::{sync::Arc, time::Duration};

/// A rule.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Whose tokens it is for; empty is anybody's.
    pub(super) issuer: Box<str>,
    /// One of which a token must be for; empty is any.
    audiences: Box<[Box<str>]>,
    keys: Keys,
    places: Places,
    ports: Lists<u16>,
    forward_token: bool,
    payload_header: Option<HeaderName>,
    claim_headers: Box<[OutputClaim]>,
    space_delimited: Box<[String]>,
}

#[derive(Clone, Debug)]
enum Keys {
    Inline(Arc<KeySet>),
    Fetched { location: KeyLocation, timeout: Duration, keys: Arc<FetchedKeys> },
}

/// What a rule says of a request.
pub(super) enum Verdict {
    NoToken,
    Good(Good),
    Bad(TokenFault),
}

/// What a good token holds.
pub(super) struct Good {
    payload: Map<String, Value>,
    payload_text: String,
}

impl Rule {
    pub(super) fn new(rule: &JwtRule, ports: Lists<u16>, states: &States) -> Self {
        Self {
            issuer: rule.issuer.as_str().into(),
            audiences: rule.audiences.iter().map(|name| audience(name).into()).collect(),
            keys: Keys::of(rule, states),
            places: Places::of(rule),
            ports,
            forward_token: rule.forward_original_token,
            payload_header: rule.output_payload_to_header.clone(),
            claim_headers: rule.output_claims.as_slice().into(),
            space_delimited: rule.space_delimited_claims.as_slice().into(),
        }
    }

    pub(super) fn is_for(&self, port: u16) -> bool {
        let Lists { values, not_values } = &self.ports;
        (values.is_empty() || values.contains(&port)) && !not_values.contains(&port)
    }

    pub(super) fn fetched_keys(&self) -> Option<(&KeyLocation, Duration, &Arc<FetchedKeys>)> {
        match &self.keys {
            Keys::Inline(_) => None,
            Keys::Fetched { location, timeout, keys } => Some((location, *timeout, keys)),
        }
    }

    pub(super) fn awaits_keys(&self, head: &Parts) -> bool {
        let is_unanswered = self.fetched_keys().is_some_and(|(_, _, keys)| keys.is_unanswered());
        is_unanswered && !self.places.tokens(head).is_empty()
    }

    /// Takes out of `headers` what only this rule may say.
    pub(super) fn clear(&self, headers: &mut HeaderMap) {
        let of_claims = self.claim_headers.iter().map(|output| &output.header);
        for name in self.payload_header.iter().chain(of_claims) {
            headers.remove(name);
        }
    }

    /// Returns whether this rule and `other` look for tokens in the same places.
    pub(super) fn looks_where(&self, other: &Self) -> bool {
        self.places == other.places
    }

    /// Returns whether a good token stays in the request.
    pub(super) fn forwards(&self) -> bool {
        self.forward_token
    }

    /// Takes the tokens out of `head`.
    pub(super) fn clear_tokens(&self, head: &mut Parts) {
        self.places.clear(head);
    }

    /// Takes the tokens out of `head`, but for those that stand where `accepted` looks: it has judged them.
    pub(super) fn clear_tokens_beside(&self, accepted: &Self, head: &mut Parts) {
        self.places.without(&accepted.places).clear(head);
    }

    /// Judges the tokens in this rule's places; what the first one says counts if all are good.
    pub(super) fn judge(&self, head: &Parts, signatures: &impl Signatures, now_seconds: u64) -> Verdict {
        let mut first = Verdict::NoToken;
        for text in self.places.tokens(head) {
            match self.check(&text, signatures, now_seconds) {
                Ok(good) if matches!(first, Verdict::NoToken) => first = Verdict::Good(good),
                Ok(_) => {}
                Err(why) => return Verdict::Bad(why),
            }
        }
        first
    }

    /// The signature comes last: it costs most, and by then the token is known to be this rule's.
    fn check(&self, text: &str, signatures: &impl Signatures, now_seconds: u64) -> Result<Good, TokenFault> {
        let token = Token::parse(text)?;
        if !self.issuer.is_empty() && *token.issuer() != *self.issuer {
            return Err(TokenFault::UnknownIssuer);
        }
        token.check_time(now_seconds)?;
        if !self.is_for_us(&token) {
            return Err(TokenFault::OtherAudience);
        }
        self.keys.known().ok_or(TokenFault::KeysNotFetched)?.check(&token, signatures)?;
        let payload_text = token.payload_text.to_owned();
        Ok(Good { payload: token.payload, payload_text })
    }

    fn is_for_us(&self, token: &Token<'_>) -> bool {
        let is_ours = |name| self.audiences.iter().any(|ours| **ours == *audience(name));
        self.audiences.is_empty() || token.audiences().any(is_ours)
    }

    /// Passes on what the rule is asked to, takes the token out unless it stays, and returns the claims.
    pub(super) fn accept(&self, good: Good, head: &mut Parts) -> Claims {
        let Good { payload, payload_text } = good;
        if !self.forward_token {
            self.clear_tokens(head);
        }
        if let (Some(name), Ok(value)) = (&self.payload_header, HeaderValue::try_from(payload_text)) {
            head.headers.append(name, value);
        }
        for OutputClaim { claim, header } in &self.claim_headers {
            if let Some(value) = text_of(&payload, claim).and_then(|text| HeaderValue::try_from(text).ok()) {
                head.headers.append(header, value);
            }
        }
        Claims::new(payload, &self.space_delimited)
    }
}

impl Keys {
    /// Keys that are written but of no use are none: every token of the rule is refused.
    fn of(rule: &JwtRule, states: &States) -> Self {
        let location = match &rule.keys {
            Some(KeySource::Inline(keys)) => {
                return Self::Inline(Arc::new(KeySet::of(keys.keys()).unwrap_or_default()));
            }
            Some(KeySource::Uri(uri)) => KeyLocation::Uri(uri.to_string().into()),
            None => KeyLocation::Issuer(rule.issuer.as_str().into()),
        };
        let keys = states.keys(&location);
        Self::Fetched { location, timeout: rule.timeout, keys }
    }

    fn known(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Inline(keys) => Some(Arc::clone(keys)),
            Self::Fetched { keys, .. } => keys.known(),
        }
    }
}

/// Returns an audience as audiences are compared: whether it is written as a URL does not matter.
// spec: envoy source/common/jwt/check_audience.cc
fn audience(name: &str) -> &str {
    let name = name.strip_prefix("http://").or_else(|| name.strip_prefix("https://")).unwrap_or(name);
    name.strip_suffix('/').unwrap_or(name)
}

/// Returns the claim at `path`, names joined by dots, as the text of a header; `None` for a list or an object.
// spec: envoy source/extensions/filters/http/jwt_authn/authenticator.cc addJWTClaimToHeader
fn text_of(payload: &Map<String, Value>, path: &str) -> Option<String> {
    let (first, others) = path.split_once('.').map_or((path, None), |(first, others)| (first, Some(others)));
    let mut names = others.into_iter().flat_map(|others| others.split('.'));
    match names.try_fold(payload.get(first)?, |value, name| value.get(name))? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
