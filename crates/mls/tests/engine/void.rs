//! Commits that every undamaged member skips alike, each made for real by a hostile member: all
//! give the same reason, nothing of the group changes by a byte, and the next good Commit applies.

use openmls::prelude::tls_codec::{Deserialize as _, Serialize as _};
use openmls::prelude::{
    BasicCredential, Capabilities, CredentialWithKey, Extension, ExtensionType, Extensions,
    KeyPackage, KeyPackageIn, LeafNodeParameters, Lifetime, ProtocolVersion,
    RequiredCapabilitiesExtension, UnknownExtension,
};
use openmls_traits::OpenMlsProvider as _;
use qpc_credential::lifetime;
use qpc_mls::context::{CHANNEL_EXTENSION, ChannelContext};
use qpc_mls::engine::CommitPlan;
use qpc_mls::{Unjudged, Verdict, VoidReason};
use qpc_proto::ChannelId;
use qpc_proto::message::DeviceRef;
use qpc_proto::roster::{Role, RosterChange};

use super::hostile::{Attack, Lie, last_byte};
use super::support::{
    CHANNEL, Entry, Party, aad, assert_in_step, certificate, context, crypto, now_ms, removing,
    trio,
};

fn entry(payload: Vec<u8>, change: &RosterChange) -> Entry {
    Entry {
        payload,
        change: change.encode(),
        statements: Vec::new(),
        accepted_at_ms: now_ms(),
        welcome: None,
    }
}

/// All give the reason, none is changed by it, and the committer can still commit for all.
fn skipped_by_all(trio: &mut [Party; 3], (committer, entry): (usize, &Entry), why: VoidReason) {
    for (at, party) in trio.iter_mut().enumerate().filter(|(at, _)| *at != committer) {
        let before = party.state();
        let view = party.view();
        assert_eq!(party.judge(entry), Verdict::Void(why), "member {at}");
        assert_eq!(party.state(), before, "member {at} is changed by a void Commit");
        assert_eq!(party.view().epoch_authenticator, view.epoch_authenticator);
    }
    good_commit_follows(trio, committer);
}

fn good_commit_follows(trio: &mut [Party; 3], committer: usize) {
    let good = trio[committer].commit(1, &CommitPlan::default());
    trio[committer].merge(&good);
    for (_, party) in trio.iter_mut().enumerate().filter(|(at, _)| *at != committer) {
        let verdict = party.judge(&good);
        assert!(matches!(verdict, Verdict::Applied(_)), "{verdict:?}");
    }
    let [a, b, c] = trio;
    assert_in_step(&mut [a, b, c]);
}

/// Bob, no admin, attacks with an honestly declared change.
fn attack(trio: &mut [Party; 3], change: &RosterChange, attack: Attack) -> Entry {
    let payload = trio[1].attack(&aad(1, change, &[]), attack);
    entry(payload, change)
}

fn key_package(bytes: &[u8]) -> KeyPackage {
    KeyPackageIn::tls_deserialize_exact(bytes)
        .unwrap()
        .validate(&crypto(), ProtocolVersion::Mls10)
        .unwrap()
}

fn removes(devices: &[DeviceRef]) -> RosterChange {
    RosterChange { removes: devices.iter().copied().collect(), ..RosterChange::default() }
}

fn adds(devices: &[DeviceRef]) -> RosterChange {
    RosterChange { adds: devices.iter().copied().collect(), ..RosterChange::default() }
}

#[test]
fn a_declared_change_that_the_proposals_do_not_make_is_void() {
    // Alice is an admin: only the lie can be the reason.
    for wrong in 0..4 {
        let mut trio = trio();
        let (bob, carol) = (trio[1].id(), trio[2].id());
        let roles = [(bob.account, Role::Admin)].into();
        let (declared, removed) = match wrong {
            0 => (RosterChange::default(), vec![carol]),
            1 => (removes(&[carol]), vec![]),
            2 => (removes(&[bob]), vec![carol]),
            _ => (RosterChange { roles, ..RosterChange::default() }, vec![]),
        };
        let leaves: Vec<u32> = trio[0]
            .view()
            .members
            .iter()
            .filter(|leaf| removed.contains(&leaf.certificate.device()))
            .map(|leaf| leaf.index)
            .collect();
        let attack = Attack { removes: leaves, ..Attack::default() };
        let payload = trio[0].attack(&aad(1, &declared, &[]), attack);
        skipped_by_all(&mut trio, (0, &entry(payload, &declared)), VoidReason::Roster);
    }
}

