//! Three members, each with a database of its own and the group loaded anew for every step: what
//! OpenMLS stores can be read again, a rollback takes a ratchet step back, and the form on disk
//! is the one that was fixed. Never looks into OpenMLS's values.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "Clippy excuses test functions, not the functions they share"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::*;
use openmls::schedule::PreSharedKeyId;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::storage::StorageProvider as _;
use openmls_traits::types::SignatureScheme;
use qpc_mls::provider::{Provider, ProviderError, schema};
use qpc_storage::{Durability, Key, Options, Outcome, Store, Tx};
use tempfile::TempDir;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const GROUP: &[u8] = b"a group of three";
const JOIN_CONFIG: i64 = 1;

struct Identity(SigningKey);

impl Signer for Identity {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }

    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl Identity {
    fn credential(&self) -> CredentialWithKey {
        let public = self.0.verifying_key().to_bytes();
        CredentialWithKey {
            credential: BasicCredential::new(public.to_vec()).into(),
            signature_key: public.to_vec().into(),
        }
    }
}

struct Member {
    identity: Identity,
    crypto: RustCrypto,
    store: Store,
    dir: TempDir,
}

fn group_id() -> GroupId {
    GroupId::from_slice(GROUP)
}

fn open(dir: &TempDir) -> Store {
    let options = Options {
        durability: Durability::Process,
        ..Options::new(Key::from_bytes([3; 32]), vec![schema()])
    };
    Store::open(&dir.path().join("member.db"), &options).unwrap()
}

fn capabilities() -> Capabilities {
    Capabilities::builder().extensions(vec![ExtensionType::Unknown(0xff01)]).build()
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .use_ratchet_tree_extension(true)
        .max_past_epochs(2)
        .padding_size(32)
        .build()
}

impl Member {
    fn new(seed: u8) -> Member {
        let dir = tempfile::tempdir().unwrap();
        Member {
            identity: Identity(SigningKey::from_bytes(&[seed; 32])),
            crypto: RustCrypto::default(),
            store: open(&dir),
            dir,
        }
    }

    fn reopen(self) -> Member {
        self.store.close().unwrap();
        let store = open(&self.dir);
        Member { store, ..self }
    }

    // One transaction, committed at its end.
    fn run<T>(&mut self, step: impl FnOnce(&Tx<'_>, &RustCrypto, &Identity) -> T + Send) -> T {
        let (crypto, identity) = (&self.crypto, &self.identity);
        let job = |tx: &Tx<'_>| Ok::<T, ProviderError>(step(tx, crypto, identity));
        match self.store.transact(job).unwrap() {
            Outcome::Done(value) => value,
            Outcome::Refused(error) => panic!("{error}"),
            Outcome::Panicked => panic!("the step above panicked"),
        }
    }

    fn in_group<T>(
        &mut self,
        step: impl FnOnce(&mut MlsGroup, &Provider<'_>, &Identity) -> T + Send,
    ) -> T {
        self.run(|tx, crypto, identity| {
            let provider = Provider::new(crypto, tx);
            step(&mut load(&provider), &provider, identity)
        })
    }

    fn create(&mut self) {
        let required = RequiredCapabilitiesExtension::new(
            &[ExtensionType::Unknown(0xff01)],
            &[],
            &[CredentialType::Basic],
        );
        let extensions = vec![
            Extension::RequiredCapabilities(required),
            Extension::Unknown(0xff01, UnknownExtension(vec![9; 40])),
        ];
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .capabilities(capabilities())
            .use_ratchet_tree_extension(true)
            .max_past_epochs(2)
            .padding_size(32)
            .with_group_context_extensions(Extensions::from_vec(extensions).unwrap())
            .build();
        self.run(|tx, crypto, identity| {
            let provider = Provider::new(crypto, tx);
            let credential = identity.credential();
            MlsGroup::new_with_group_id(&provider, identity, &config, group_id(), credential)
                .unwrap();
        });
    }

    fn key_package(&mut self, last_resort: bool) -> KeyPackage {
        self.run(|tx, crypto, identity| {
            let mut builder = KeyPackage::builder().leaf_node_capabilities(capabilities());
            if last_resort {
                builder = builder.mark_as_last_resort();
            }
            let provider = Provider::new(crypto, tx);
            let bundle = builder.build(SUITE, &provider, identity, identity.credential());
            bundle.unwrap().key_package().clone()
        })
    }

    fn join(&mut self, welcome: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).unwrap();
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            panic!("not a welcome");
        };
        self.run(|tx, crypto, _| {
            let provider = Provider::new(crypto, tx);
            StagedWelcome::new_from_welcome(&provider, &join_config(), welcome, None)
                .unwrap()
                .into_group(&provider)
                .unwrap();
        });
    }

