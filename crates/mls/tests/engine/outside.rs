//! What comes beside the Commits of members: proposals of their own, and Commits from outside.

use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::Deserialize as _;
use openmls::prelude::*;
use qpc_mls::context::CHANNEL_EXTENSION;
use qpc_mls::engine::CommitPlan;
use qpc_mls::provider::Provider;
use qpc_mls::{MlsError, Verdict, VoidReason};
use qpc_proto::roster::RosterChange;

use super::hostile::Lie;
use super::support::{Entry, Party, SUITE, aad, applies, assert_in_step, crypto, now_ms, trio};

fn entry(payload: Vec<u8>) -> Entry {
    let change = RosterChange::default().encode();
    Entry { payload, change, statements: Vec::new(), accepted_at_ms: now_ms(), welcome: None }
}

/// Nothing of it is opened, in force, or kept.
fn is_void(party: &mut Party, payload: &[u8], why: VoidReason) {
    let before = party.state();
    assert_eq!(party.judge(&entry(payload.to_vec())), Verdict::Void(why));
    let opened = party.open(payload);
    assert!(matches!(opened, Err(MlsError::Refused(_))), "{opened:?}");
    assert_eq!(party.state(), before);
}

#[test]
fn case_132_a_flood_of_proposals_is_void_and_nothing_of_it_is_kept() {
    let [mut alice, mut bob, mut carol] = trio();
    let victim = alice.leaf_of(&carol);
    let flood: Vec<Vec<u8>> = bob.bare(Lie::None, |group, provider, engine| {
        let mut propose = |_| {
            group.set_aad(aad(1, &RosterChange::default(), &[]).encode());
            let victim = LeafNodeIndex::new(victim);
            let out = group.propose_remove_member(provider, engine.device(), victim).unwrap().0;
            out.to_bytes().unwrap()
        };
        let flood = (0..100).map(&mut propose).collect();
        group.clear_pending_proposals(provider.storage()).unwrap();
        flood
    });
    for proposal in &flood {
        is_void(&mut alice, proposal, VoidReason::Kind);
        is_void(&mut carol, proposal, VoidReason::Kind);
    }
    // The next Commit does none of it.
    let next = alice.commit(1, &CommitPlan::default());
    assert!(alice.merge(&next).change.is_empty());
    applies(&mut bob, &next);
    applies(&mut carol, &next);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(alice.view().members.len(), 3);
}

/// What a member gives away, so that somebody can come in from outside.
fn group_info(party: &mut Party) -> VerifiableGroupInfo {
    let bytes = party.bare(Lie::None, |group, provider, engine| {
        let info = group.export_group_info(provider.crypto(), engine.device(), true).unwrap();
        info.to_bytes().unwrap()
    });
    let message = MlsMessageIn::tls_deserialize_exact(bytes).unwrap();
    let MlsMessageBodyIn::GroupInfo(info) = message.extract() else { panic!("no GroupInfo") };
    info
}

/// The external Commit of a device; of one that has a leaf, it takes that leaf's place.
fn external(party: &mut Party, info: VerifiableGroupInfo) -> Vec<u8> {
    let credential = BasicCredential::new(party.certificate.as_bytes().to_vec()).into();
    let signature_key = party.certificate.entry.key.0.to_vec().into();
    let capabilities = Capabilities::builder()
        .versions(vec![ProtocolVersion::Mls10])
        .ciphersuites(vec![SUITE])
        .extensions(vec![ExtensionType::LastResort, ExtensionType::Unknown(CHANNEL_EXTENSION)])
        .credentials(vec![CredentialType::Basic])
        .build();
    let leaf = LeafNodeParameters::builder().with_capabilities(capabilities).build();
    let work = |engine: &qpc_mls::Engine, tx: &qpc_storage::Tx<'_>| {
        let real = crypto();
        let provider = Provider::new(&real, tx);
        let (_, bundle) = MlsGroup::external_commit_builder()
            .with_aad(aad(1, &RosterChange::default(), &[]).encode())
            .build_group(&provider, info, CredentialWithKey { credential, signature_key })
            .unwrap()
            .leaf_node_parameters(leaf)
            .load_psks(provider.storage())
            .unwrap()
            .build(provider.rand(), provider.crypto(), engine.device(), |_| true)
            .unwrap()
            .finalize(&provider)
            .unwrap();
        Ok(bundle.into_messages().0.to_bytes().unwrap())
    };
    party.run(work).unwrap()
}

#[test]
fn case_122_an_external_commit_is_void_for_all() {
    let [mut alice, mut bob, mut carol] = trio();
    // A stranger who comes in, and a copy of Carol's device that takes its own leaf's place.
    let (stranger, resync) = (Party::new(40), Party::new(30));
    for mut outsider in [stranger, resync] {
        let commit = external(&mut outsider, group_info(&mut bob));
        for party in [&mut alice, &mut bob, &mut carol] {
            is_void(party, &commit, VoidReason::Parse);
        }
    }
    let next = carol.commit(1, &CommitPlan::default());
    carol.merge(&next);
    applies(&mut alice, &next);
    applies(&mut bob, &next);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
    assert_eq!(alice.view().members.len(), 3);
}
