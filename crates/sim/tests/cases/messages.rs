//! Messages: lost and repeated answers, duplicates, stale seals, refusals.

use std::collections::{BTreeMap, BTreeSet};

use qpc_client::machine::{Input, Work};
use qpc_client::view::MessageState;
use qpc_proto::message::{EnqueueAnswer, Entry, Method, Request, Response};
use qpc_proto::{ErrorBody, ErrorCode};

use super::support::{
    at_peace, channel, enqueues, group, history, in_step, inject, page, read_all, record, say,
    standing, texts, until_sent, words, world,
};

#[test]
fn case_100_an_own_message_comes_back_settled() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "hello"));
    until_sent(&mut world, 0, Method::Enqueue);
    world.deliver(0, (Method::Enqueue, false)).unwrap();
    read_all(&mut world, 0);
    at_peace(&mut world);
    let own: Vec<_> =
        history(&mut world, 0, &group).into_iter().filter(|m| m.text == "hello").collect();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].state, own[0].own), (MessageState::Accepted, true));
    assert_eq!(texts(&mut world, 1, &group), [(own[0].seq.unwrap(), "hello".to_owned())]);
}

#[test]
fn case_138_a_lost_answer_is_repeated_with_the_same_place() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let before = standing(&mut world, 1, &group).cursor;
    say(&mut world, 0, (&group, "once"));
    until_sent(&mut world, 0, Method::Enqueue);
    let first = enqueues(&mut world, 0);
    assert!(world.deliver(0, (Method::Enqueue, true)).unwrap());
    // Before the log is read the same bytes go again under the same id.
    world.connect(0).unwrap();
    assert_eq!(enqueues(&mut world, 0), first);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(standing(&mut world, 1, &group).cursor, before + 1, "it is in the log once");
    assert_eq!(words(&mut world, 1, &group), ["once"]);
    assert_eq!(texts(&mut world, 0, &group), texts(&mut world, 1, &group));
}

#[test]
fn case_108_a_duplicate_entry_or_page_is_shown_once() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let pages = record(&mut world, 1);
    for text in ["one", "two", "three"] {
        say(&mut world, 0, (&group, text));
        world.settle().unwrap();
    }
    let before = history(&mut world, 1, &group).len();
    let stood = standing(&mut world, 1, &group);
    let pages: Vec<_> = pages.lock().unwrap().clone();
    assert!(pages.iter().any(|page| page.channel == group && !page.entries.is_empty()));
    for page in pages.iter().chain(pages.iter().rev()) {
        let mut twice = page.clone();
        twice.entries.extend(page.entries.clone());
        inject(&mut world, 1, Input::Page(twice));
    }
    assert_eq!(history(&mut world, 1, &group).len(), before);
    assert_eq!(standing(&mut world, 1, &group), stood);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["one", "two", "three"]);
}

#[test]
fn what_a_commit_overtakes_is_sealed_anew_in_its_order() {
    let mut world = world(3);
    let group = group(&mut world, &[1]);
    for text in ["one", "two", "three"] {
        say(&mut world, 1, (&group, text));
    }
    until_sent(&mut world, 1, Method::Enqueue);
    let stale = enqueues(&mut world, 1);
    super::support::add(&mut world, &group, &[2]);
    until_sent(&mut world, 0, Method::Commit);
    world.deliver(0, (Method::Commit, false)).unwrap();
    // Now the sealed ones arrive, too late for their epoch.
    world.deliver(1, (Method::Enqueue, false)).unwrap();
    read_all(&mut world, 1);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    for index in [0, 1, 2] {
        assert_eq!(words(&mut world, index, &group), ["one", "two", "three"], "{index}");
    }
    let entries: usize = stale.iter().map(|enqueue| enqueue.entries.len()).sum();
    assert!(entries >= 1, "nothing was overtaken");
}

#[test]
fn case_203_a_first_message_refused_for_good_does_not_block_the_rest() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    for text in ["bad", "good", "better"] {
        say(&mut world, 0, (&group, text));
    }
    world.connect(0).unwrap();
    until_sent(&mut world, 0, Method::Enqueue);
    let refusal = Some(ErrorBody::new(ErrorCode::InvalidArgument, "no"));
    let answer = Response::Enqueued(EnqueueAnswer { accepted: Vec::new(), refusal });
    inject(&mut world, 0, Input::Answer(Work::Outbox(group), Ok(answer)));
    // What the machine had sent is lost: it never reached the server.
    world.disconnect(0).unwrap();
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["good", "better"]);
    let refused: Vec<_> = history(&mut world, 0, &group)
        .into_iter()
        .filter(|message| message.state == MessageState::Refused)
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].text, "bad");
    assert_eq!(refused[0].reason.as_deref(), Some("INVALID_ARGUMENT"));
}