#[test]
fn a_declared_change_other_than_the_one_bound_is_void() {
    let mut trio = trio();
    let honest = trio[0].commit(1, &CommitPlan::default());
    trio[0].clear();
    let other = Entry { change: removes(&[trio[2].id()]).encode(), ..honest.clone() };
    let rubbish = Entry { change: vec![1, 2, 3], ..honest };
    for wrong in [other, rubbish] {
        for party in &mut trio[1..] {
            assert_eq!(party.judge(&wrong), Verdict::Void(VoidReason::Roster));
        }
    }
    good_commit_follows(&mut trio, 0);
}

#[test]
fn statements_other_than_the_bound_ones_are_void() {
    let mut trio = trio();
    let statement = trio[2].leave_statement(CHANNEL);
    let plan = CommitPlan { statements: vec![statement.clone()], ..removing(&[&trio[2]]) };
    let honest = trio[1].commit(1, &plan);
    trio[1].clear();
    for statements in [vec![], vec![statement.clone(), statement]] {
        let wrong = Entry { statements, ..honest.clone() };
        assert_eq!(trio[0].judge(&wrong), Verdict::Void(VoidReason::Roster));
        assert_eq!(trio[2].judge(&wrong), Verdict::Void(VoidReason::Roster));
    }
    good_commit_follows(&mut trio, 1);
}

#[test]
fn a_member_who_removes_adds_or_renames_is_void() {
    let mut dave = Party::new(40);
    let package = key_package(&dave.key_package().bytes);
    for wrong in 0..4 {
        let mut trio = trio();
        let alice = trio[0].id();
        let leaf = trio[1].leaf_of(&Party::new(10));
        let context = context(&[&trio[0]]);
        let mut renamed = context.clone();
        renamed.title = "mine now".to_owned();
        let mut usurped = context;
        usurped.admins.insert(trio[1].account());
        let role = [(trio[1].account(), Role::Admin)].into();
        let (change, attacked) = match wrong {
            0 => (removes(&[alice]), Attack { removes: vec![leaf], ..Attack::default() }),
            1 => {
                let adds_dave = Attack { adds: vec![package.clone()], ..Attack::default() };
                (adds(&[dave.id()]), adds_dave)
            }
            2 => (RosterChange::default(), proposing(&renamed, vec![])),
            _ => {
                let change = RosterChange { roles: role, ..RosterChange::default() };
                (change, proposing(&usurped, vec![]))
            }
        };
        let entry = attack(&mut trio, &change, attacked);
        skipped_by_all(&mut trio, (1, &entry), VoidReason::Role);
    }
}

fn proposing(context: &ChannelContext, more: Vec<Extension>) -> Attack {
    let required = [ExtensionType::Unknown(CHANNEL_EXTENSION)];
    let required = RequiredCapabilitiesExtension::new(&required, &[], &[]);
    let own = vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(CHANNEL_EXTENSION, UnknownExtension(context.encode())),
    ];
    let all = Extensions::from_vec([own, more].concat()).unwrap();
    Attack { context: Some(all), ..Attack::default() }
}

#[test]
fn a_certificate_that_is_not_the_leafs_is_void() {
    for wrong in 0..3 {
        let mut trio = trio();
        // The credential of somebody else over a key of the attacker's.
        let mut ghost = Party::new(40);
        let stolen = match wrong {
            0 => certificate((40, 42), now_ms() + 1_000_000_000).as_bytes().to_vec(),
            1 => ghost.certificate.as_bytes()[1..].to_vec(),
            _ => {
                let mut bytes = ghost.certificate.as_bytes().to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                bytes
            }
        };
        let signer = if wrong == 0 { Party::new(50) } else { Party::new(40) };
        let package = forged_package(&mut ghost, &signer, stolen);
        let change = adds(&[ghost.id()]);
        let attacked = Attack { adds: vec![package], ..Attack::default() };
        let payload = trio[0].attack(&aad(1, &change, &[]), attacked);
        skipped_by_all(&mut trio, (0, &entry(payload, &change)), VoidReason::Certificate);
    }
}

