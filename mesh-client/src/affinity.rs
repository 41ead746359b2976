//! What keeps a call with others at one endpoint: its hash, and the cookie its caller is given for the next time.

use http::{HeaderMap, HeaderValue, Request, header::SET_COOKIE};
use mesh_core::{
    balance::{HashInput, HashSource, Hashed},
    dice::Dice,
};
use std::net::{IpAddr, Ipv6Addr};

/// The hash of one call, the same for each of its attempts.
#[derive(Debug, Default)]
pub(crate) struct Affinity {
    pub(crate) hash: Option<u64>,
    new_cookie: Option<HeaderValue>,
}

/// What stands for the address of a client where the source address is hashed.
///
/// A sidecar hashes the address of its Pod, so that all requests of a Pod go to one endpoint, and those of its sibling to
/// another. The caller in process has no address: a random one, drawn once, has the same effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceAddress(IpAddr);

impl SourceAddress {
    pub(crate) fn draw(dice: &mut impl Dice) -> Self {
        Self(Ipv6Addr::from(u128::from(dice.roll())).into())
    }
}

impl Affinity {
    /// Returns what keeps `request`, as it will be sent, together with others.
    pub(crate) fn of<B>(
        source: Option<&HashSource>,
        request: &Request<B>,
        client: SourceAddress,
        dice: &mut impl Dice,
    ) -> Self {
        let Some(source) = source else { return Self::default() };
        let path_and_query = request.uri().path_and_query().map_or("", |path| path.as_str());
        let hashed = Hashed { headers: request.headers(), path_and_query, source: Some(client.0) };
        match source.input(&hashed) {
            HashInput::Hash(hash) => Self { hash: Some(hash), new_cookie: None },
            HashInput::Missing => Self::default(),
            HashInput::NewCookie(cookie) => {
                let (value, hash) = cookie.draw(dice);
                Self { hash: Some(hash), new_cookie: HeaderValue::try_from(cookie.set(&value)).ok() }
            }
        }
    }

    /// Adds the cookie to the headers of the answer, if one is due.
    pub(crate) fn on_answer(self, headers: &mut HeaderMap) {
        if let Some(cookie) = self.new_cookie {
            headers.append(SET_COOKIE, cookie);
        }
    }
}
