//! Linking a device: what travels between the new device and the primary one, sealed under a
//! one-time code that a person carries from one screen to the other. No network, no clock.
//!
//! The server sees the place that follows from the code, never the code. A device is linked only
//! after a person compared its fingerprint on both screens.

mod linking;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use qpc_credential::{Certificate, CertificateBody, PublicIdentity};
use qpc_proto::chain::sha256;
use qpc_proto::codec::{Reader, Writer};
use qpc_proto::limits::IDENTITY_BYTES_MAX;
use qpc_proto::message::Identity;
use qpc_proto::{DeviceId, Digest, Malformed, PublicKey};
use rand_core::CryptoRngCore;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::keys::{Keys, NewIdentity, Seed, entry, public, seed};
pub use linking::Linking;

const OFFER: &str = "qpc/v1 link offer";
const ANSWER: &str = "qpc/v1 link answer";
const NONCE_BYTES: usize = 24;
/// Hexadecimal digits between two hyphens.
const GROUP: usize = 4;
/// Bytes of a fingerprint: a device with the same one costs 2^80 keys to find.
const FINGERPRINT_BYTES: usize = 10;

/// A one-time code: who knows it can offer a device, or read the offer and the answer.
#[derive(Clone)]
pub struct LinkCode(Zeroizing<[u8; 16]>);

impl std::fmt::Debug for LinkCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkCode(redacted)")
    }
}

impl LinkCode {
    /// A random one.
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        let mut code = Zeroizing::new([0; 16]);
        rng.fill_bytes(code.as_mut());
        Self(code)
    }

    pub(crate) fn of(code: Zeroizing<[u8; 16]>) -> Self {
        Self(code)
    }

    /// Reads a code as a person types it: any case, with or without hyphens and spaces.
    ///
    /// # Errors
    /// [`ClientError::Usage`].
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        let mut digits = Zeroizing::new(String::with_capacity(text.len()));
        digits.extend(text.chars().filter(|c| !c.is_whitespace() && *c != '-'));
        let wrong = || ClientError::Usage("a link's code has 32 digits of 0-9 and a-f".to_owned());
        let mut code = Zeroizing::new([0; 16]);
        if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (byte, pair) in code.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(code))
    }

    /// The code for people: 8 groups of 4 hexadecimal digits.
    pub fn text(&self) -> Zeroizing<String> {
        grouped(self.0.as_slice())
    }

    pub(crate) fn bytes(&self) -> &Zeroizing<[u8; 16]> {
        &self.0
    }

    /// Where at the server the two devices meet.
    pub fn rendezvous(&self) -> Digest {
        let input = Writer::with_label("qpc/v1 link rendezvous").fixed(self.0.as_slice()).finish();
        sha256(&Zeroizing::new(input))
    }

    /// The key of one direction (HKDF-SHA256, RFC 5869, without salt; the label is its info).
    fn key(&self, label: &str) -> Result<XChaCha20Poly1305, ClientError> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(label.as_bytes(), key.as_mut())
            .map_err(|_| ClientError::Internal("deriving a key from a code"))?;
        Ok(XChaCha20Poly1305::new(key.as_slice().into()))
    }

    /// Nonce (24), ciphertext.
    fn seal(
        &self,
        (label, aad): (&str, &[u8]),
        plain: &[u8],
        rng: &mut dyn CryptoRngCore,
    ) -> Result<Vec<u8>, ClientError> {
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let sealed = self
            .key(label)?
            .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
            .map_err(|_| ClientError::Internal("sealing under a code"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn open(&self, (label, aad): (&str, &[u8]), bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
        let wrong = || {
            ClientError::Alarm(
                "what lies under this link's code was not sealed with it: begin again".to_owned(),
            )
        };
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
        self.key(label)?
            .decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad })
            .map_err(|_| wrong())
    }
}

/// Hexadecimal digits in groups.
fn grouped(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len().saturating_mul(3)));
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && index.is_multiple_of(GROUP / 2) {
            text.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    text
}