#[test]
fn case_202_what_was_queued_offline_goes_out_once_and_in_order_after_a_restart() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(0).unwrap();
    let expected: Vec<String> = (0..150).map(|n| format!("queued {n:03}")).collect();
    for text in &expected {
        say(&mut world, 0, (&group, text));
    }
    world.crash(0).unwrap();
    assert_eq!(channel(&mut world, 0, &group).outbox, 150);
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), expected);
}

#[test]
fn a_server_that_restarts_loses_nothing_that_it_answered_for() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    for n in 0..5 {
        say(&mut world, n % 2, (&group, &format!("before {n}")));
        until_sent(&mut world, n % 2, Method::Enqueue);
        world.deliver(n % 2, (Method::Enqueue, n == 3)).unwrap();
        world.restart_server().unwrap();
        world.settle().unwrap();
    }
    at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group).len(), 5);
}

#[test]
fn message_ids_grow_with_the_log_and_say_no_more_than_the_authenticated_data() {
    let mut world = world(2);
    let group = group(&mut world, &[]);
    let pages = record(&mut world, 0);
    super::support::add(&mut world, &group, &[1]);
    for n in 0..20 {
        say(&mut world, 0, (&group, &format!("number {n}")));
        if n % 5 == 0 {
            world.settle().unwrap();
        }
    }
    at_peace(&mut world);
    let pages = pages.lock().unwrap();
    let of_group = pages.iter().filter(|page| page.channel == group);
    let entries: BTreeMap<u64, Entry> =
        of_group.flat_map(|page| page.entries.clone()).map(|entry| (entry.seq, entry)).collect();
    let mut cursors = Vec::new();
    for entry in entries.values() {
        let (cursor, _) = entry.message_id.0.split_first_chunk::<8>().unwrap();
        let cursor = u64::from_be_bytes(*cursor);
        let header = qpc_credential::mls_header(&entry.payload).unwrap();
        assert_eq!(cursor, header.aad.head_seq, "{:?} {}", entry.kind, entry.seq);
        cursors.push(cursor);
    }
    assert!(cursors.is_sorted(), "{cursors:?}");
    let ids: BTreeSet<_> = entries.values().map(|entry| entry.message_id).collect();
    let kinds: BTreeSet<_> = entries.values().map(|entry| entry.kind.code()).collect();
    assert_eq!(
        (ids.len(), kinds.len()),
        (entries.len(), 2),
        "each its own, of messages and Commits"
    );
    assert!(cursors.windows(2).any(|two| two[0] == two[1]), "some were sealed at one cursor");
}

/// What all have acknowledged the server may drop: a crash would lose what was not read yet.
#[test]
fn nothing_is_acknowledged_before_it_was_read() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.disconnect(1).unwrap();
    for n in 0..100 {
        say(&mut world, 0, (&group, &format!("number {n}")));
    }
    world.settle_among(&[0]).unwrap();
    // So many at once that the client acknowledges some while others are still to come.
    world.liar = Some(Box::new(|index, input| {
        if let Some(page) = page(input).filter(|_| index == 1) {
            page.entries.truncate(70);
        }
    }));
    world.connect(1).unwrap();
    let (mut some, end) = (false, standing(&mut world, 0, &group).cursor);
    for _ in 0..1_000 {
        let read = standing(&mut world, 1, &group).cursor;
        for out in world.sent(1).unwrap() {
            let Request::Ack(cursors) = out.request else { continue };
            for cursor in cursors.iter().filter(|cursor| cursor.channel == group) {
                assert!(cursor.seq <= read, "{} of {read}", cursor.seq);
                some |= cursor.seq < end;
            }
        }
        let next = world.sent(1).unwrap().first().map(|out| out.request.method());
        let moved = next.map(|method| world.deliver(1, (method, false)).unwrap());
        if !world.deliver_down(1).unwrap() && moved != Some(true) {
            if read == end {
                break;
            }
            world.tick(500).unwrap();
        }
    }
    assert_eq!(standing(&mut world, 1, &group).cursor, end);
    assert!(some, "nothing was acknowledged on the way");
}
