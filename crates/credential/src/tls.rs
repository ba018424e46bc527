//! Vectors of the TLS presentation language as MLS uses them (RFC 9420 section 2.1.2). Returns
//! slices of the input, so that a hostile length never allocates; decodes nothing inside them.

use qpc_proto::Malformed;
use qpc_proto::codec::Reader;

/// The next two bytes, big-endian.
pub(crate) fn u16(r: &mut Reader<'_>) -> Result<u16, Malformed> {
    r.array().map(u16::from_be_bytes)
}

/// The next `<V>` vector. A length must be in its shortest form and below 2^30.
pub(crate) fn vector<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let first = r.u8()?;
    let (more, least) = match first >> 6 {
        0 => (0, 0),
        1 => (1, 1 << 6),
        2 => (3, 1 << 14),
        _ => return Err(Malformed("vector: length form")),
    };
    let len = r
        .take(more)?
        .iter()
        .fold(usize::from(first & 0x3f), |len, byte| (len << 8) | usize::from(*byte));
    if len < least {
        return Err(Malformed("vector: length not in shortest form"));
    }
    r.take(len)
}

/// The next `<V>` vector of two-byte numbers.
pub(crate) fn u16_vector(r: &mut Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let mut inner = Reader::new(vector(r)?);
    let mut numbers = Vec::with_capacity(inner.remaining() / 2);
    while inner.remaining() > 0 {
        numbers.push(u16(&mut inner)?);
    }
    Ok(numbers)
}

/// `bytes` with their length before them.
///
/// # Errors
/// [`Malformed`] from 2^30 bytes on.
pub(crate) fn to_vector(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let len = u32::try_from(bytes.len()).map_err(|_| Malformed("vector: too long"))?;
    let [a, b, c, d] = len.to_be_bytes();
    let prefix: &[u8] = match len {
        0..0x40 => &[d],
        0x40..0x4000 => &[c | 0x40, d],
        0x4000..0x4000_0000 => &[a | 0x80, b, c, d],
        _ => return Err(Malformed("vector: too long")),
    };
    Ok([prefix, bytes].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_at_every_border_round_trip() {
        for len in [0, 1, 0x3f, 0x40, 0x3fff, 0x4000, 0x1_0000] {
            let bytes = vec![7; len];
            let encoded = to_vector(&bytes).unwrap();
            let mut r = Reader::new(&encoded);
            assert_eq!(vector(&mut r), Ok(bytes.as_slice()), "length {len}");
            assert_eq!(r.finish(), Ok(()));
            assert!(vector(&mut Reader::new(&encoded[..encoded.len() - 1])).is_err());
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bytes in [
            &[][..],
            &[0x40, 0x01, 0][..],
            &[0x80, 0, 0, 0x01, 0][..],
            &[0x80, 0, 0x3f, 0xff][..],
            &[0xbf, 0xff, 0xff, 0xff][..],
            &[0xc0, 0, 0, 0, 0, 0, 0, 1, 0][..],
        ] {
            assert!(vector(&mut Reader::new(bytes)).is_err(), "{bytes:02x?}");
        }
        assert!(u16_vector(&mut Reader::new(&[3, 0, 1, 0])).is_err());
    }
}