    fn send(&mut self, text: &str) -> Vec<u8> {
        self.in_group(|group, provider, identity| {
            let message = group.create_message(provider, identity, text.as_bytes());
            wire(&message.unwrap())
        })
    }

    fn receive(&mut self, message: &[u8]) -> Option<String> {
        self.in_group(|group, provider, _| process(group, provider, message).unwrap())
    }

    fn count(&mut self, table: &str) -> i64 {
        self.run(|tx, _, _| {
            let query = format!("SELECT count(*) FROM {table}");
            tx.query_row(&query, [], |row| row.get(0)).unwrap()
        })
    }

    fn stored(&mut self, kind: i64) -> Vec<u8> {
        self.run(|tx, _, _| stored(tx, kind))
    }
}

fn stored(tx: &Tx<'_>, kind: i64) -> Vec<u8> {
    let query = "SELECT value FROM mls_group WHERE kind = ?1";
    tx.query_row(query, [kind], |row| row.get(0)).unwrap()
}

fn secrets(tx: &Tx<'_>) -> Vec<u8> {
    tx.query_row("SELECT value FROM mls_message_secrets", [], |row| row.get(0)).unwrap()
}

fn load(provider: &Provider<'_>) -> MlsGroup {
    MlsGroup::load(provider.storage(), &group_id()).unwrap().expect("the group is stored")
}

fn wire(message: &MlsMessageOut) -> Vec<u8> {
    message.tls_serialize_detached().unwrap()
}

// Returns the text of an application message; stores a proposal; merges a commit.
fn process(
    group: &mut MlsGroup,
    provider: &Provider<'_>,
    message: &[u8],
) -> Result<Option<String>, String> {
    let message = MlsMessageIn::tls_deserialize_exact(message).unwrap();
    let message = message.try_into_protocol_message().unwrap();
    let processed =
        group.process_message(provider, message).map_err(|error| format!("{error:?}"))?;
    match processed.into_content() {
        ProcessedMessageContent::ApplicationMessage(text) => {
            Ok(Some(String::from_utf8(text.into_bytes()).unwrap()))
        }
        ProcessedMessageContent::ProposalMessage(proposal) => {
            group.store_pending_proposal(provider.storage(), *proposal).unwrap();
            Ok(None)
        }
        ProcessedMessageContent::StagedCommitMessage(commit) => {
            group.merge_staged_commit(provider, *commit).unwrap();
            Ok(None)
        }
        ProcessedMessageContent::ExternalJoinProposalMessage(_)
        | ProcessedMessageContent::OwnPendingCommit
        | ProcessedMessageContent::OwnPrivateMessage => panic!("not sent in these tests"),
    }
}

// Commits to whatever is pending and merges it.
fn commit_pending(member: &mut Member) -> Vec<u8> {
    let commit = member.in_group(|group, provider, identity| {
        let (commit, _, _) = group.commit_to_pending_proposals(provider, identity).unwrap();
        wire(&commit)
    });
    merge_own(member);
    commit
}

fn merge_own(member: &mut Member) {
    member.in_group(|group, provider, _| group.merge_pending_commit(provider).unwrap());
}