/// A KeyPackage signed by `signer` under any credential.
pub(super) fn forged_package(party: &mut Party, signer: &Party, credential: Vec<u8>) -> KeyPackage {
    forged_until(party, (signer, credential), Lifetime::default())
}

fn forged_until(
    party: &mut Party,
    (signer, credential): (&Party, Vec<u8>),
    lifetime: Lifetime,
) -> KeyPackage {
    let key = signer.certificate.entry.key.as_bytes().to_vec();
    let device = signer.engine.device().clone();
    let context = context(&[party]);
    party.create(&context);
    party.bare(Lie::None, |_, provider, _| {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(credential).into(),
            signature_key: key.into(),
        };
        KeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .key_package_lifetime(lifetime)
            .build(super::support::SUITE, provider, &device, credential)
            .unwrap()
            .key_package()
            .clone()
    })
}

fn capabilities() -> Capabilities {
    Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![super::support::SUITE])
        .extensions(vec![ExtensionType::LastResort, ExtensionType::Unknown(CHANNEL_EXTENSION)])
        .build()
}

/// Alice adds a device whose KeyPackage lives for `lifetime`, though her library would refuse it.
fn add_that_lives(trio: &mut [Party; 3], lifetime: Lifetime) -> Entry {
    let signer = Party::new(40);
    let bytes = signer.certificate.as_bytes().to_vec();
    let package = |lifetime| forged_until(&mut Party::new(40), (&signer, bytes.clone()), lifetime);
    let (good, bad) = (package(Lifetime::default()), package(lifetime));
    let bytes = |package: &KeyPackage| package.tls_serialize_detached().unwrap();
    let change = adds(&[signer.id()]);
    let lie = Lie::Swap(bytes(&good), bytes(&bad));
    let attacked = Attack { adds: vec![good], lie, ..Attack::default() };
    entry(trio[0].attack(&aad(1, &change, &[]), attacked), &change)
}

#[test]
fn an_add_that_no_directory_would_have_served_is_void_and_wedges_nobody() {
    let now = now_ms() / 1_000;
    let over = Lifetime::init(now - 5_000_000, now - 5);
    let to_come = Lifetime::init(now + 9_000, now + 5_000_000);
    for lifetime in [over, to_come] {
        let mut trio = trio();
        let entry = add_that_lives(&mut trio, lifetime);
        skipped_by_all(&mut trio, (0, &entry), VoidReason::Certificate);
    }
}

#[test]
fn an_add_that_was_good_when_accepted_waits_for_a_sane_clock() {
    let mut trio = trio();
    // Accepted long ago, read by a machine whose clock is years ahead.
    let now = now_ms() / 1_000;
    let mut entry = add_that_lives(&mut trio, Lifetime::init(now - 5_000_000, now - 5));
    entry.accepted_at_ms = (now - 5 - lifetime::RETENTION_MAX) * 1_000;
    assert_eq!(trio[1].judge(&entry), Verdict::Unjudged(Unjudged::Clock));
    // A second later, its last readers could not have judged it: void for all.
    entry.accepted_at_ms += 1_000;
    assert_eq!(trio[1].judge(&entry), Verdict::Void(VoidReason::Certificate));
    good_commit_follows(&mut trio, 0);
}

#[test]
fn an_add_that_ends_before_the_last_may_read_it_is_void_while_it_lives() {
    let mut trio = trio();
    let now = now_ms() / 1_000;
    let short = Lifetime::init(now - 10, now + lifetime::RETENTION_MAX - 10);
    let mut dave = Party::new(40);
    let (signer, bytes) = (Party::new(40), dave.certificate.as_bytes().to_vec());
    let package = forged_until(&mut dave, (&signer, bytes), short);
    let change = adds(&[dave.id()]);
    let attacked = Attack { adds: vec![package], ..Attack::default() };
    let payload = trio[0].attack(&aad(1, &change, &[]), attacked);
    skipped_by_all(&mut trio, (0, &entry(payload, &change)), VoidReason::Certificate);
}

