//! RequestAuthentication: which tokens of end users are good.
//!
//! It says what is written; what that means of a token is said in `authenticate`.
// spec: istio security/v1beta1/request_authentication.proto

use super::{
    common::WorkloadSelector,
    policy_target::{self, PolicyTarget},
};
use crate::{
    authenticate::KeySet,
    config::{
        decode::{self, Decoder, Fields, flag, lasting, name, shortened, text},
        diagnostic::{Code, Diagnostic},
        tree::Node,
    },
};
use http::{HeaderName, Uri};
use serde_json::Value;
use std::{fmt, sync::Arc, time::Duration};

/// `spec` of a RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestAuthentication {
    /// `selector`; `None` means the namespace, or the mesh if it stands in the root namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef` and `targetRefs`; with any of them it applies to no workload.
    pub targets: Vec<PolicyTarget>,
    /// `jwtRules`. A token must be good by the rule of its issuer; a request without a token is let through.
    pub rules: Vec<JwtRule>,
}

/// Which tokens of one issuer are good, where they stand, and what is passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtRule {
    /// `issuer`; empty is any.
    pub issuer: String,
    /// `audiences`, one of which the token must name; empty is any.
    pub audiences: Vec<String>,
    /// Where the keys come from; `None` is the issuer's own discovery document.
    pub keys: Option<KeySource>,
    /// `fromHeaders`. With no place named at all it is `Authorization: Bearer`, then the parameter `access_token`.
    pub from_headers: Vec<TokenHeader>,
    /// `fromParams`.
    pub from_params: Vec<String>,
    /// `fromCookies`.
    pub from_cookies: Vec<String>,
    /// `forwardOriginalToken`: whether the handler sees the token. Default: false.
    pub forward_original_token: bool,
    /// `outputPayloadToHeader`: the header that takes the payload, in base64url.
    pub output_payload_to_header: Option<HeaderName>,
    /// `outputClaimToHeaders`.
    pub output_claims: Vec<OutputClaim>,
    /// `timeout` of fetching the keys. Default: 5 s, Istio's.
    pub timeout: Duration,
    /// `spaceDelimitedClaims`, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}

/// Where the keys of a rule come from.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// `jwks`: they stand in the rule.
    Inline(Jwks),
    /// `jwksUri`: they are fetched from there.
    Uri(Uri),
}

/// A JSON Web Key Set. Its `Debug` says how many keys it has, and none of them.
// spec: RFC 7517 5
#[derive(Clone, PartialEq)]
pub struct Jwks(Arc<Vec<Value>>);

/// An entry of `fromHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    /// `name`.
    pub name: HeaderName,
    /// `prefix`, what stands before the token.
    pub prefix: String,
}

/// An entry of `outputClaimToHeaders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputClaim {
    /// `claim`, names of nested ones joined by `.`.
    pub claim: String,
    /// `header`.
    pub header: HeaderName,
}

impl RequestAuthentication {
    // spec: istio pkg/config/validation ValidateRequestAuthentication
    pub(crate) fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let (selector, targets) = policy_target::read(&mut fields);
        let rules = fields.list("jwtRules", JwtRule::read);
        fields.finish();
        Some(Self { selector, targets, rules })
    }
}

impl JwtRule {
    // spec: istio pkg/config/validation validateJwtRule
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let issuer = fields.get("issuer", text).unwrap_or_default();
        let audiences = fields.list("audiences", name);
        let keys = KeySource::read(&mut fields);
        if issuer.is_empty() && !fields.has("jwks") && !fields.has("jwksUri") {
            let at = fields.at;
            fields.decoder.refuse(at, "one of issuer, jwks and jwksUri must be set");
        }
        let rule = Self {
            issuer,
            audiences,
            keys,
            from_headers: fields.list("fromHeaders", TokenHeader::read),
            from_params: fields.list("fromParams", name),
            from_cookies: fields.list("fromCookies", name),
            forward_original_token: fields.get("forwardOriginalToken", flag).unwrap_or_default(),
            output_payload_to_header: fields.get("outputPayloadToHeader", optional_header).flatten(),
            output_claims: fields.list("outputClaimToHeaders", OutputClaim::read),
            timeout: fields.get("timeout", lasting).unwrap_or(TIMEOUT),
            space_delimited_claims: fields.list("spaceDelimitedClaims", name),
        };
        fields.finish();
        Some(rule)
    }

    /// Reads a `jwt` of Istio 1.3, which always passes the token on.
    // spec: istio 1.3.0 authentication/v1alpha1/policy.proto Jwt; pkg/config/validation validateJwt
    pub(super) fn read_legacy<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let issuer = fields.require("issuer", name);
        let audiences = fields.list("audiences", name);
        let keys = KeySource::read(&mut fields);
        let from_headers = fields.list("jwtHeaders", |decoder, node| {
            Some(TokenHeader { name: header(decoder, node)?, prefix: String::new() })
        });
        let from_params = fields.list("jwtParams", name);
        fields.unsupported(&[("triggerRules", "tokens would be demanded on other paths than it says")]);
        fields.finish();
        Some(Self {
            issuer: issuer?,
            audiences,
            keys,
            from_headers,
            from_params,
            forward_original_token: true,
            ..Self::default()
        })
    }
}

