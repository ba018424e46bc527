//! A server that lies about the log: whatever it rewrites is named by channel and number and never
//! applied.

use std::collections::BTreeMap;

use qpc_client::machine::{Input, Work};
use qpc_client::view::ChannelStatus;
use qpc_proto::chain::{Link, Log};
use qpc_proto::message::{Accepted, EnqueueAnswer, Entry, Method, Page, Response};
use qpc_proto::{ChannelId, Digest};
use qpc_sim::World;

use super::support::{
    channel, group, in_step, inject, page, read_all, say, standing, texts, until_sent, words, world,
};

type Rewrite = fn(&mut Vec<Entry>);

/// Client 0 writes four messages that client 1 reads in one page, rewritten on its way.
fn lied_to(rewrite: Rewrite) -> (World, ChannelId, u64) {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let first = standing(&mut world, 1, &group).cursor + 1;
    world.disconnect(1).unwrap();
    for text in ["one", "two", "three", "four"] {
        say(&mut world, 0, (&group, text));
    }
    world.settle_among(&[0]).unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Some(page) = page(input).filter(|page| index == 1 && page.channel == group) {
            page.entries.retain(|entry| entry.seq >= first);
            rewrite(&mut page.entries);
        }
    }));
    world.settle().unwrap();
    (world, group, first)
}

/// The lie at `at` is named, and nothing from there on was read.
fn named((mut world, group, first): (World, ChannelId, u64), at: u64) {
    let row = channel(&mut world, 1, &group);
    assert_eq!(row.status, ChannelStatus::Alarm, "{row:?}");
    assert_eq!(row.cursor, first + at - 1);
    let seq = first + at;
    assert!(row.reason.is_some_and(|reason| reason.contains(&seq.to_string())));
    let place = format!("at Some({:?}) Some({seq})", group.to_string());
    let alarms = world.alarms(1).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.contains(&place)), "{alarms:?} lacks {place}");
    let read = usize::try_from(at).unwrap();
    assert_eq!(words(&mut world, 1, &group), ["one", "two", "three", "four"][..read]);
    // An alarm does not go away by itself, and nothing is sent under it.
    world.liar = None;
    world.user(1, |m, s| m.queue(s, &group, "into the void").map(drop)).unwrap();
    world.disconnect(1).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Alarm);
    assert_eq!(words(&mut world, 0, &group).len(), 4);
}

#[test]
fn a_changed_payload_is_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if let Some(entry) = entries.get_mut(1) {
                let mut payload = entry.payload.to_vec();
                payload[80] ^= 1;
                entry.payload = payload.into();
            }
        }),
        1,
    );
}

#[test]
fn a_changed_accept_time_is_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if let Some(entry) = entries.get_mut(2) {
                entry.accepted_at_ms += 1;
            }
        }),
        2,
    );
}

#[test]
fn a_changed_commit_reference_or_message_id_is_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if let Some(entry) = entries.get_mut(1) {
                entry.after_commit += 1;
            }
        }),
        1,
    );
    named(
        lied_to(|entries| {
            if let Some(entry) = entries.get_mut(3) {
                entry.message_id.0[0] ^= 1;
            }
        }),
        3,
    );
}

#[test]
fn reordered_entries_are_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if entries.len() == 4 {
                let (a, b) = (entries[1].seq, entries[2].seq);
                entries.swap(1, 2);
                (entries[1].seq, entries[2].seq) = (a, b);
            }
        }),
        1,
    );
}

#[test]
fn a_dropped_entry_under_closed_ranks_is_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if entries.len() == 4 {
                entries.remove(1);
                for (entry, seq) in entries.iter_mut().zip(0..) {
                    let first = if seq == 0 { entry.seq } else { entry.seq - 1 };
                    entry.seq = first;
                }
            }
        }),
        1,
    );
}

#[test]
fn swapped_payloads_are_named_and_not_applied() {
    named(
        lied_to(|entries| {
            if entries.len() == 4 {
                let other = entries[3].payload.clone();
                entries[3].payload = std::mem::replace(&mut entries[0].payload, other);
            }
        }),
        0,
    );
}

