//! HPKE public keys of the suites with X25519 (RFC 9180, RFC 7748), which are all of
//! [`crate::SUITES`]. Judges them; never encrypts.

/// Whether something can be encrypted to a key: it has 32 bytes and is no point of low order. With
/// such a point every shared secret is zero, and HPKE refuses that (RFC 9180 section 7.1.4): one
/// leaf with it in a tree would keep all other members from making Commits.
#[must_use]
pub fn takes_secrets(key: &[u8]) -> bool {
    // The scalar is a multiple of the cofactor, as every clamped one is: any shows it.
    const SCALAR: [u8; 32] = [1; 32];
    let point = <[u8; 32]>::try_from(key);
    point.is_ok_and(|point| x25519_dalek::x25519(SCALAR, point) != [0; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points of low order on the curve and its twist, those that are no canonical number too
    /// (libsodium's list; with the highest bit set they are the same).
    const LOW: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];

    fn bytes(hex: &str) -> [u8; 32] {
        let digits = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        std::array::from_fn(digits)
    }

    #[test]
    fn a_key_of_low_order_takes_no_secret() {
        for low in LOW.map(bytes) {
            let mut high = low;
            high[31] |= 0x80;
            assert!(!takes_secrets(&low) && !takes_secrets(&high), "{low:?}");
        }
    }

    #[test]
    fn any_other_of_32_bytes_does() {
        for seed in 2..=254 {
            assert!(takes_secrets(&[seed; 32]), "{seed}");
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(takes_secrets(&nine));
        for length in [0, 31, 33] {
            assert!(!takes_secrets(&vec![9; length]), "{length}");
        }
    }
}
