//! Fixed-length identifiers, digests, keys and tokens as validated types.
//!
//! Never holds a private key; [`Token`] is the only secret here and is redacted and zeroized.

use std::fmt;

use crate::error::Malformed;

/// Writes bytes as lower-case hexadecimal.
fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

macro_rules! fixed {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;
            /// All bytes zero: "none" where the protocol says so.
            pub const ZERO: Self = Self([0; $len]);

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Whether all bytes are zero.
            pub fn is_zero(&self) -> bool {
                self.0.iter().all(|byte| *byte == 0)
            }

            /// Parses lower- or upper-case hexadecimal of exactly twice the length.
            ///
            /// # Errors
            /// [`Malformed`] for any other length or character.
            pub fn from_hex(text: &str) -> Result<Self, Malformed> {
                let mut bytes = [0; $len];
                if text.len() != bytes.len().saturating_mul(2) || !text.is_ascii() {
                    return Err(Malformed(concat!(stringify!($name), ": wrong hex length")));
                }
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| Malformed("hex"))?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| Malformed("hex"))?;
                }
                Ok(Self(bytes))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = Malformed;
            fn try_from(bytes: &[u8]) -> Result<Self, Malformed> {
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| Malformed(concat!(stringify!($name), ": wrong length")))
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex(f, &self.0)
            }
        }
    };
}

fixed!(
    /// An account: the first 16 bytes of SHA-256 over a label and its root public key.
    AccountId, 16
);
fixed!(
    /// A device, chosen at random by its client.
    DeviceId, 16
);
fixed!(
    /// A channel: an append-only log at the Delivery Service.
    ChannelId, 16
);
fixed!(
    /// Client-made id of one entry, scoped to channel and device; retries repeat it.
    MessageId, 16
);
fixed!(
    /// Client-made id of one change; retries repeat it. Zero for reads.
    RequestId, 16
);
fixed!(
    /// One life of a server's database; a restore from backup begins another.
    Incarnation, 16
);
fixed!(
    /// A SHA-256 digest, also a hash chain head.
    Digest, 32
);
fixed!(
    /// An Ed25519 public key (RFC 8032).
    PublicKey, 32
);
fixed!(
    /// An Ed25519 signature (RFC 8032).
    Signature, 64
);

impl Digest {
    /// The first 16 bytes, as members exchange them in an [`crate::aad::Aad`].
    pub fn short(&self) -> [u8; 16] {
        let mut short = [0; 16];
        short.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        short
    }
}

/// An opaque 32-byte bearer token. Redacted in `Debug`, wiped on drop, compared by the server only
/// as a digest.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Token(pub [u8; 32]);

impl Token {
    /// No token: what `ServerInfo`, `Register` and `Login` carry.
    pub const NONE: Self = Self([0; 32]);

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Token {
    type Error = Malformed;
    fn try_from(bytes: &[u8]) -> Result<Self, Malformed> {
        bytes.try_into().map(Self).map_err(|_| Malformed("Token: wrong length"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_refuses_other_lengths() {
        let id = DeviceId([0xab; 16]);
        assert_eq!(DeviceId::from_hex(&id.to_string()), Ok(id));
        assert!(DeviceId::from_hex("ab").is_err());
        assert!(DeviceId::from_hex(&"zz".repeat(16)).is_err());
        assert!(DeviceId::from_hex(&"é".repeat(16)).is_err());
    }

    #[test]
    fn a_token_never_shows_in_debug() {
        assert_eq!(format!("{:?}", Token([7; 32])), "Token(redacted)");
    }
}
