//! A reader of DER, as much of it as certificate requests need. It never looks beyond what it was given, does not
//! recurse, and takes one encoding of each length only.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Der<'a>(&'a [u8]);

/// What is not DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DerError {
    #[error("it ends in the middle of {0}")]
    Truncated(&'static str),
    #[error("{what} has tag {got:#04x} instead of {expected:#04x}")]
    Tag { what: &'static str, expected: u8, got: u8 },
    #[error("{0} has a length that is not DER")]
    Length(&'static str),
    #[error("bytes follow the end of {0}")]
    Trailing(&'static str),
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

impl<'a> Der<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Returns whether nothing is left.
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tag of the next element.
    pub(crate) fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Reads the element called `what`, which must have this `tag`, and returns its content.
    pub(crate) fn read(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], DerError> {
        self.read_whole(tag, what).map(|element| element.content)
    }

    /// Reads the same and opens it.
    pub(crate) fn open(&mut self, tag: u8, what: &'static str) -> Result<Self, DerError> {
        self.read(tag, what).map(Self)
    }

    /// Reads the element called `what`, and returns it with and without its head.
    pub(crate) fn read_whole(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, DerError> {
        match self.any(what)? {
            element if element.tag == tag => Ok(element),
            element => Err(DerError::Tag { what, expected: tag, got: element.tag }),
        }
    }

    /// Reads the next element, whatever its tag.
    pub(crate) fn any(&mut self, what: &'static str) -> Result<Element<'a>, DerError> {
        let [tag, length, rest @ ..] = self.0 else { return Err(DerError::Truncated(what)) };
        let (length, rest) = match length {
            0x00..=0x7f => (usize::from(*length), rest),
            0x81..=0x83 => long_length(rest, usize::from(length & 0x0f), what)?,
            _ => return Err(DerError::Length(what)),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(DerError::Truncated(what))?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Element { tag: *tag, content, whole })
    }

    /// Checks that nothing follows.
    pub(crate) fn end(self, what: &'static str) -> Result<(), DerError> {
        if self.is_empty() { Ok(()) } else { Err(DerError::Trailing(what)) }
    }
}

/// One element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Reads a length of `count` bytes; three are 16 MiB, more than any request may have.
fn long_length<'a>(bytes: &'a [u8], count: usize, what: &'static str) -> Result<(usize, &'a [u8]), DerError> {
    let (length, rest) = bytes.split_at_checked(count).ok_or(DerError::Truncated(what))?;
    let value = length.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
    let shortest = value > 0x7f && length.first() != Some(&0);
    if shortest { Ok((value, rest)) } else { Err(DerError::Length(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_length_has_one_encoding() {
        let table: [(&[u8], Result<usize, DerError>); 9] = [
            (&[0x04, 0x00], Ok(0)),
            (&[0x04, 0x01, 7], Ok(1)),
            (&[0x04, 0x81, 0x01, 7], Err(DerError::Length("x"))),
            (&[0x04, 0x82, 0x00, 0x80], Err(DerError::Length("x"))),
            (&[0x04, 0x80, 0, 0], Err(DerError::Length("x"))),
            (&[0x04, 0x84, 0, 0, 0, 1, 7], Err(DerError::Length("x"))),
            (&[0x04, 0x02, 7], Err(DerError::Truncated("x"))),
            (&[0x04, 0x82, 0x01], Err(DerError::Truncated("x"))),
            (&[0x04], Err(DerError::Truncated("x"))),
        ];
        for (bytes, expected) in table {
            assert_eq!(Der::new(bytes).read(OCTET_STRING, "x").map(<[u8]>::len), expected, "{bytes:02x?}");
        }
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Der::new(&long).read(OCTET_STRING, "x").unwrap().len(), 0x80);
    }

    proptest! {
        #[test]
        fn elements_never_overlap_nor_leave_the_input(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut der = Der::new(&bytes);
            let mut read = 0;
            while let Ok(element) = der.any("x") {
                prop_assert_eq!(element.whole, &bytes[read..][..element.whole.len()]);
                prop_assert!(element.whole.ends_with(element.content));
                read += element.whole.len();
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