#[test]
fn case_144_an_entry_left_out_once_is_fetched_and_nothing_is_lost() {
    let mut left_out = 0;
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    world.liar = Some(Box::new(move |index, input| {
        let page = page(input).filter(|page| index == 1 && page.channel == group);
        if let Some(page) = page.filter(|page| left_out < 3 && !page.entries.is_empty()) {
            left_out += 1;
            page.entries.remove(0);
        }
    }));
    // What is left of a page begins behind the gap.
    world.disconnect(1).unwrap();
    for text in ["one", "two", "three"] {
        say(&mut world, 0, (&group, text));
    }
    world.settle_among(&[0]).unwrap();
    world.settle().unwrap();
    // A page of one entry is empty without it.
    say(&mut world, 0, (&group, "four"));
    super::support::at_peace(&mut world);
    assert_eq!(words(&mut world, 1, &group), ["one", "two", "three", "four"]);
    assert_eq!(world.alarms(1).unwrap(), [""; 0]);
    assert_eq!(channel(&mut world, 1, &group).status, ChannelStatus::Active);
}

#[test]
fn a_place_given_to_an_own_message_but_shown_with_another_is_named_and_it_is_sent_again() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    say(&mut world, 0, (&group, "mine"));
    until_sent(&mut world, 0, Method::Enqueue);
    let seq = standing(&mut world, 0, &group).cursor + 1;
    // The server says that it took the message; it never did.
    let accepted =
        Accepted { seq, head: Digest::ZERO, accepted_at_ms: world.now_ms, duplicate: false };
    let answer = EnqueueAnswer { accepted: vec![accepted], refusal: None };
    let lie = Input::Answer(Work::Outbox(group), Ok(Response::Enqueued(answer)));
    inject(&mut world, 0, lie);
    world.disconnect(0).unwrap();
    say(&mut world, 1, (&group, "in its place"));
    world.settle_among(&[1]).unwrap();
    world.settle().unwrap();
    let place = format!("Some({seq})");
    assert!(world.alarms(0).unwrap().iter().any(|alarm| alarm.contains(&place)));
    let log = texts(&mut world, 1, &group);
    assert_eq!(log, [(seq, "in its place".to_owned()), (seq + 1, "mine".to_owned())]);
    assert_eq!(texts(&mut world, 0, &group), log);
    in_step(&mut world, &group, &[0, 1]);
}

/// Withholds one entry of a channel from one client and closes the ranks behind it, with a hash
/// chain that is sound in itself.
struct Fork {
    log: Log,
    withheld: u64,
    heads: BTreeMap<u64, Digest>,
}

impl Fork {
    fn rewrite(&mut self, page: &mut Page) {
        page.entries.retain(|entry| entry.seq != self.withheld);
        for entry in &mut page.entries {
            if entry.seq < self.withheld {
                self.heads.insert(entry.seq, entry.head);
                continue;
            }
            entry.seq -= 1;
            let previous = self.heads[&(entry.seq - 1)];
            entry.head = self.log.next(&previous, &Link::of(entry));
            self.heads.insert(entry.seq, entry.head);
        }
        if page.head_seq >= self.withheld {
            page.head_seq -= 1;
        }
    }
}

#[test]
fn case_098_a_log_forked_for_one_member_is_named_when_another_speaks() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let stood = standing(&mut world, 1, &group);
    let log = Log { incarnation: world.incarnation().unwrap(), channel: group };
    let heads = BTreeMap::from([(stood.cursor, stood.head)]);
    let mut fork = Fork { log, withheld: stood.cursor + 1, heads };
    world.liar = Some(Box::new(move |index, input| {
        if let Some(page) = page(input).filter(|page| index == 1 && page.channel == group) {
            fork.rewrite(page);
        }
    }));
    say(&mut world, 0, (&group, "withheld"));
    world.settle().unwrap();
    assert_eq!(world.alarms(1).unwrap().len(), 0);
    say(&mut world, 0, (&group, "what do you say?"));
    for _ in 0..20 {
        until_quiet(&mut world);
    }
    let alarms = world.alarms(1).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.contains(&group.to_string())), "{alarms:?}");
}

/// A world under a lie need not come to rest.
fn until_quiet(world: &mut World) {
    for index in [0, 1] {
        let next = world.sent(index).unwrap().first().map(|out| out.request.method());
        if let Some(method) = next {
            world.deliver(index, (method, false)).unwrap();
        }
        read_all(world, index);
    }
    world.tick(1_000).unwrap();
}
