//! Groups to measure in: one for each side, in which the measured device is the second member.
//! Everything that a child needs lies in files.

use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::tls_codec::Serialize as _;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, CredentialWithKey, ExtensionType,
    KeyPackage, Lifetime, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProtocolVersion,
    SenderRatchetConfiguration,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;
use qpc_credential::{AccountKey, Certificate, CertificateBody, DeviceEntry};
use qpc_mls::context::{CHANNEL_EXTENSION, ChannelContext, POLICY_VERSION};
use qpc_mls::engine::{CommitPlan, MlsGroupId, Place};
use qpc_mls::{Device, Engine, MlsError};
use qpc_proto::message::{ChannelKind, WelcomePointer};
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, PublicKey, Signature};
use qpc_storage::{Key, Options, Outcome, Store, Tx};

use crate::child::{self, Operation, Side};

pub(crate) const GROUP: MlsGroupId = [7; 32];
const CHANNEL: ChannelId = ChannelId([9; 16]);
/// Texts of 1 KiB.
pub(crate) const TEXT: [u8; 1_024] = [b'x'; 1_024];
/// The device that is measured; 0 is the founder, the rest fill the group.
pub(crate) const MEASURED: u32 = 1;

fn key(number: u32, purpose: u8) -> SigningKey {
    let mut seed = [purpose; 32];
    seed[..4].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// Milliseconds by this machine's clock, which OpenMLS reads, too.
#[expect(clippy::disallowed_methods, reason = "OpenMLS reads it too")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// A device of an account of its own, always the same of a number.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) certificate: Certificate,
    pub(crate) key: SigningKey,
}

impl Person {
    pub(crate) fn new(number: u32) -> Self {
        let (root, account, device) = (key(number, 1), key(number, 2), key(number, 3));
        let sign = |key: &SigningKey, tbs: &[u8]| Signature(key.sign(tbs).to_bytes());
        let statement = AccountKey { root: public(&root), generation: 1, key: public(&account) };
        let statement = statement.sign(|tbs| sign(&root, tbs));
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let entry =
            DeviceEntry { device: DeviceId(id), key: public(&device), not_after_ms: u64::MAX };
        let body = CertificateBody { list_version: 1, entry, name: format!("user{number}") };
        let bytes = Certificate::sign(&statement, &body, |tbs| sign(&account, tbs));
        Self { certificate: Certificate::verify(&bytes).unwrap(), key: device }
    }

    pub(crate) fn engine(&self) -> Engine {
        let bytes = self.certificate.as_bytes().to_vec();
        Engine::new(Device::new(self.certificate.device(), bytes, self.key.clone()))
    }

    /// A KeyPackage as the engine makes it, by plain OpenMLS.
    fn key_package(&self, provider: &OpenMlsRustCrypto) -> Vec<u8> {
        let now = now_ms() / 1_000;
        let capabilities = Capabilities::builder()
            .versions(vec![ProtocolVersion::Mls10])
            .ciphersuites(vec![SUITE])
            .extensions(vec![ExtensionType::LastResort, ExtensionType::Unknown(CHANNEL_EXTENSION)])
            .credentials(vec![CredentialType::Basic])
            .build();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(self.certificate.as_bytes().to_vec()).into(),
            signature_key: self.key.verifying_key().as_bytes().as_slice().into(),
        };
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(capabilities)
            .key_package_lifetime(Lifetime::init(
                now.saturating_sub(86_400),
                now.saturating_add(61 * 86_400),
            ))
            .build(SUITE, provider, self, credential)
            .unwrap();
        bundle.key_package().tls_serialize_detached().unwrap()
    }
}

impl Signer for Person {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.key.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// The profile's, which the engine joins with, too.
pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(128)
        .max_past_epochs(0)
        .use_ratchet_tree_extension(true)
        .sender_ratchet_configuration(SenderRatchetConfiguration::new(100, 4_000))
        .build()
}

pub(crate) fn place() -> Place {
    Place { channel: CHANNEL, base_commit: 1, head_seq: 1, head: Digest([5; 32]) }
}

pub(crate) fn pointer(welcome: &[u8]) -> WelcomePointer {
    pointer_to(qpc_proto::chain::sha256(welcome))
}

