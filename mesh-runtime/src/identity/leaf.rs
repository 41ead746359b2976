//! What SPIFFE's rules ask of a certificate, read from its DER. Reads authorities too; verifies nothing.
// spec: RFC 5280 section 4.1, 4.2

use super::der::{BadDer, Reader, tag};
use std::time::{Duration, SystemTime};

/// The facts about a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leaf {
    /// The serial number in hex.
    pub serial: String,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Whether it has a subject. SPIFFE asks for none.
    pub has_subject: bool,
    /// Every URI SAN, as written; other kinds of name are passed over.
    pub uris: Vec<String>,
    /// Whether it may sign certificates: basic constraints, `cA`.
    pub is_ca: bool,
    /// How many intermediate authorities may follow it: basic constraints, `pathLenConstraint`.
    pub path_len: Option<u32>,
    /// The key usage extension, if there is one.
    pub key_usage: Option<KeyUsage>,
    /// The extended key usage extension, if there is one.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// The length of the modulus in bits, of an RSA key.
    pub rsa_bits: Option<usize>,
}

/// The bits of the key usage extension that SPIFFE speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// It may sign handshakes.
    pub digital_signature: bool,
    /// It may sign certificates.
    pub cert_sign: bool,
    /// It may sign revocation lists.
    pub crl_sign: bool,
}

/// The purposes of the extended key usage extension that SPIFFE speaks of; with none of them, it names others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// It may stand for a server.
    pub server_auth: bool,
    /// It may stand for a client.
    pub client_auth: bool,
}

/// Why a certificate does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// It is no DER, or something follows it.
    #[error("it is no DER-encoded certificate")]
    Structure,
    /// It is not of version 3, without which there are no extensions.
    #[error("it is not of X.509 version 3")]
    Version,
    /// The serial number is negative, not in its shortest form, or longer than 64 bytes.
    #[error("its serial number does not read")]
    Serial,
    /// The public key has not the structure of one.
    #[error("its public key does not read")]
    Key,
    /// The validity is no pair of times.
    #[error("its validity does not read")]
    Validity,
    /// An extension occurs twice, or there are more than 64.
    #[error("an extension occurs twice, or there are more than {EXTENSIONS_MAX}")]
    Extensions,
    /// One of the extensions that matter does not read.
    #[error("its extension {0} does not read")]
    Extension(&'static str),
}

impl From<BadDer> for LeafError {
    fn from(_: BadDer) -> Self {
        Self::Structure
    }
}

impl Leaf {
    /// Reads a certificate. Returns an error, never panics, whatever the bytes are.
    ///
    /// # Errors
    ///
    /// Returns what does not read.
    pub fn parse(der: &[u8]) -> Result<Self, LeafError> {
        let mut certificate = Reader::new(der).only(tag::SEQUENCE)?;
        let mut tbs = certificate.inside(tag::SEQUENCE)?;
        certificate.inside(tag::SEQUENCE)?; // signatureAlgorithm
        certificate.value(tag::BIT_STRING)?; // signature
        certificate.end()?;

        if tbs.inside(tag::context_constructed(0))?.only_unsigned() != Some(&[VERSION_3]) {
            return Err(LeafError::Version);
        }
        let serial = tbs.unsigned().ok().filter(|serial| serial.len() <= SERIAL_LEN_MAX);
        let serial = hex(serial.ok_or(LeafError::Serial)?);
        tbs.inside(tag::SEQUENCE)?; // signature
        tbs.inside(tag::SEQUENCE)?; // issuer
        let (not_before, not_after) = validity(tbs.inside(tag::SEQUENCE)?).ok_or(LeafError::Validity)?;
        let has_subject = !tbs.inside(tag::SEQUENCE)?.is_empty();
        let rsa_bits = rsa_bits(tbs.inside(tag::SEQUENCE)?).map_err(|_| LeafError::Key)?;
        let extensions = tbs.optional(tag::context_constructed(3))?;
        tbs.end()?;

        let mut leaf = Self {
            serial,
            not_before,
            not_after,
            has_subject,
            uris: Vec::new(),
            is_ca: false,
            path_len: None,
            key_usage: None,
            extended_key_usage: None,
            rsa_bits,
        };
        if let Some(extensions) = extensions {
            leaf.read_extensions(Reader::new(extensions).only(tag::SEQUENCE)?)?;
        }
        Ok(leaf)
    }

