//! Making and checking bearers: join tokens for the first contact, renewals for later ones where TLS cannot say who calls.
//!
//! Form: `PREFIX.<base64url of the JSON claims>.<base64url of HMAC-SHA256 over what stands before>`. The prefix is under
//! the tag, so that neither kind passes for the other.

use crate::{ControlError, authority, data::DataDir};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use mesh_runtime::control::{name, token::Claims};
use ring::hmac;
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// What a join token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAsk {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// Services it may register beside the one of its own name.
    pub services: Vec<String>,
    /// How long it is good for. Default 1 h; at most a year.
    pub ttl: Duration,
}

/// Makes a join token with the secrets of the data directory `data`, creating them if it is new. Works before the
/// endpoint runs and while it does.
///
/// # Errors
///
/// Returns what in the directory cannot be read or written, or which name in `ask` is not valid.
pub fn mint_token(data: &Path, ask: &TokenAsk) -> Result<String, ControlError> {
    mint_in(&DataDir::open(data)?, ask)
}

fn mint_in(data: &DataDir, ask: &TokenAsk) -> Result<String, ControlError> {
    mint(&TokenKey::open(data)?, &authority::pin(data)?, ask, SystemTime::now())
}

/// Makes a token for one question to the endpoint that runs on the data directory `data`: its holder is the operator,
/// and sees all namespaces. Good for a minute.
///
/// # Errors
///
/// As [`mint_token`]; and if `data` is no data directory, for no question founds an authority.
pub fn operator_token(data: &Path) -> Result<String, ControlError> {
    let data = DataDir::open_existing(data)?;
    let (namespace, service_account) = OPERATOR;
    let ask = TokenAsk {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        services: Vec::new(),
        ttl: Duration::from_secs(60),
    };
    mint_in(&data, &ask)
}

/// Namespace and account of the operator.
pub(crate) const OPERATOR: (&str, &str) = ("mesh-system", "meshctl");

/// Makes a join token for the authority with this `pin`.
pub(crate) fn mint(
    key: &TokenKey,
    pin: &str,
    ask: &TokenAsk,
    now: SystemTime,
) -> Result<String, ControlError> {
    validate(ask).map_err(ControlError::Invalid)?;
    let claims = Claims {
        namespace: ask.namespace.clone(),
        service_account: ask.service_account.clone(),
        services: ask.services.clone(),
        expires: unix(now + ask.ttl),
        ca_sha256: pin.to_owned(),
        nonce: crate::random_hex::<16>()?,
    };
    Ok(key.seal(Purpose::Join, &claims))
}

fn validate(ask: &TokenAsk) -> Result<(), String> {
    name::label("namespace", &ask.namespace)?;
    name::subdomain("service account", &ask.service_account)?;
    for service in &ask.services {
        name::label("service", service)?;
    }
    if ask.services.len() > SERVICES_MAX {
        return Err(format!("{} services in one token; at most {SERVICES_MAX}", ask.services.len()));
    }
    if !(Duration::from_secs(1)..=TTL_MAX).contains(&ask.ttl) {
        return Err(format!("a ttl of {:?}; write 1s to {} days", ask.ttl, TTL_MAX.as_secs() / 86400));
    }
    Ok(())
}

/// What a bearer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first contact; made by an operator.
    Join,
    /// Everything after it, over plain HTTP; made with each certificate.
    Renewal,
}

/// The secret that makes bearers genuine.
#[derive(Debug)]
pub(crate) struct TokenKey(hmac::Key);

/// Why a bearer is not honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BearerError {
    #[error("the bearer is malformed ({0}); make a join token with `meshctl token`")]
    Malformed(&'static str),
    #[error(
        "the token is for the CA {theirs}, and this endpoint's is {ours}: it was made with another data directory; make \
         one with `meshctl token --data` and the directory this endpoint runs on"
    )]
    OtherAuthority { theirs: String, ours: String },
    #[error("the token was not made by this endpoint, or was altered since; make one with `meshctl token`")]
    NotGenuine,
    #[error(
        "the token for {namespace}/{service_account} expired {ago} s ago by this endpoint's clock; make one with \
         `meshctl token`"
    )]
    Expired { namespace: String, service_account: String, ago: u64 },
}