#[test]
fn case_130_a_certificate_that_had_ended_at_the_accept_time_is_void_for_all() {
    let mut trio = trio();
    let ends = now_ms();
    let mut dave = Party::until((40, 42), ends);
    let plan = super::support::adding(&[&dave.key_package()]);
    let mut entry = trio[0].commit(1, &plan);
    trio[0].clear();
    entry.accepted_at_ms = ends + 1;
    skipped_by_all(&mut trio, (0, &entry), VoidReason::Certificate);
    // A millisecond earlier the same bytes are in force, whatever the reader's clock says.
    let mut trio = super::support::trio();
    let mut entry = trio[0].commit(1, &super::support::adding(&[&dave.key_package()]));
    entry.accepted_at_ms = ends;
    assert!(matches!(trio[1].judge(&entry), Verdict::Applied(_)));
}

#[test]
fn a_leaf_that_takes_another_identity_is_void() {
    for wrong in 0..2 {
        let mut trio = trio();
        // Carol's certificate, or one of a made-up device of Bob's, over Bob's key.
        let taken = match wrong {
            0 => trio[2].certificate.as_bytes().to_vec(),
            _ => certificate((20, 27), now_ms() + 1_000_000_000).as_bytes().to_vec(),
        };
        let own = trio[1].certificate.entry.key.as_bytes().to_vec();
        let leaf = LeafNodeParameters::builder()
            .with_credential_with_key(CredentialWithKey {
                credential: BasicCredential::new(taken).into(),
                signature_key: own.into(),
            })
            .build();
        let change = RosterChange::default();
        let attacked = Attack { leaf: Some(leaf), ..Attack::default() };
        let entry = attack(&mut trio, &change, attacked);
        skipped_by_all(&mut trio, (1, &entry), VoidReason::Certificate);
    }
}

#[test]
fn a_context_that_is_not_of_the_profile_is_void() {
    for wrong in 0..3 {
        let mut trio = trio();
        let mut context = context(&[&trio[0]]);
        let mut more = Vec::new();
        match wrong {
            0 => context.channel = ChannelId([1; 16]),
            1 => context.kind = qpc_proto::message::ChannelKind::Direct,
            _ => more.push(Extension::ExternalSenders(Vec::new())),
        }
        let change = RosterChange::default();
        let payload = trio[0].attack(&aad(1, &change, &[]), proposing(&context, more));
        skipped_by_all(&mut trio, (0, &entry(payload, &change)), VoidReason::Kind);
    }
}

#[test]
fn what_is_no_commit_is_void() {
    let mut trio = trio();
    let change = RosterChange::default();
    let message = trio[1].seal(1, b"I am a message");
    let proposal = trio[1].bare(Lie::None, |group, provider, engine| {
        group.set_aad(aad(1, &RosterChange::default(), &[]).encode());
        let leaf = LeafNodeParameters::default();
        let (proposal, _) = group.propose_self_update(provider, engine.device(), leaf).unwrap();
        group.clear_pending_proposals(provider.storage()).unwrap();
        proposal.to_bytes().unwrap()
    });
    // An application message's own authenticated data has no place for a Commit's.
    for payload in [message, proposal] {
        let entry = entry(payload, &change);
        for party in [0, 2] {
            let before = trio[party].state();
            assert_eq!(trio[party].judge(&entry), Verdict::Void(VoidReason::Kind));
            assert_eq!(trio[party].state(), before);
        }
    }
    good_commit_follows(&mut trio, 1);
}

#[test]
fn case_114_a_commit_by_reference_to_an_unseen_proposal_is_void() {
    let mut trio = trio();
    let alice = trio[1].leaf_of(&Party::new(30));
    trio[1].bare(Lie::None, |group, provider, engine| {
        let index = openmls::prelude::LeafNodeIndex::new(alice);
        group.propose_remove_member(provider, engine.device(), index).unwrap();
    });
    let change = removes(&[trio[2].id()]);
    let entry = attack(&mut trio, &change, Attack::default());
    trio[1].bare(Lie::None, |group, provider, _| {
        group.clear_pending_proposals(provider.storage()).unwrap();
    });
    skipped_by_all(&mut trio, (1, &entry), VoidReason::Kind);
}