fn three_members() -> (Member, Member, Member) {
    let (mut alice, mut bob, mut carol) = (Member::new(1), Member::new(2), Member::new(3));
    alice.create();
    let packages = [bob.key_package(false), carol.key_package(true)];
    let welcome = alice.in_group(|group, provider, identity| {
        let (_, welcome, _) = group.add_members(provider, identity, &packages).unwrap();
        wire(&welcome)
    });
    merge_own(&mut alice);
    bob.join(&welcome);
    carol.join(&welcome);
    (alice, bob, carol)
}

fn everyone_talks(members: &mut [&mut Member]) {
    for sender in 0..members.len() {
        for turn in ["first", "second"] {
            let message = members[sender].send(turn);
            for receiver in (0..members.len()).filter(|&n| n != sender) {
                assert_eq!(members[receiver].receive(&message).as_deref(), Some(turn));
            }
        }
    }
}

#[test]
fn three_members_update_and_remove_with_a_reload_at_each_step() {
    let (mut alice, mut bob, mut carol) = three_members();
    assert_eq!(bob.count("mls_key_package"), 0, "a key package is used once");
    assert_eq!(carol.count("mls_key_package"), 1, "a last resort is kept");
    everyone_talks(&mut [&mut alice, &mut bob, &mut carol]);

    let late = carol.send("late");
    let commit = bob.in_group(|group, provider, identity| {
        let bundle = group.self_update(provider, identity, LeafNodeParameters::default());
        wire(bundle.unwrap().commit())
    });
    merge_own(&mut bob);
    assert_eq!(alice.receive(&commit), None);
    assert_eq!(carol.receive(&commit), None);
    assert_eq!(alice.receive(&late).as_deref(), Some("late"), "past epoch");
    everyone_talks(&mut [&mut alice, &mut bob, &mut carol]);

    let (mut alice, mut bob, mut carol) = (alice.reopen(), bob.reopen(), carol.reopen());
    let removal = alice.in_group(|group, provider, identity| {
        let carol = group.members().find(|member| {
            member.signature_key == SigningKey::from_bytes(&[3; 32]).verifying_key().to_bytes()
        });
        let removal = group.remove_members(provider, identity, &[carol.unwrap().index]);
        wire(&removal.unwrap().0)
    });
    merge_own(&mut alice);
    assert_eq!(bob.receive(&removal), None);
    assert_eq!(carol.receive(&removal), None);
    assert!(carol.in_group(|group, _, _| !group.is_active()));
    everyone_talks(&mut [&mut alice, &mut bob]);
}