/// The rule that says nothing: anybody's tokens, by keys that nobody names.
impl Default for JwtRule {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            keys: None,
            from_headers: Vec::new(),
            from_params: Vec::new(),
            from_cookies: Vec::new(),
            forward_original_token: false,
            output_payload_to_header: None,
            output_claims: Vec::new(),
            timeout: TIMEOUT,
            space_delimited_claims: Vec::new(),
        }
    }
}

impl KeySource {
    fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let inline = fields.get("jwks", Jwks::read).flatten();
        let uri = fields.get("jwksUri", jwks_uri).flatten();
        if inline.is_some() && uri.is_some() {
            fields.refuse("jwksUri", "`jwks` and `jwksUri` exclude each other");
        }
        inline.map(Self::Inline).or(uri.map(Self::Uri))
    }
}

impl Jwks {
    /// Returns the keys, each a JSON object with the field `kty`.
    pub fn keys(&self) -> &[Value] {
        &self.0
    }

    /// Reads a text that holds a key set; an empty one is none. What is wrong is said without its words: they are keys.
    fn read(decoder: &mut Decoder<'_>, node: &Node) -> Option<Option<Self>> {
        let text = decode::borrowed(decoder, node)?;
        if text.is_empty() {
            return Some(None);
        }
        let parsed = Self::parse(text);
        match &parsed {
            Err(why) => {
                let finding = Diagnostic::error(Code::SCHEMA, format!("not a JSON Web Key Set: {why}"));
                decoder.find(node.at, finding.help("write JSON such as {\"keys\": [{\"kty\": \"RSA\", …}]}"));
            }
            Ok(keys) => {
                if let Err(why) = KeySet::of(keys.keys()) {
                    let message = format!("no token is good by this key set: {why}");
                    decoder.find(node.at, Diagnostic::warning(Code::SECURITY_NOTE, message));
                }
            }
        }
        parsed.ok().map(Some)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let Ok(Value::Object(mut set)) = serde_json::from_str(text) else { return Err("not a JSON object") };
        let Some(Value::Array(keys)) = set.remove("keys") else { return Err("it has no list `keys`") };
        match keys.iter().all(|key| key.get("kty").is_some_and(Value::is_string)) {
            true => Ok(Self(Arc::new(keys))),
            false => Err("one of its keys has no `kty`"),
        }
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({} keys)", self.0.len())
    }
}

/// Reads an `http` or `https` URI; an empty one is none.
// spec: istio pkg/config/security ParseJwksURI
fn jwks_uri(decoder: &mut Decoder<'_>, node: &Node) -> Option<Option<Uri>> {
    let text = decode::borrowed(decoder, node)?;
    if text.is_empty() {
        return Some(None);
    }
    let is_fetchable = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    };
    match text.parse().ok().filter(is_fetchable) {
        Some(uri) => Some(Some(uri)),
        None => {
            let finding =
                Diagnostic::error(Code::SCHEMA, format!("`{}` is not the URI of keys", shortened(text)));
            decoder.find(node.at, finding.help("write https://host/path"));
            None
        }
    }
}

impl TokenHeader {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let name = fields.require("name", header);
        let prefix = fields.get("prefix", text).unwrap_or_default();
        fields.finish();
        Some(Self { name: name?, prefix })
    }
}

impl OutputClaim {
    fn read<'n>(decoder: &mut Decoder<'n>, node: &'n Node) -> Option<Self> {
        let mut fields = decoder.fields(node)?;
        let header = fields.require("header", header);
        let claim = fields.require("claim", name);
        fields.finish();
        Some(Self { claim: claim?, header: header? })
    }
}

fn optional_header(decoder: &mut Decoder<'_>, node: &Node) -> Option<Option<HeaderName>> {
    match decode::borrowed(decoder, node)? {
        "" => Some(None),
        _ => header(decoder, node).map(Some),
    }
}

fn header(decoder: &mut Decoder<'_>, node: &Node) -> Option<HeaderName> {
    let text = name(decoder, node)?;
    let header = HeaderName::from_bytes(text.as_bytes()).ok();
    if header.is_none() {
        decoder.refuse(node.at, format!("`{}` is not the name of a header", shortened(&text)));
    }
    header
}

/// Istio's bound of fetching keys.
// spec: istio security/v1beta1/request_authentication.proto JWTRule.timeout
const TIMEOUT: Duration = Duration::from_secs(5);