/// A device that wants to be linked, as the one that links it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferedDevice {
    /// Its id.
    pub device: DeviceId,
    /// Its public key.
    pub key: PublicKey,
}

impl OfferedDevice {
    /// What a person compares on both screens: 5 groups of 4 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let input = Writer::with_label("qpc/v1 link fingerprint").fixed(self.bytes()).finish();
        let hash = sha256(&input);
        grouped(hash.as_bytes().get(..FINGERPRINT_BYTES).unwrap_or_default()).to_string()
    }

    /// Device (16), key (32).
    fn bytes(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let (device, key) = bytes.split_at_mut(16);
        device.copy_from_slice(self.device.as_bytes());
        key.copy_from_slice(self.key.as_bytes());
        bytes
    }
}

/// The new device's side: its id and key, which are on disk before anybody hears of them.
#[derive(Clone)]
pub struct Offer {
    device: DeviceId,
    seed: Seed,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Offer {
    /// A device with a fresh key.
    pub fn new(rng: &mut dyn CryptoRngCore) -> Self {
        let mut device = [0; 16];
        rng.fill_bytes(&mut device);
        Self { device: DeviceId(device), seed: seed(&mut { rng }) }
    }

    /// What is offered.
    pub fn offered(&self) -> OfferedDevice {
        OfferedDevice { device: self.device, key: public(&self.seed) }
    }

    /// Sealed for who knows the code. Plain: label, device (16), key (32).
    ///
    /// # Errors
    /// [`ClientError::Internal`].
    pub fn seal(
        &self,
        code: &LinkCode,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<Vec<u8>, ClientError> {
        let plain = Writer::with_label(OFFER).fixed(self.offered().bytes()).finish();
        code.seal((OFFER, &[]), &plain, rng)
    }
}

/// Opens what a new device offers.
///
/// # Errors
/// [`ClientError::Alarm`] when it was not sealed under this code.
pub fn open_offer(code: &LinkCode, bytes: &[u8]) -> Result<OfferedDevice, ClientError> {
    let plain = code.open((OFFER, &[]), bytes)?;
    let mut r = Reader::new(&plain);
    let read = |r: &mut Reader<'_>| -> Result<OfferedDevice, Malformed> {
        r.label(OFFER)?;
        Ok(OfferedDevice { device: DeviceId(r.array()?), key: PublicKey(r.array()?) })
    };
    let offered = read(&mut r).and_then(|offered| r.finish().map(|()| offered));
    offered.map_err(|_| ClientError::Alarm("the offer is malformed".to_owned()))
}

/// What the primary device publishes and leaves for the new one.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The next device list, signed.
    pub device_list: Bytes,
    /// For the new device.
    pub sealed: Bytes,
}

/// Signs the next list with the offered device in it, and the device's certificate. Plain: label,
/// account key statement, device list, certificate (u32 lengths); the device is authenticated data.
pub(crate) fn answer(
    keys: &Keys,
    (newest, version): (&PublicIdentity, u64),
    (code, offered): (&LinkCode, &OfferedDevice),
    (now_ms, rng): (u64, &mut dyn CryptoRngCore),
) -> Result<Answer, ClientError> {
    let list = &newest.list;
    let added = entry(offered.device, offered.key, now_ms);
    let next = crate::keys::NextList {
        name: &list.name,
        generation: list.generation,
        version,
        devices: list.devices.iter().copied().chain([added]).collect(),
    };
    let body = CertificateBody { list_version: version, entry: added, name: list.name.clone() };
    let signed =
        keys.certify(&newest.account_key_bytes, &body).zip(keys.sign_list(list.account, next));
    let (certificate, device_list) = signed.ok_or(ClientError::NotPrimary)?;
    let plain = Writer::with_label(ANSWER)
        .var(&newest.account_key_bytes)
        .var(&device_list)
        .var(&certificate)
        .finish();
    let sealed = code.seal((ANSWER, &offered.bytes()), &plain, rng)?;
    Ok(Answer { device_list, sealed: sealed.into() })
}

