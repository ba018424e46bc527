//! Commits that come too late or too soon, through a connection.

use std::time::Duration;

use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::message::{CommitBundle, CommitRequest, Request};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, ErrorBody, ErrorCode, ErrorDetail, MessageId, chain};
use qpc_server::Limits;

use crate::members;
use crate::support::{Device, LoggedIn, Rig, private_message};

const CHANNEL: ChannelId = ChannelId([7; 16]);

/// A Commit that changes nobody, after the one at `after`.
async fn commit(member: &LoggedIn, id: u8, after: u64) -> Result<(), ErrorBody> {
    let change = RosterChange::default();
    let binding =
        CommitBinding { roster_change: change.digest(), statements: chain::statements_digest(&[]) };
    let aad = Aad {
        channel: CHANNEL,
        base_commit: after,
        head_seq: after,
        head: [0; 16],
        commit: Some(binding),
    };
    let bundle = CommitBundle {
        message_id: MessageId([id; 16]),
        after_commit: after,
        payload: private_message(3, &aad, &[0; 64]),
        roster_change: change.encode().into(),
        welcome: None,
        statements: Vec::new(),
    };
    let request = Request::Commit(CommitRequest { channel: CHANNEL, bundle });
    member.call(&request).await.map(drop)
}

#[tokio::test]
async fn a_commit_that_comes_too_late_is_told_when_its_turn_is_and_has_it() {
    let mut rig = Rig::start(Limits::default());
    let (ada, bob) = (Device::new(1), Device::new(2));
    let (ada_line, bob_line) = (rig.join(&ada).await, rig.join(&bob).await);
    members::pair(CHANNEL, &ada_line, (&bob, &bob_line)).await;
    commit(&ada_line, 1, 1).await.unwrap();
    let late = commit(&bob_line, 2, 1).await.unwrap_err();
    assert_eq!(
        (late.code, late.detail),
        (ErrorCode::StaleCommit, Some(ErrorDetail::LastCommit(2)))
    );
    assert_eq!(late.retry_after_ms, Some(0));
    // It was stored, though the request was refused.
    let again = commit(&bob_line, 3, 1).await.unwrap_err();
    assert_eq!((again.code, again.retry_after_ms), (ErrorCode::StaleCommit, None));
    let soon = commit(&ada_line, 4, 2).await.unwrap_err();
    assert_eq!((soon.code, soon.retry_after_ms), (ErrorCode::RateLimited, Some(2_000)));
    rig.pass(Duration::from_millis(1_999));
    let soon = commit(&ada_line, 4, 2).await.unwrap_err();
    assert_eq!((soon.code, soon.retry_after_ms), (ErrorCode::RateLimited, Some(1)));
    commit(&bob_line, 5, 2).await.unwrap();
    let late = commit(&ada_line, 4, 2).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::StaleCommit);
    // Her own turn, after those that the channel has at once.
    let soon = commit(&ada_line, 6, 3).await.unwrap_err();
    assert_eq!((soon.code, soon.retry_after_ms), (ErrorCode::RateLimited, Some(1)));
    rig.pass(Duration::from_millis(1));
    commit(&ada_line, 6, 3).await.unwrap();
}
