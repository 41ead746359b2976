//! As much DER as certificates and certificate requests need: a strict reader over a slice, and a writer. Nothing here
//! knows what the values mean.
// spec: ITU-T X.690 sections 8 to 11

/// Tags of the universal class, and the constructor of context-specific ones.
pub(super) mod tag {
    pub(in super::super) const BOOLEAN: u8 = 0x01;
    pub(in super::super) const INTEGER: u8 = 0x02;
    pub(in super::super) const BIT_STRING: u8 = 0x03;
    pub(in super::super) const OCTET_STRING: u8 = 0x04;
    pub(in super::super) const OID: u8 = 0x06;
    pub(in super::super) const UTC_TIME: u8 = 0x17;
    pub(in super::super) const GENERALIZED_TIME: u8 = 0x18;
    pub(in super::super) const SEQUENCE: u8 = 0x30;
    pub(in super::super) const SET: u8 = 0x31;

    pub(in super::super) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    pub(in super::super) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// The bytes are no DER, or not the DER expected there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadDer;

/// What is left to be read. Every read either consumes a whole value or fails.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails unless everything has been read.
    pub(super) fn end(&self) -> Result<(), BadDer> {
        if self.is_empty() { Ok(()) } else { Err(BadDer) }
    }

    /// Reads any value: its tag and its content.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), BadDer> {
        let (&tag, rest) = self.0.split_first().ok_or(BadDer)?;
        // Tag numbers above 30 take several bytes, and nothing in a certificate has one.
        if tag & 0x1f == 0x1f {
            return Err(BadDer);
        }
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length).ok_or(BadDer)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// Reads any value whole: with its tag and its length.
    #[cfg(feature = "spiffe")]
    pub(super) fn whole(&mut self) -> Result<&'a [u8], BadDer> {
        let all = self.0;
        self.any()?;
        all.get(..all.len() - self.0.len()).ok_or(BadDer)
    }

    /// Reads a value with this tag.
    pub(super) fn value(&mut self, expected: u8) -> Result<&'a [u8], BadDer> {
        match self.any()? {
            (tag, content) if tag == expected => Ok(content),
            _ => Err(BadDer),
        }
    }

    /// Reads a value with this tag if one stands here.
    pub(super) fn optional(&mut self, expected: u8) -> Result<Option<&'a [u8]>, BadDer> {
        match self.0.first() {
            Some(&tag) if tag == expected => self.value(expected).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads a constructed value with this tag and returns a reader of its content.
    pub(super) fn inside(&mut self, expected: u8) -> Result<Self, BadDer> {
        self.value(expected).map(Self)
    }

    /// Reads a constructed value that is all there is.
    pub(super) fn only(mut self, expected: u8) -> Result<Self, BadDer> {
        let inside = self.inside(expected)?;
        self.end()?;
        Ok(inside)
    }

    /// Reads a BOOLEAN that may be left out, and is then false. An explicit false is not DER, but common.
    pub(super) fn boolean_or_false(&mut self) -> Result<bool, BadDer> {
        match self.optional(tag::BOOLEAN)? {
            None | Some([0x00]) => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(BadDer),
        }
    }

    /// Reads the content of an INTEGER that is not negative, without leading zeros.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], BadDer> {
        match self.value(tag::INTEGER)? {
            [] | [0x80..=0xff, ..] => Err(BadDer),
            [0] => Ok(&[0]),
            [0, second, ..] if *second < 0x80 => Err(BadDer),
            [0, rest @ ..] => Ok(rest),
            all => Ok(all),
        }
    }
}

/// Reads a length in its shortest form, of at most three bytes: 16 MiB is more than TLS carries.
fn length(bytes: &[u8]) -> Result<(usize, &[u8]), BadDer> {
    let (length, rest, shortest) = match bytes {
        [short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest, 0),
        [0x81, a, rest @ ..] => (usize::from(*a), rest, 0x80),
        [0x82, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest, 0x100),
        [0x83, a, b, c, rest @ ..] => {
            let length = usize::from(*a) << 16 | usize::from(u16::from_be_bytes([*b, *c]));
            (length, rest, 0x1_0000)
        }
        _ => return Err(BadDer),
    };
    if length < shortest { Err(BadDer) } else { Ok((length, rest)) }
}

/// Returns a value: tag, length, and the parts as its content.
pub(super) fn value(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut der = Vec::with_capacity(length + 6);
    der.push(tag);
    let bytes = length.to_be_bytes();
    let significant = &bytes[bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len() - 1)..];
    match significant {
        [short @ 0..=0x7f] => der.push(*short),
        // At most eight bytes of length, so this cannot run into the reserved values.
        long => {
            der.push(0x80 | long.len() as u8);
            der.extend_from_slice(long);
        }
    }
    parts.iter().for_each(|part| der.extend_from_slice(part));
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_that_is_not_the_shortest_is_refused() {
        for bytes in [
            &[0x04, 0x80, 0, 0][..],
            &[0x04, 0x81, 0x01, 0xaa],
            &[0x04, 0x82, 0x00, 0x01, 0xaa],
            &[0x04, 0x83, 0x00, 0x00, 0x01, 0xaa],
            &[0x04, 0x84, 0x00, 0x00, 0x00, 0x01, 0xaa],
            &[0x04, 0x02, 0xaa],
            &[0x1f, 0x01, 0xaa],
            &[0x04],
            &[],
        ] {
            assert_eq!(Reader::new(bytes).any(), Err(BadDer), "{bytes:02x?}");
        }
    }

    #[test]
    fn an_integer_has_one_form() {
        for (content, number) in [
            (&[0][..], Some(&[0][..])),
            (&[1], Some(&[1])),
            (&[0, 0x80], Some(&[0x80])),
            (&[0, 0x7f], None),
            (&[0, 0], None),
            (&[0x80], None),
            (&[], None),
        ] {
            let der = value(tag::INTEGER, &[content]);
            assert_eq!(Reader::new(&der).unsigned().ok(), number, "{content:02x?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let der = value(tag::OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&der);
            prop_assert_eq!(reader.value(tag::OCTET_STRING), Ok(&content[..]));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.any().is_ok() {}
            let _ = Reader::new(&bytes).unsigned();
            let _ = Reader::new(&bytes).boolean_or_false();
        }
    }
}
