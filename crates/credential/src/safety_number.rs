//! What two people compare to know that no one stands between them. Over roots, so that it stays
//! the same while devices come and go.

use qpc_proto::PublicKey;
use qpc_proto::codec::Writer;
use sha2::{Digest as _, Sha512};

/// Groups of five digits in a safety number.
const GROUPS: usize = 12;

/// The safety number of two roots, the same from both sides: 12 groups of 5 digits with a space
/// between. Group i is bytes 5i to 5i+4 (big-endian) of SHA-512 over the label "qpc/v1 safety
/// number" and the two roots in ascending order, modulo 100,000: 60 digits, about 199 bits.
pub fn safety_number(a: &PublicKey, b: &PublicKey) -> String {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    let input = Writer::with_label("qpc/v1 safety number").fixed(first).fixed(second).finish();
    let groups: Vec<String> = Sha512::digest(input)
        .chunks_exact(5)
        .take(GROUPS)
        .map(|bytes| {
            let number = bytes.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
            format!("{:05}", number % 100_000)
        })
        .collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_twelve_groups() {
        let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let number = safety_number(&a, &b);
        assert_eq!(number, safety_number(&b, &a));
        assert_ne!(number, safety_number(&a, &PublicKey([3; 32])));
        let groups: Vec<_> = number.split(' ').collect();
        assert_eq!(groups.len(), 12);
        assert!(groups.iter().all(|group| {
            group.len() == 5 && group.bytes().all(|digit| digit.is_ascii_digit())
        }));
    }
}