/// As it comes in the inbox.
pub(crate) fn pointer_to(welcome_hash: Digest) -> WelcomePointer {
    WelcomePointer {
        channel: CHANNEL,
        kind: ChannelKind::Group,
        join_seq: 1,
        head: Digest([5; 32]),
        welcome_hash,
        inviter: AccountId([0; 16]),
    }
}

pub(crate) fn open(path: &Path) -> Store {
    let schemas = vec![qpc_mls::schema(), child::schema()];
    Store::open(path, &Options::new(Key::from_bytes([7; 32]), schemas)).unwrap()
}

/// One transaction.
pub(crate) fn done<T: Send>(
    store: &mut Store,
    work: impl FnOnce(&Tx<'_>) -> Result<T, MlsError> + Send,
) -> T {
    let Ok(Outcome::Done(value)) = store.transact(work) else {
        std::process::exit(2);
    };
    value
}

/// Where the files of a side lie.
pub(crate) fn files(dir: &Path, side: Side) -> impl Fn(&str) -> PathBuf {
    let dir = dir.join(side.name());
    move |name| dir.join(name)
}

/// Makes the group of each side and writes down what its children begin from.
pub(crate) fn prepare(dir: &Path, members: u32, messages: u64) {
    let fillers: Vec<Vec<u8>> = {
        let mut scratch = open(&dir.join("fillers.db"));
        let filler = |number| {
            let engine = Person::new(number).engine();
            done(&mut scratch, |tx| engine.key_package(tx, false, now_ms())).bytes
        };
        // The last is not a member yet: it is added by the measured device.
        (MEASURED + 1..=members).map(filler).collect()
    };
    for side in [Side::Ours, Side::Floor] {
        let file = files(dir, side);
        std::fs::create_dir(file("")).unwrap();
        let measured = Person::new(MEASURED);
        let provider = OpenMlsRustCrypto::default();
        let own = match side {
            Side::Ours => {
                let mut store = open(&file("before.db"));
                let made = measured.engine();
                let own = done(&mut store, |tx| made.key_package(tx, false, now_ms())).bytes;
                store.close().unwrap();
                own
            }
            Side::Floor => measured.key_package(&provider),
        };
        let (last, rest) = fillers.split_last().unwrap();
        std::fs::write(file("package"), last).unwrap();
        let adds = std::iter::once(own).chain(rest.iter().cloned()).collect();
        let (welcome, texts) = found(&file("founder.db"), adds, messages);
        std::fs::write(file("welcome"), &welcome).unwrap();
        std::fs::write(file("hash"), pointer(&welcome).welcome_hash.as_bytes()).unwrap();
        for (number, text) in texts.iter().enumerate() {
            std::fs::write(file(&format!("text{number}")), text).unwrap();
        }
        match side {
            Side::Ours => child::join_ours(&file, &welcome),
            Side::Floor => child::join_floor(&file, &provider, &welcome),
        }
    }
    for operation in Operation::ALL {
        child::note_changes(dir, operation, if operation.repeats() { messages } else { 1 });
    }
}

/// The founder alone in the group.
pub(crate) fn founder(path: &Path) -> (Engine, Store) {
    let founder = Person::new(0);
    let (engine, mut store) = (founder.engine(), open(path));
    let context = ChannelContext {
        channel: CHANNEL,
        kind: ChannelKind::Group,
        title: "Bench".to_owned(),
        description: String::new(),
        replaces: None,
        admins: [founder.certificate.device().account].into(),
        policy_version: POLICY_VERSION,
    };
    done(&mut store, |tx| engine.create(tx, &GROUP, (&context, now_ms())));
    (engine, store)
}

/// The founder adds everybody, and sends some messages.
fn found(path: &Path, adds: Vec<Vec<u8>>, messages: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (engine, mut store) = founder(path);
    let plan = CommitPlan { adds, ..CommitPlan::default() };
    done(&mut store, |tx| {
        let sealed = engine.commit(tx, &GROUP, (&place(), &plan))?;
        engine.merge_pending(tx, &GROUP)?;
        let texts = (0..messages).map(|_| engine.seal(tx, &GROUP, (&place(), &TEXT)));
        let texts = texts.collect::<Result<_, _>>()?;
        Ok((sealed.welcome.unwrap(), texts))
    })
}