/// What a device was given that another one linked.
#[derive(Debug, Clone)]
pub struct LinkedIdentity {
    name: String,
    identity: NewIdentity,
}

/// Opens the answer and checks that it makes this very device one of an account.
///
/// # Errors
/// [`ClientError::Alarm`] when it does not.
pub fn open_answer(
    code: &LinkCode,
    offer: &Offer,
    bytes: &[u8],
) -> Result<LinkedIdentity, ClientError> {
    let plain = code.open((ANSWER, &offer.offered().bytes()), bytes)?;
    let alarm = |text: &str| ClientError::Alarm(format!("the answer to the link: {text}"));
    let malformed = |_| alarm("malformed");
    let mut r = Reader::new(&plain);
    r.label(ANSWER).map_err(malformed)?;
    let mut object = || r.var(IDENTITY_BYTES_MAX).map(Bytes::copy_from_slice).map_err(malformed);
    let (account_key, device_list, certificate) = (object()?, object()?, object()?);
    r.finish().map_err(malformed)?;
    let certificate =
        Certificate::verify(&certificate).map_err(|_| alarm("the certificate does not verify"))?;
    let account = certificate.account_key.account();
    let identity = PublicIdentity::verify(&Identity { account, account_key, device_list })
        .map_err(|_| alarm("the device list does not verify"))?;
    let own = offer.offered();
    let mine = (certificate.entry.device, certificate.entry.key) == (own.device, own.key);
    let one = identity.account_key == certificate.account_key
        && identity.list.holds(&certificate)
        && identity.list.name == certificate.name;
    if !mine || !one {
        return Err(alarm("it is not for this device"));
    }
    Ok(LinkedIdentity {
        name: certificate.name.clone(),
        identity: NewIdentity {
            device: certificate.device(),
            root: certificate.account_key.root,
            account_key: identity.account_key_bytes.to_vec(),
            device_list: identity.list_bytes.to_vec(),
            certificate: certificate.as_bytes().to_vec(),
        },
    })
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::*;

    pub(super) const NOW: u64 = 1_800_000_000_000;

    /// Keys of a primary device and its account's newest identity.
    fn primary() -> (Keys, PublicIdentity) {
        let keys = Keys::generate(&mut OsRng);
        let identity = keys.identity("alice", DeviceId([1; 16]), NOW).unwrap();
        let identity = Identity {
            account: identity.device.account,
            account_key: identity.account_key.into(),
            device_list: identity.device_list.into(),
        };
        (keys, PublicIdentity::verify(&identity).unwrap())
    }

    pub(super) fn answered(code: &LinkCode, offered: &OfferedDevice) -> Answer {
        let (keys, newest) = primary();
        answer(&keys, (&newest, 2), (code, offered), (NOW, &mut OsRng)).unwrap()
    }

    fn is_alarm<T>(result: Result<T, ClientError>) -> bool {
        matches!(result, Err(ClientError::Alarm(_)))
    }

    #[test]
    fn case_068_an_offer_and_its_answer_make_a_device_of_the_account() {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let sealed = offer.seal(&code, &mut OsRng).unwrap();
        assert!(sealed.len() <= qpc_proto::limits::LINK_OFFER_BYTES_MAX);
        let offered = open_offer(&code, &sealed).unwrap();
        assert_eq!(offered, offer.offered());
        assert_eq!(offered.fingerprint(), offer.offered().fingerprint());
        let answer = answered(&code, &offered);
        assert!(answer.sealed.len() <= qpc_proto::limits::LINK_ANSWER_BYTES_MAX);
        let linked = open_answer(&code, &offer, &answer.sealed).unwrap();
        assert_eq!((linked.name.as_str(), linked.identity.device.device), ("alice", offer.device));
        assert_eq!(linked.identity.device_list, answer.device_list);
    }

    #[test]
    fn the_largest_answer_has_room() {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let (keys, mut newest) = primary();
        newest.list.name = "n".repeat(128);
        for number in 2..10 {
            let key = public(&seed(&mut OsRng));
            newest.list.devices.push(entry(DeviceId([number; 16]), key, NOW));
        }
        let link = (&code, &offer.offered());
        let answer = answer(&keys, (&newest, 2), link, (NOW, &mut OsRng)).unwrap();
        assert!(answer.sealed.len() <= qpc_proto::limits::LINK_ANSWER_BYTES_MAX);
        open_answer(&code, &offer, &answer.sealed).unwrap();
    }

    #[test]
    fn case_068_another_code_opens_neither_side() {
        let (code, other) = (LinkCode::generate(&mut OsRng), LinkCode::generate(&mut OsRng));
        let offer = Offer::new(&mut OsRng);
        assert_ne!(code.rendezvous(), other.rendezvous());
        let sealed = offer.seal(&code, &mut OsRng).unwrap();
        assert!(is_alarm(open_offer(&other, &sealed)));
        let answer = answered(&code, &offer.offered());
        assert!(is_alarm(open_answer(&other, &offer, &answer.sealed)));
    }

    #[test]
    fn an_answer_is_no_offer_and_no_other_device_s() {
        let code = LinkCode::generate(&mut OsRng);
        let (offer, swapped) = (Offer::new(&mut OsRng), Offer::new(&mut OsRng));
        let answer = answered(&code, &offer.offered());
        assert!(is_alarm(open_answer(&code, &swapped, &answer.sealed)));
        assert!(is_alarm(open_offer(&code, &answer.sealed)));
        let sealed = offer.seal(&code, &mut OsRng).unwrap();
        assert!(is_alarm(open_answer(&code, &offer, &sealed)));
        // The same id with another key is another device.
        let impostor = Offer { device: offer.device, seed: seed(&mut OsRng) };
        assert!(is_alarm(open_answer(&code, &impostor, &answer.sealed)));
        assert_ne!(impostor.offered().fingerprint(), offer.offered().fingerprint());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let sealed = offer.seal(&code, &mut OsRng).unwrap();
        let answer = answered(&code, &offer.offered()).sealed;
        for (bytes, is_offer) in [(sealed, true), (answer.to_vec(), false)] {
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                let refused = match is_offer {
                    true => is_alarm(open_offer(&code, &changed)),
                    false => is_alarm(open_answer(&code, &offer, &changed)),
                };
                assert!(refused, "byte {at}");
            }
            assert!(is_alarm(open_answer(&code, &offer, bytes.get(..20).unwrap())));
        }
    }

    #[test]
    fn an_answer_of_an_account_key_that_the_root_never_stated_is_refused() {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let (_, newest) = primary();
        let (other, _) = primary();
        let link = (&code, &offer.offered());
        let forged = answer(&other, (&newest, 2), link, (NOW, &mut OsRng)).unwrap();
        assert!(is_alarm(open_answer(&code, &offer, &forged.sealed)));
    }

    #[test]
    fn only_an_account_key_links() {
        let (code, offer) = (LinkCode::generate(&mut OsRng), Offer::new(&mut OsRng));
        let (_, newest) = primary();
        let secondary = Keys::linked(seed(&mut OsRng));
        let link = (&code, &offer.offered());
        let refused = answer(&secondary, (&newest, 2), link, (NOW, &mut OsRng)).unwrap_err();
        assert_eq!(refused.code(), "NOT_PRIMARY");
    }

    #[test]
    fn a_code_as_people_type_it() {
        let code = LinkCode::generate(&mut OsRng);
        let text = code.text();
        assert_eq!(text.split('-').count(), 8, "{}", text.as_str());
        for typed in [text.to_string(), text.to_uppercase(), text.replace('-', " ")] {
            assert_eq!(LinkCode::parse(&typed).unwrap().0, code.0);
        }
        for wrong in ["", "12", &text[1..], &format!("{}0", text.as_str()), &"g".repeat(32)] {
            assert_eq!(LinkCode::parse(wrong).unwrap_err().code(), "USAGE");
        }
        assert_eq!(format!("{code:?}"), "LinkCode(redacted)");
    }
}
