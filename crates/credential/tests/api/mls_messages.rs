//! MLS messages as a Delivery Service reads them, made by OpenMLS and by hand.

use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use proptest::prelude::*;
use qpc_credential::{CredentialError, MlsContent, MlsHeader, mls_header, welcome_references};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::{ChannelId, Digest};

use crate::fixtures::{Account, SUITE};

const GROUP: [u8; 32] = [6; 32];

fn aad(commit: bool) -> Aad {
    Aad {
        channel: ChannelId([1; 16]),
        base_commit: 2,
        head_seq: 3,
        head: [4; 16],
        commit: commit.then_some(CommitBinding {
            roster_change: Digest([5; 32]),
            statements: Digest([6; 32]),
        }),
    }
}

/// An `MLSMessage` with a PrivateMessage, by hand.
fn private_message(content_type: u8, group_id: &[u8], aad: &[u8]) -> Vec<u8> {
    let vector = |bytes: &[u8]| VLBytes::from(bytes).tls_serialize_detached().unwrap();
    [
        vec![0, 1, 0, 2],
        vector(group_id),
        7_u64.to_be_bytes().to_vec(),
        vec![content_type],
        vector(aad),
        vector(&[8; 30]),
        vector(&[9; 70]),
    ]
    .concat()
}

struct Group {
    provider: OpenMlsRustCrypto,
    account: Account,
    group: MlsGroup,
}

impl Group {
    fn new(policy: WireFormatPolicy) -> Self {
        let (provider, account) = (OpenMlsRustCrypto::default(), Account::of(1));
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(policy)
            .use_ratchet_tree_extension(true)
            .build();
        let group = MlsGroup::new_with_group_id(
            &provider,
            &account.device_key,
            &config,
            GroupId::from_slice(&GROUP),
            account.credential(),
        );
        Self { provider, group: group.unwrap(), account }
    }

    /// Commits an Add of the given account and returns Commit, Welcome and the KeyPackage.
    fn add(&mut self, account: &Account) -> (MlsMessageOut, MlsMessageOut, KeyPackage) {
        let provider = OpenMlsRustCrypto::default();
        let package = KeyPackage::builder()
            .build(SUITE, &provider, &account.device_key, account.credential())
            .unwrap()
            .key_package()
            .clone();
        let (commit, welcome, _) = self
            .group
            .add_members(&self.provider, &self.account.device_key, std::slice::from_ref(&package))
            .unwrap();
        self.group.merge_pending_commit(&self.provider).unwrap();
        (commit, welcome, package)
    }
}

fn bytes(message: &MlsMessageOut) -> Vec<u8> {
    message.tls_serialize_detached().unwrap()
}

#[test]
fn headers_of_real_messages_are_read() {
    let mut made = Group::new(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY);
    made.group.set_aad(aad(true).encode());
    let (commit, _, _) = made.add(&Account::of(11));
    made.group.set_aad(aad(false).encode());
    let application =
        made.group.create_message(&made.provider, &made.account.device_key, b"hi").unwrap();
    let header = |epoch, content| MlsHeader {
        group_id: GROUP,
        epoch,
        content,
        aad: aad(content == MlsContent::Commit),
    };
    assert_eq!(mls_header(&bytes(&commit)), Ok(header(0, MlsContent::Commit)));
    assert_eq!(mls_header(&bytes(&application)), Ok(header(1, MlsContent::Application)));
}

#[test]
fn case_042_messages_of_the_wrong_kind() {
    let mut made = Group::new(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY);
    let (commit, welcome, package) = made.add(&Account::of(11));
    let signer = &made.account.device_key;
    let crypto = made.provider.crypto();
    let info = made.group.export_group_info(crypto, signer, true).unwrap();
    made.group.set_aad(aad(false).encode());
    let (proposal, _) = made
        .group
        .propose_self_update(&made.provider, signer, LeafNodeParameters::default())
        .unwrap();
    let mut public = Group::new(PURE_PLAINTEXT_WIRE_FORMAT_POLICY);
    public.group.set_aad(aad(true).encode());
    let (plain, _, _) = public.add(&Account::of(11));
    let wrong = [&welcome, &MlsMessageOut::from(package), &info, &proposal, &plain];
    for (at, message) in wrong.into_iter().enumerate() {
        let refused = mls_header(&bytes(message));
        assert_eq!(refused, Err(CredentialError::InvalidMlsType), "message {at}");
    }
    for message in [&commit, &info, &proposal, &plain] {
        let refused = welcome_references(&bytes(message));
        assert_eq!(refused, Err(CredentialError::InvalidMlsType));
    }
}

#[test]
fn a_welcome_names_the_key_packages_of_its_recipients() {
    let mut made = Group::new(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY);
    let (_, welcome, package) = made.add(&Account::of(11));
    let reference = package.hash_ref(made.provider.crypto()).unwrap();
    let welcome = bytes(&welcome);
    let expected = Digest::try_from(reference.as_slice()).unwrap();
    assert_eq!(welcome_references(&welcome), Ok(vec![expected]));
    for cut in 0..welcome.len() {
        assert!(welcome_references(&welcome[..cut]).is_err(), "cut at {cut}");
    }
    let mut other_suite = welcome;
    other_suite[5] = 3;
    let refused = welcome_references(&other_suite);
    assert_eq!(refused, Err(CredentialError::UnsupportedCiphersuite));
}

#[test]
fn authenticated_data_must_fit_the_content() {
    let (plain, commit) = (aad(false).encode(), aad(true).encode());
    let read = |content: u8, aad: &[u8]| mls_header(&private_message(content, &GROUP, aad));
    assert!(read(1, &plain).is_ok());
    assert!(read(3, &commit).is_ok());
    for (content, aad) in [(1, commit.as_slice()), (3, plain.as_slice()), (1, &[]), (3, &[1; 50])] {
        assert_eq!(read(content, aad), Err(CredentialError::AadMismatch));
    }
    for content in [0, 2, 4, 255] {
        assert_eq!(read(content, &plain), Err(CredentialError::InvalidMlsType));
    }
    for len in [0, 16, 31, 33] {
        let refused = mls_header(&private_message(1, &vec![6; len], &plain));
        assert_eq!(refused, Err(CredentialError::InvalidMlsType), "group id of {len}");
    }
}

/// What OpenMLS, by which members read, makes of the same bytes.
fn by_openmls(bytes: &[u8]) -> Option<MlsHeader> {
    let MlsMessageBodyIn::PrivateMessage(message) =
        MlsMessageIn::tls_deserialize_exact(bytes).ok()?.extract()
    else {
        return None;
    };
    let aad = Aad::decode(message.aad()).ok()?;
    let message = ProtocolMessage::from(message);
    let content = match message.content_type() {
        ContentType::Application => MlsContent::Application,
        ContentType::Commit => MlsContent::Commit,
        ContentType::Proposal => return None,
    };
    let fits = aad.commit.is_some() == (content == MlsContent::Commit);
    let group_id = message.group_id().as_slice().try_into().ok()?;
    let epoch = message.epoch().as_u64();
    fits.then_some(MlsHeader { group_id, epoch, content, aad })
}

proptest! {
    #[test]
    fn server_and_members_read_the_same_header(
        commit: bool,
        changes in proptest::collection::vec((0_usize..300, any::<u8>()), 0..3),
        cut in prop_oneof![Just(0_usize), 0_usize..200],
    ) {
        let content = if commit { 3 } else { 1 };
        let mut bytes = private_message(content, &GROUP, &aad(commit).encode());
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut));
        prop_assert_eq!(mls_header(&bytes).ok(), by_openmls(&bytes));
    }
}
