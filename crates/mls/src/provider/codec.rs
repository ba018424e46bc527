//! The one encoding of every key and value in the tables: MessagePack with field names, byte
//! strings as byte strings. It is an on-disk format: a change needs a migration. It never leaves
//! a copy of an encoded value in freed memory.

use std::io::{self, Write};

use rmp_serde::Serializer;
use rmp_serde::config::BytesMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::ProviderError;

const FIRST_CAPACITY: usize = 256;
/// Room for the padded value of a small group: to grow is to copy and to wipe.
const PADDED_CAPACITY: usize = 2_048;

// Field names let OpenMLS add fields with defaults between releases. Byte strings take half the
// space of an array of integers, and most of a ratchet's state is byte strings.
pub(super) fn encode<T: Serialize + ?Sized>(
    value: &T,
) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    let mut buffer = SecretBuffer::default();
    buffer.add(value)?;
    Ok(buffer.bytes)
}

// As above, with zeros up to a multiple of `unit` bytes; what decodes ends before them.
pub(super) fn encode_padded<T: Serialize + ?Sized>(
    value: &T,
    unit: usize,
) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    let mut buffer = SecretBuffer::default();
    buffer.reserve(PADDED_CAPACITY);
    buffer.add(value)?;
    let length = buffer.bytes.len().next_multiple_of(unit);
    buffer.reserve(length);
    buffer.bytes.resize(length, 0);
    Ok(buffer.bytes)
}

// The library's error is dropped because it can quote the value.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ProviderError> {
    rmp_serde::from_slice(bytes).map_err(|_| ProviderError::Decode)
}

// A plain Vec leaves its old allocation behind, unwiped, each time it grows.
#[derive(Default)]
struct SecretBuffer {
    bytes: Zeroizing<Vec<u8>>,
}

impl SecretBuffer {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ProviderError> {
        let mut serializer =
            Serializer::new(self).with_struct_map().with_bytes(BytesMode::ForceIterables);
        value.serialize(&mut serializer).map_err(|_| ProviderError::Encode)
    }

    fn reserve(&mut self, needed: usize) {
        if needed <= self.bytes.capacity() {
            return;
        }
        let doubled = self.bytes.capacity().saturating_mul(2);
        let capacity = needed.max(doubled).max(FIRST_CAPACITY);
        let mut grown = Zeroizing::new(Vec::with_capacity(capacity));
        grown.extend_from_slice(&self.bytes);
        self.bytes = grown;
    }
}

impl Write for SecretBuffer {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.reserve(self.bytes.len().saturating_add(part.len()));
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    #[inline]
    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        self.reserve(self.bytes.len().saturating_add(part.len()));
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openmls::prelude::GroupId;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        Tuple(u16, Vec<u8>),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        bytes: Vec<u8>,
        fixed: [u8; 2],
        none: Option<u8>,
        shapes: Vec<Shape>,
        map: BTreeMap<u8, bool>,
        largest: u64,
    }

    fn sample() -> Sample {
        Sample {
            bytes: vec![0, 1, 254, 255],
            fixed: [7, 200],
            none: None,
            shapes: vec![Shape::Unit, Shape::Tuple(513, vec![])],
            map: BTreeMap::from([(3, true)]),
            largest: u64::MAX,
        }
    }

    const GOLDEN: &[u8] = b"\x86\
        \xa5bytes\xc4\x04\x00\x01\xfe\xff\
        \xa5fixed\x92\x07\xcc\xc8\
        \xa4none\xc0\
        \xa6shapes\x92\xa4Unit\x81\xa5Tuple\x92\xcd\x02\x01\x90\
        \xa3map\x81\x03\xc3\
        \xa7largest\xcf\xff\xff\xff\xff\xff\xff\xff\xff";

    #[test]
    fn golden_bytes_of_a_value() {
        assert_eq!(encode(&sample()).unwrap().as_slice(), GOLDEN);
        assert_eq!(decode::<Sample>(GOLDEN).unwrap(), sample());
    }

    #[test]
    fn golden_bytes_of_a_group_key() {
        let key = encode(&GroupId::from_slice(b"group")).unwrap();
        assert_eq!(key.as_slice(), b"\x81\xa5value\x81\xa3vec\xc4\x05group");
        assert_eq!(decode::<GroupId>(&key).unwrap(), GroupId::from_slice(b"group"));
    }

    #[test]
    fn an_array_of_integers_is_read_as_a_byte_string() {
        let plain = rmp_serde::to_vec_named(&sample()).unwrap();
        assert_ne!(plain, GOLDEN);
        assert_eq!(decode::<Sample>(&plain).unwrap(), sample());
    }

    #[test]
    fn a_value_larger_than_the_buffer_is_whole() {
        let large: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let encoded = encode(&large).unwrap();
        assert_eq!(&encoded[..5], [0xc6, 0, 1, 0x86, 0xa0]);
        assert_eq!(decode::<Vec<u8>>(&encoded).unwrap(), large);
    }

    #[test]
    fn a_padded_value_decodes_to_itself() {
        let padded = encode_padded(&sample(), 512).unwrap();
        assert_eq!((padded.len(), &padded[..GOLDEN.len()]), (512, GOLDEN));
        assert!(padded[GOLDEN.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(decode::<Sample>(&padded).unwrap(), sample());
        assert_eq!(encode_padded(&sample(), GOLDEN.len()).unwrap().as_slice(), GOLDEN);
    }

    #[test]
    fn an_error_does_not_quote_the_value() {
        let text = encode("hidden").unwrap();
        let error = decode::<u64>(&text).unwrap_err();
        assert!(matches!(error, ProviderError::Decode));
        assert!(!format!("{error} {error:?}").contains("hidden"));
        assert!(decode::<Sample>(&GOLDEN[..GOLDEN.len() - 1]).is_err());
    }
}