    fn read_extensions(&mut self, mut extensions: Reader<'_>) -> Result<(), LeafError> {
        let mut seen = Vec::new();
        while !extensions.is_empty() {
            let mut extension = extensions.inside(tag::SEQUENCE)?;
            let oid = extension.value(tag::OID)?;
            extension.boolean_or_false()?; // critical: the chain builder's to enforce
            let content = extension.value(tag::OCTET_STRING)?;
            extension.end()?;
            if seen.contains(&oid) || seen.len() == EXTENSIONS_MAX {
                return Err(LeafError::Extensions);
            }
            seen.push(oid);
            self.read_extension(oid, Reader::new(content))?;
        }
        Ok(())
    }

    fn read_extension(&mut self, oid: &[u8], content: Reader<'_>) -> Result<(), LeafError> {
        match oid {
            BASIC_CONSTRAINTS => {
                (self.is_ca, self.path_len) =
                    basic_constraints(content).map_err(|_| LeafError::Extension("basicConstraints"))?;
            }
            KEY_USAGE => {
                self.key_usage = Some(key_usage(content).map_err(|_| LeafError::Extension("keyUsage"))?);
            }
            EXTENDED_KEY_USAGE => {
                self.extended_key_usage =
                    Some(extended_key_usage(content).map_err(|_| LeafError::Extension("extKeyUsage"))?);
            }
            SUBJECT_ALT_NAME => {
                self.uris = uris(content).map_err(|_| LeafError::Extension("subjectAltName"))?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Reader<'a> {
    fn only_unsigned(mut self) -> Option<&'a [u8]> {
        let number = self.unsigned().ok()?;
        self.end().ok().map(|()| number)
    }
}

/// Returns the length of the modulus, if the key in this SubjectPublicKeyInfo is one of RSA.
// spec: RFC 3279 section 2.3.1
fn rsa_bits(mut info: Reader<'_>) -> Result<Option<usize>, BadDer> {
    let algorithm = info.inside(tag::SEQUENCE)?.value(tag::OID)?;
    let key = info.value(tag::BIT_STRING)?;
    info.end()?;
    if algorithm != RSA_ENCRYPTION {
        return Ok(None);
    }
    let [0, key @ ..] = key else { return Err(BadDer) };
    let modulus = Reader::new(key).only(tag::SEQUENCE)?.unsigned()?;
    let leading = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    Ok(Some(modulus.len() * 8 - leading))
}

// spec: RFC 5280 section 4.2.1.9
fn basic_constraints(content: Reader<'_>) -> Result<(bool, Option<u32>), BadDer> {
    let mut constraints = content.only(tag::SEQUENCE)?;
    let is_ca = constraints.boolean_or_false()?;
    let path_len = match constraints.is_empty() {
        true => None,
        false => Some(small_number(constraints.unsigned()?)),
    };
    constraints.end()?;
    Ok((is_ca, path_len))
}

/// Returns a number, or the largest there is for a larger one.
fn small_number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |number, &byte| number.saturating_mul(256).saturating_add(byte.into()))
}

// spec: RFC 5280 section 4.2.1.3: bit 0 is the highest of the first byte
fn key_usage(mut content: Reader<'_>) -> Result<KeyUsage, BadDer> {
    let bits = content.value(tag::BIT_STRING)?;
    content.end()?;
    let (first, unused) = match bits {
        [0] => (0, 0),
        [unused @ 0..=7, first, ..] => (*first, *unused),
        _ => return Err(BadDer),
    };
    // Bits declared unused must be zero, or two readers could see two usages.
    let padding = bits.last().copied().unwrap_or(0) & !(0xff << unused);
    if bits.len() > 1 && padding != 0 {
        return Err(BadDer);
    }
    Ok(KeyUsage {
        digital_signature: first & 0x80 != 0,
        cert_sign: first & 0x04 != 0,
        crl_sign: first & 0x02 != 0,
    })
}