#[test]
fn authenticated_data_of_another_form_is_void() {
    let mut trio = trio();
    let change = RosterChange::default();
    let message_form = qpc_proto::aad::Aad { commit: None, ..aad(1, &change, &[]) };
    let payload = trio[1].attack(&message_form, Attack::default());
    skipped_by_all(&mut trio, (1, &entry(payload, &change)), VoidReason::Kind);
}

#[test]
fn a_wrong_confirmation_tag_or_signature_is_void() {
    type Rewrite = fn(&mut [u8]);
    let lies: [(Rewrite, VoidReason); 2] = [
        (
            |content| {
                let at = last_byte(content);
                content[at] ^= 0x10;
            },
            VoidReason::ConfirmationTag,
        ),
        (
            |content| {
                // Before the tag's 33 bytes stand the signature's 64.
                let at = last_byte(content) - 33 - 12;
                content[at] ^= 0x10;
            },
            VoidReason::Signature,
        ),
    ];
    for (lie, reason) in lies {
        let mut trio = trio();
        let change = RosterChange::default();
        let attacked = Attack { lie: Lie::Content(lie), ..Attack::default() };
        let entry = attack(&mut trio, &change, attacked);
        skipped_by_all(&mut trio, (1, &entry), reason);
    }
}

#[test]
fn sender_data_that_names_no_place_in_the_ratchets_is_void_and_wedges_nobody() {
    let lies: [fn(&mut [u8]); 4] = [
        |data| data[4..8].fill(0xff),
        |data| data[4..8].copy_from_slice(&5_000_u32.to_be_bytes()),
        |data| data[..4].fill(0xff),
        |data| data[..4].copy_from_slice(&3_u32.to_be_bytes()),
    ];
    for (which, lie) in lies.into_iter().enumerate() {
        let mut trio = trio();
        let change = RosterChange::default();
        let attacked = Attack { lie: Lie::SenderData(lie), ..Attack::default() };
        let entry = attack(&mut trio, &change, attacked);
        for party in [0, 2] {
            let before = trio[party].state();
            let verdict = trio[party].judge(&entry);
            assert!(matches!(verdict, Verdict::Void(_)), "lie {which}: {verdict:?}");
            assert_eq!(trio[party].state(), before);
        }
        good_commit_follows(&mut trio, 1);
    }
}

#[test]
fn a_commit_in_anothers_name_is_void_for_that_member_and_the_rest() {
    let mut trio = trio();
    let change = RosterChange::default();
    // Carol's place in the tree, as sender data names it.
    assert_eq!(trio[1].leaf_of(&Party::new(30)), 2);
    let lie = Lie::SenderData(|data| data[..4].copy_from_slice(&2_u32.to_be_bytes()));
    let entry = attack(&mut trio, &change, Attack { lie, ..Attack::default() });
    for party in [0, 2] {
        let verdict = trio[party].judge(&entry);
        assert!(matches!(verdict, Verdict::Void(_)), "{verdict:?}");
    }
    good_commit_follows(&mut trio, 1);
}

#[test]
fn every_byte_of_a_commit_counts_and_all_agree() {
    let mut trio = trio();
    let good = trio[0].commit(1, &CommitPlan::default());
    let (bob, carol) = (trio[1].state(), trio[2].state());
    for at in (0..good.payload.len()).step_by(11) {
        let mut flipped = good.clone();
        flipped.payload[at] ^= 0x04;
        let verdict = trio[1].judge(&flipped);
        assert!(matches!(verdict, Verdict::Void(_)), "byte {at}: {verdict:?}");
        assert_eq!(trio[2].judge(&flipped), verdict, "byte {at}");
        let cut = Entry { payload: good.payload[..at].to_vec(), ..good.clone() };
        assert_eq!(trio[1].judge(&cut), Verdict::Void(VoidReason::Parse), "cut at {at}");
    }
    assert_eq!((trio[1].state(), trio[2].state()), (bob, carol));
    trio[0].merge(&good);
    assert!(matches!(trio[1].judge(&good), Verdict::Applied(_)));
    assert!(matches!(trio[2].judge(&good), Verdict::Applied(_)));
}