impl TokenKey {
    /// Returns the key of the data directory, which is created if it is not there.
    pub(crate) fn open(data: &DataDir) -> Result<Self, ControlError> {
        let secret = match data.read_secret(KEY_FILE)? {
            Some(secret) => secret,
            None => data.create_secret(KEY_FILE, &*Zeroizing::new(crate::random::<32>()?))?,
        };
        // A file cut short by a full disk must not become a key that is easy to guess.
        if secret.len() != 32 {
            let path = data.path(KEY_FILE);
            return Err(ControlError::Data(format!(
                "{}: {} bytes instead of 32; delete it and make new tokens",
                path.display(),
                secret.len()
            )));
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
    }

    /// Returns a bearer that says `claims`.
    pub(crate) fn seal(&self, purpose: Purpose, claims: &Claims) -> String {
        // Strings and numbers always serialise.
        let json = serde_json::to_vec(claims).unwrap_or_default();
        let signed = format!("{}.{}", purpose.prefix(), BASE64.encode(json));
        let tag = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", BASE64.encode(tag))
    }

    /// Returns what a genuine bearer says, if it is still good at `now`. `pins` are those of the authorities that stand.
    pub(crate) fn check(
        &self,
        text: &str,
        pins: &[String],
        now: SystemTime,
    ) -> Result<(Purpose, Claims), BearerError> {
        let (purpose, signed, claims, tag) = split(text)?;
        let is_ours = pins.contains(&claims.ca_sha256);
        let other = || BearerError::OtherAuthority {
            theirs: short(&claims.ca_sha256),
            ours: pins.first().map(|pin| short(pin)).unwrap_or_default(),
        };
        if hmac::verify(&self.0, signed.as_bytes(), &tag).is_err() {
            // The pin is not proven either, but it is the best hint at what went wrong, and says nothing secret.
            return Err(if is_ours { BearerError::NotGenuine } else { other() });
        }
        if !is_ours {
            return Err(other());
        }
        match unix(now).checked_sub(claims.expires) {
            None => Ok((purpose, claims)),
            Some(ago) => Err(BearerError::Expired {
                namespace: claims.namespace,
                service_account: claims.service_account,
                ago,
            }),
        }
    }
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Join, Self::Renewal];

    fn prefix(self) -> &'static str {
        match self {
            Self::Join => "mesh1",
            Self::Renewal => "mesh1r",
        }
    }
}

fn split(text: &str) -> Result<(Purpose, &str, Claims, Vec<u8>), BearerError> {
    let malformed = BearerError::Malformed;
    let (signed, tag) = text.rsplit_once('.').ok_or(malformed("no dots"))?;
    let (prefix, claims) = signed.split_once('.').ok_or(malformed("one dot"))?;
    let purpose = Purpose::ALL
        .into_iter()
        .find(|purpose| purpose.prefix() == prefix)
        .ok_or(malformed("it does not begin with `mesh1.`"))?;
    let claims = BASE64.decode(claims).map_err(|_| malformed("its claims are not base64url"))?;
    let claims = serde_json::from_slice(&claims).map_err(|_| malformed("its claims do not read"))?;
    let tag = BASE64.decode(tag).map_err(|_| malformed("its tag is not base64url"))?;
    Ok((purpose, signed, claims, tag))
}

/// Returns `time` in seconds since 1970.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns enough of a fingerprint to tell two apart; it may come from anybody.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().filter(char::is_ascii_hexdigit).take(16).collect()
}

