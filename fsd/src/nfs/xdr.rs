//! XDR, RFC 4506: what ONC RPC and NFS put on the wire.
//!
//! Nothing is allocated because a length field says so: variable parts are borrowed from what has arrived.

/// The bytes are no such XDR value: too short, too long, or a value that the type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes values from the front of a byte string.
#[derive(Clone, Copy, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes }
    }

    /// Bytes not yet taken.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// `opaque[N]`, with the bytes that fill it up to a multiple of four.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let value = self.array()?;
        self.take(padding(N))?;
        Ok(value)
    }

    /// `opaque<most>` or `string<most>`.
    pub fn opaque(&mut self, most: usize) -> Result<&'a [u8], Malformed> {
        let len = self.u32()? as usize;
        if len > most {
            return Err(Malformed);
        }
        let value = self.take(len)?;
        self.take(padding(len))?;
        Ok(value)
    }

    /// The length of an array of at most `most` elements.
    pub fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > most {
            Err(Malformed)
        } else {
            Ok(count)
        }
    }
}

fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Appends values to a byte string.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub fn with_capacity(capacity: usize) -> Encoder {
        Encoder {
            bytes: Vec::with_capacity(capacity),
        }
    }

    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// `opaque[N]`.
    pub fn fixed(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.pad(value.len());
    }

    /// `opaque<>` or `string<>`.
    pub fn opaque(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.fixed(value);
    }

    fn pad(&mut self, len: usize) {
        self.bytes.extend_from_slice(&[0; 3][..padding(len)]);
    }

    /// `opaque<>` of what `fill` appends to the bytes.
    pub fn opaque_by<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let at = self.bytes.len();
        self.u32(0);
        fill(&mut self.bytes)?;
        let len = self.bytes.len() - at - 4;
        self.put_u32(at, len as u32);
        self.pad(len);
        Ok(len)
    }

    /// What was encoded from byte `at` on.
    pub fn since(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// Overwrites the word at byte `at`.
    pub fn put_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Drops everything from byte `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Appends bytes that are XDR already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(word in any::<u32>(), long in any::<i64>(), text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut encoder = Encoder::default();
            encoder.u32(word);
            encoder.i64(long);
            encoder.opaque(&text);
            encoder.bool(true);
            let bytes = encoder.into_bytes();
            prop_assert_eq!(bytes.len() % 4, 0);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(decoder.u32(), Ok(word));
            prop_assert_eq!(decoder.i64(), Ok(long));
            prop_assert_eq!(decoder.opaque(40), Ok(&text[..]));
            prop_assert_eq!(decoder.bool(), Ok(true));
            prop_assert!(decoder.rest().is_empty());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut decoder = Decoder::new(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]);
        assert_eq!(decoder.opaque(usize::MAX), Err(Malformed));
        let mut short = Decoder::new(&[0, 0, 0, 5, 1, 2, 3, 4, 5]);
        assert_eq!(short.opaque(8), Err(Malformed), "padding is missing");
        assert_eq!(Decoder::new(&[0, 0, 0, 2]).bool(), Err(Malformed));
    }
}