#[test]
fn a_void_commit_leaves_an_own_pending_one_alone() {
    let mut trio = trio();
    let own = trio[0].commit(1, &CommitPlan::default());
    let alice = trio[0].id();
    let leaf = trio[1].leaf_of(&Party::new(10));
    let attacked = Attack { removes: vec![leaf], ..Attack::default() };
    let void = attack(&mut trio, &removes(&[alice]), attacked);
    assert_eq!(trio[0].judge(&void), Verdict::Void(VoidReason::Role));
    assert_eq!(trio[2].judge(&void), Verdict::Void(VoidReason::Role));
    trio[0].merge(&own);
    assert!(matches!(trio[2].judge(&own), Verdict::Applied(_)));
}

#[test]
fn a_device_that_is_added_beside_its_own_leaf_is_void() {
    // The same device id with another key: to MLS two members, to the profile one device twice.
    let mut trio = trio();
    let carol = trio[2].id();
    let mut twin = Party::with_key((30, 32, 35));
    assert_eq!(twin.id(), carol);
    let package = key_package(&twin.key_package().bytes);
    let change = adds(&[carol]);
    let attacked = Attack { adds: vec![package], ..Attack::default() };
    let payload = trio[0].attack(&aad(1, &change, &[]), attacked);
    skipped_by_all(&mut trio, (0, &entry(payload, &change)), VoidReason::Roster);
}

/// A KeyPackage with another encryption key in its leaf, signed like any.
fn with_encryption_key(party: &mut Party, key: [u8; 32]) -> Vec<u8> {
    /// A signature as a vector, and an empty list of extensions.
    const SIGNATURE: usize = 2 + 64;
    const NO_EXTENSIONS: usize = 1;
    /// Version and suite, then the init key and the leaf's key, each as a vector.
    const LEAF: usize = 4 + 33;
    let mut bytes = party.key_package().bytes;
    let package_end = bytes.len() - SIGNATURE;
    let leaf_end = package_end - NO_EXTENSIONS - SIGNATURE;
    bytes[LEAF + 1..LEAF + 33].copy_from_slice(&key);
    let signature = party.sign_labelled("LeafNodeTBS", &bytes[LEAF..leaf_end]);
    bytes[leaf_end + 2..leaf_end + SIGNATURE].copy_from_slice(&signature);
    let signature = party.sign_labelled("KeyPackageTBS", &bytes[..package_end]);
    bytes[package_end + 2..].copy_from_slice(&signature);
    bytes
}

/// Whoever commits encrypts to every other leaf: to a point of low order nothing can be.
#[test]
fn a_leaf_that_nobody_can_encrypt_to_is_not_added() {
    let mut dave = Party::new(40);
    let mut whole = key_package(&with_encryption_key(&mut dave, [9; 32]));
    assert_eq!(whole.leaf_node().encryption_key().tls_serialize_detached().unwrap()[1..], [9; 32]);
    for low in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let bytes = with_encryption_key(&mut dave, low);
        assert!(qpc_credential::admit_key_package(&bytes, now_ms()).is_err());
        let mut trio = trio();
        whole = key_package(&bytes);
        let change = adds(&[dave.id()]);
        let attack = Attack { adds: vec![whole.clone()], ..Attack::default() };
        let payload = trio[0].attack(&aad(1, &change, &[]), attack);
        skipped_by_all(&mut trio, (0, &entry(payload, &change)), VoidReason::Kind);
    }
}

/// The committer's own leaf, made by its path.
#[test]
fn a_path_whose_leaf_nobody_can_encrypt_to_is_void() {
    let mut trio = trio();
    let change = RosterChange::default();
    let weak = Attack { lie: Lie::WeakKeys(&[2]), ..Attack::default() };
    let weak = attack(&mut trio, &change, weak);
    skipped_by_all(&mut trio, (1, &weak), VoidReason::Kind);
}
