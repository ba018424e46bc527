//! Big-endian fields at fixed places: the encoding of everything that is signed, hashed or
//! authenticated.
//!
//! Protobuf has no canonical form, so nothing signed depends on it. Never allocates from a length
//! it has not checked against the input.

use crate::error::Malformed;

/// Appends big-endian fields.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Default for Writer {
    /// With room for what is hashed for every message, so that it doesn't grow in steps.
    fn default() -> Self {
        Self(Vec::with_capacity(256))
    }
}

impl Writer {
    /// Starts with a domain-separation label, as one length byte and the label.
    pub fn with_label(label: &str) -> Self {
        let mut writer = Self::default();
        let len = u8::try_from(label.len()).unwrap_or(u8::MAX);
        writer.0.push(len);
        writer.0.extend_from_slice(label.as_bytes());
        writer
    }

    /// Appends one byte.
    pub fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// Appends four bytes.
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends eight bytes.
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Appends bytes whose length both sides know.
    pub fn fixed(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Appends a four-byte length and the bytes (at most 4 GiB; longer input is cut, which no
    /// caller within [`crate::limits`] can reach).
    pub fn var(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.u32(len).fixed(bytes)
    }

    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what [`Writer`] wrote, refusing anything short or left over.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Checks a label written by [`Writer::with_label`].
    ///
    /// # Errors
    /// [`Malformed`] when another label, or none, stands there.
    pub fn label(&mut self, label: &str) -> Result<(), Malformed> {
        let len = usize::from(self.u8()?);
        (self.take(len)? == label.as_bytes()).then_some(()).ok_or(Malformed("wrong label"))
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed("too short"))?;
        self.0 = tail;
        Ok(head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    /// The next four bytes.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next eight bytes.
    ///
    /// # Errors
    /// [`Malformed`] at the end.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `N` bytes as an array, for the fixed-length ids.
    ///
    /// # Errors
    /// [`Malformed`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("too short"))
    }

    /// The next length-prefixed bytes, at most `max`.
    ///
    /// # Errors
    /// [`Malformed`] when longer or cut.
    pub fn var(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed("too long"))?;
        if len > max {
            return Err(Malformed("too long"));
        }
        self.take(len)
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Malformed`] when bytes are left over.
    pub fn finish(self) -> Result<(), Malformed> {
        self.0.is_empty().then_some(()).ok_or(Malformed("trailing bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_round_trip_and_every_cut_is_refused() {
        let bytes = Writer::with_label("x").u8(1).u32(2).u64(3).fixed([4; 3]).var([5; 2]).finish();
        let read = |bytes: &[u8]| -> Result<(), Malformed> {
            let mut r = Reader::new(bytes);
            r.label("x")?;
            assert_eq!((r.u8()?, r.u32()?, r.u64()?), (1, 2, 3));
            assert_eq!(r.array::<3>()?, [4; 3]);
            assert_eq!(r.var(2)?, [5; 2]);
            r.finish()
        };
        assert_eq!(read(&bytes), Ok(()));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(Reader::new(&bytes).label("y").is_err());
    }
}