const KEY_FILE: &str = "token.key";
/// A bearer must fit into a header.
const SERVICES_MAX: usize = 64;
/// Revocation is by expiry only, so that nothing lives for ever.
const TTL_MAX: Duration = Duration::from_secs(365 * 86400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_is_honoured_only_if_whole_genuine_and_in_time() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = TokenKey::open(&DataDir::open(dir.path()).unwrap()).unwrap();
        let foreign = TokenKey::open(&DataDir::open(other.path()).unwrap()).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let claims = claims(1_060, "aa11");
        let good = key.seal(Purpose::Join, &claims);
        let (head, tag) = good.rsplit_once('.').unwrap();
        let admin = Claims { namespace: "admin".into(), ..claims.clone() };
        let forged_claims = key.seal(Purpose::Join, &admin);
        let forged = format!("{}.{tag}", forged_claims.rsplit_once('.').unwrap().0);

        let check = |text: &str| key.check(text, &["aa11".to_owned()], now);
        assert_eq!(check(&good), Ok((Purpose::Join, claims.clone())));
        assert_eq!(check(&key.seal(Purpose::Renewal, &claims)).unwrap().0, Purpose::Renewal);
        let table = [
            (forged, BearerError::NotGenuine),
            (foreign.seal(Purpose::Join, &claims), BearerError::NotGenuine),
            (format!("{head}."), BearerError::NotGenuine),
            (format!("{head}.{}", &tag[..tag.len() - 3]), BearerError::NotGenuine),
            (good.replace("mesh1.", "mesh1r."), BearerError::NotGenuine),
            (
                foreign.seal(Purpose::Join, &self::claims(1_060, "bb22")),
                BearerError::OtherAuthority { theirs: "bb22".into(), ours: "aa11".into() },
            ),
            (
                key.seal(Purpose::Join, &self::claims(1_060, "bb22")),
                BearerError::OtherAuthority { theirs: "bb22".into(), ours: "aa11".into() },
            ),
            (
                key.seal(Purpose::Join, &self::claims(1_000, "aa11")),
                BearerError::Expired { namespace: "shop".into(), service_account: "cart".into(), ago: 0 },
            ),
            (
                key.seal(Purpose::Join, &self::claims(990, "aa11")),
                BearerError::Expired { namespace: "shop".into(), service_account: "cart".into(), ago: 10 },
            ),
            ("".into(), BearerError::Malformed("no dots")),
            ("mesh1.x".into(), BearerError::Malformed("one dot")),
            (good.replace("mesh1.", "mesh2."), BearerError::Malformed("it does not begin with `mesh1.`")),
            ("mesh1.!.x".into(), BearerError::Malformed("its claims are not base64url")),
            ("mesh1.e30.x".into(), BearerError::Malformed("its claims do not read")),
            (format!("{head}.!"), BearerError::Malformed("its tag is not base64url")),
        ];
        for (row, (text, expected)) in table.into_iter().enumerate() {
            assert_eq!(check(&text), Err(expected), "row {row}");
        }
    }

    #[test]
    fn a_token_is_made_for_valid_names_only() {
        let dir = tempfile::tempdir().unwrap();
        let good = ask("shop", "cart.v2", &["cart"], 60);
        let token = mint_token(dir.path(), &good).unwrap();
        assert!(token.starts_with("mesh1."));
        assert_ne!(token, mint_token(dir.path(), &good).unwrap(), "two tokens are equal");
        for (bad, what) in [
            (ask("Shop", "cart", &[], 60), "namespace"),
            (ask("shop/x", "cart", &[], 60), "namespace"),
            (ask("shop", "", &[], 60), "service account"),
            (ask("shop", "cart", &["a.b"], 60), "service"),
            (ask("shop", "cart", &[], 0), "ttl"),
            (ask("shop", "cart", &[], 400 * 86400), "ttl"),
        ] {
            let error = mint_token(dir.path(), &bad).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_token_key_that_was_cut_short_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.create_secret(KEY_FILE, b"").unwrap();
        assert!(TokenKey::open(&data).unwrap_err().to_string().contains("0 bytes instead of 32"));
    }

    fn claims(expires: u64, pin: &str) -> Claims {
        Claims {
            namespace: "shop".into(),
            service_account: "cart".into(),
            services: Vec::new(),
            expires,
            ca_sha256: pin.into(),
            nonce: "0".into(),
        }
    }

    fn ask(namespace: &str, account: &str, services: &[&str], ttl: u64) -> TokenAsk {
        TokenAsk {
            namespace: namespace.into(),
            service_account: account.into(),
            services: services.iter().map(|service| (*service).to_owned()).collect(),
            ttl: Duration::from_secs(ttl),
        }
    }
}