// spec: RFC 5280 section 4.2.1.12
fn extended_key_usage(content: Reader<'_>) -> Result<ExtendedKeyUsage, BadDer> {
    let mut purposes = content.only(tag::SEQUENCE)?;
    if purposes.is_empty() {
        return Err(BadDer);
    }
    let mut usage = ExtendedKeyUsage { server_auth: false, client_auth: false };
    while !purposes.is_empty() {
        match purposes.value(tag::OID)? {
            SERVER_AUTH => usage.server_auth = true,
            CLIENT_AUTH => usage.client_auth = true,
            _ => {}
        }
    }
    Ok(usage)
}

// spec: RFC 5280 section 4.2.1.6
fn uris(content: Reader<'_>) -> Result<Vec<String>, BadDer> {
    const URI: u8 = tag::context(6);
    let mut names = content.only(tag::SEQUENCE)?;
    let mut uris = Vec::new();
    while !names.is_empty() {
        match names.any()? {
            // An IA5String is ASCII. What is not cannot be shown to be the same text to everybody.
            (URI, uri) if uri.is_ascii() => uris.push(uri.iter().map(|&byte| char::from(byte)).collect()),
            (kind, _) if OTHER_NAMES.contains(&kind) => {}
            _ => return Err(BadDer),
        }
    }
    Ok(uris)
}

fn validity(mut validity: Reader<'_>) -> Option<(SystemTime, SystemTime)> {
    let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
    validity.end().ok()?;
    (not_before <= not_after).then_some((not_before, not_after))
}

/// Reads `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
// spec: RFC 5280 section 4.1.2.5
fn time(reader: &mut Reader<'_>) -> Option<SystemTime> {
    let (kind, text) = reader.any().ok()?;
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let pair =
        |at: usize| Some(i64::from(digits.get(at)? - b'0') * 10 + i64::from(digits.get(at + 1)? - b'0'));
    let (year, rest) = match (kind, digits.len()) {
        (tag::UTC_TIME, 12) => match pair(0)? {
            year @ 50.. => (1900 + year, 2),
            year => (2000 + year, 2),
        },
        (tag::GENERALIZED_TIME, 14) => (pair(0)? * 100 + pair(2)?, 4),
        _ => return None,
    };
    let [month, day, hour, minute, second] =
        [pair(rest)?, pair(rest + 2)?, pair(rest + 4)?, pair(rest + 6)?, pair(rest + 8)?];
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    match seconds {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    }
}

/// Returns the days from 1970-01-01 to a date of the Gregorian calendar. Counts years from March, so that the day that
/// comes and goes is a year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_FROM_YEAR_0_TO_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + day_of_year - DAYS_FROM_YEAR_0_TO_1970
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const VERSION_3: u8 = 2;

// RFC 5280 allows 20 bytes; some authorities write more, and nothing here depends on it.
const SERIAL_LEN_MAX: usize = 64;

// Real certificates have about ten. Bounds the search for a second one of a kind.
const EXTENSIONS_MAX: usize = 64;

// 2.5.29.19, .15, .37, .17
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

// 1.3.6.1.5.5.7.3.1, .2
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

// otherName, rfc822Name, dNSName, x400Address, directoryName, ediPartyName, iPAddress, registeredID
const OTHER_NAMES: [u8; 8] = [
    tag::context_constructed(0),
    tag::context(1),
    tag::context(2),
    tag::context_constructed(3),
    tag::context_constructed(4),
    tag::context_constructed(5),
    tag::context(7),
    tag::context(8),
];

#[cfg(test)]
mod tests;