#[test]
fn proposals_wait_in_the_tables_until_they_are_committed() {
    let (mut alice, mut bob, mut carol) = three_members();
    let update = carol.in_group(|group, provider, identity| {
        let update = group.propose_self_update(provider, identity, LeafNodeParameters::default());
        wire(&update.unwrap().0)
    });
    let psk = PreSharedKeyId::external(b"shared".to_vec(), vec![5; 32]);
    for member in [&mut alice, &mut bob, &mut carol] {
        member.run(|tx, crypto, _| {
            let provider = Provider::new(crypto, tx);
            psk.store(&provider, b"a secret of 32 bytes, out of band").unwrap();
        });
    }
    assert_eq!(alice.receive(&update), None);
    assert_eq!(bob.receive(&update), None);
    let inject = bob.in_group(|group, provider, identity| {
        let inject = group.propose_pre_shared_key(provider, identity, psk.clone());
        wire(&inject.unwrap().0)
    });
    assert_eq!(alice.receive(&inject), None);
    assert_eq!(carol.receive(&inject), None);
    for member in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(member.count("mls_proposal"), 2);
    }
    assert_eq!(carol.count("mls_own_leaf_node"), 1);

    let (mut alice, mut bob, mut carol) = (alice.reopen(), bob.reopen(), carol.reopen());
    let commit = commit_pending(&mut alice);
    assert_eq!(bob.receive(&commit), None);
    assert_eq!(carol.receive(&commit), None);
    for member in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(member.count("mls_proposal"), 0);
        assert_eq!(member.count("mls_own_leaf_node"), 0);
        assert_eq!(member.count("mls_psk"), 1);
    }
    everyone_talks(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn a_deleted_group_leaves_no_row_of_its_own() {
    let (_, mut bob, _) = three_members();
    assert_eq!(bob.count("mls_group"), 9);
    assert_eq!(bob.count("mls_message_secrets"), 1);
    assert_eq!(bob.count("mls_epoch_key_pairs"), 1);
    bob.in_group(|group, provider, _| group.delete(provider.storage()).unwrap());
    for table in [
        "mls_group",
        "mls_message_secrets",
        "mls_own_leaf_node",
        "mls_proposal",
        "mls_epoch_key_pairs",
        "mls_encryption_key_pair",
        "mls_key_package",
    ] {
        assert_eq!(bob.count(table), 0, "{table}");
    }
}

#[derive(Debug)]
struct Undo;

impl From<qpc_storage::sql::Error> for Undo {
    fn from(_: qpc_storage::sql::Error) -> Undo {
        Undo
    }
}

// Runs a step on the loaded group and takes it back; returns what the step had made.
fn undone<T>(
    member: &mut Member,
    step: impl FnOnce(&mut MlsGroup, &Provider<'_>, &Identity) -> T + Send,
) -> T {
    member.run(|tx, crypto, identity| {
        let before = secrets(tx);
        let mut made = None;
        let outcome: Result<(), Undo> = tx.savepoint(|tx| {
            let provider = Provider::new(crypto, tx);
            made = Some(step(&mut load(&provider), &provider, identity));
            assert_ne!(secrets(tx), before, "the ratchet moved");
            Err(Undo)
        });
        outcome.unwrap_err();
        assert_eq!(secrets(tx), before);
        made.unwrap()
    })
}

#[test]
fn case_105_a_rollback_takes_the_ratchet_step_back() {
    let (mut alice, mut bob, _) = three_members();
    let lost = undone(&mut alice, |group, provider, identity| {
        wire(&group.create_message(provider, identity, b"lost").unwrap())
    });
    let sent = alice.send("sent");
    assert_eq!(bob.receive(&sent).as_deref(), Some("sent"));
    // The same generation as the one taken back: the peer has used its key up.
    let error = bob.in_group(|group, provider, _| process(group, provider, &lost)).unwrap_err();
    assert!(error.contains("SecretReuseError"), "{error}");
}

#[test]
fn a_rollback_lets_a_message_be_decrypted_again() {
    let (mut alice, mut bob, _) = three_members();
    let message = alice.send("twice");
    let first = undone(&mut bob, |group, provider, _| process(group, provider, &message).unwrap());
    assert_eq!(first.as_deref(), Some("twice"));
    assert_eq!(bob.receive(&message).as_deref(), Some("twice"));
}

#[test]
fn golden_bytes_of_a_stored_row() {
    let mut member = Member::new(4);
    member.run(|tx, crypto, _| {
        let provider = Provider::new(crypto, tx);
        let storage = provider.storage();
        storage.write_mls_join_config(&group_id(), &join_config()).unwrap();
    });
    let golden: &[u8] = b"\x86\
        \xb2wire_format_policy\x82\
        \xa8outgoing\xb0AlwaysCiphertext\
        \xa8incoming\xb0AlwaysCiphertext\
        \xacpadding_size\x20\
        \xbapast_epoch_deletion_policy\x02\
        \xb9number_of_resumption_psks\x00\
        \xbause_ratchet_tree_extension\xc3\
        \xbcsender_ratchet_configuration\x82\
        \xb6out_of_order_tolerance\x05\
        \xb8maximum_forward_distance\xcd\x03\xe8";
    assert_eq!(member.stored(JOIN_CONFIG), golden);
    let read: Option<MlsGroupJoinConfig> = member.run(|tx, crypto, _| {
        let provider = Provider::new(crypto, tx);
        provider.storage().mls_group_join_config(&group_id()).unwrap()
    });
    assert_eq!(read, Some(join_config()));
}
