//! Accounts with several devices: they come into channels, go out of them, and come back.

use qpc_client::ClientError;
use qpc_client::machine::{Failure, Input, Work};
use qpc_client::view::{ChannelStatus, MessageState};
use qpc_proto::message::{Method, Request, Response};
use qpc_proto::{ChannelId, ErrorBody, ErrorCode};
use qpc_sim::World;

use super::support::{
    add, at_peace, channel, commits, enqueues, group, history, in_step, inject, members, names,
    read_all, say, standing, until_sent, words, world,
};

/// The direct channel of two clients, at rest.
fn direct(world: &mut World, one: usize, other: usize) -> ChannelId {
    let account = world.account(other).unwrap();
    let made = world.user(one, |m, s| m.direct(s, &account)).unwrap();
    world.settle().unwrap();
    made.channel
}

fn devices(world: &mut World, index: usize, channel: &ChannelId) -> usize {
    let members = world.user(index, |m, s| m.members(s, channel)).unwrap();
    members.iter().map(|member| member.devices.len()).sum()
}

fn notices(world: &mut World, index: usize) -> Vec<String> {
    let all = world.user(index, |m, s| m.notices(s, true)).unwrap();
    all.into_iter().map(|notice| notice.kind).collect()
}

fn told(world: &mut World, index: usize, channel: &ChannelId) -> Vec<String> {
    let lines = history(world, index, channel).into_iter();
    lines.filter(|m| m.state == MessageState::Notice).map(|m| m.text).collect()
}

fn is_told(world: &mut World, (index, channel): (usize, &ChannelId), text: &str) -> bool {
    told(world, index, channel).iter().any(|line| line.contains(text))
}

#[test]
fn a_linked_device_comes_into_every_channel_and_reads_what_comes() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let direct = direct(&mut world, 1, 0);
    say(&mut world, 1, (&group, "before"));
    world.settle().unwrap();
    let second = world.link(0).unwrap();
    at_peace(&mut world);
    for channel_id in [group, direct] {
        in_step(&mut world, &channel_id, &[0, 1, second]);
        assert_eq!(devices(&mut world, 1, &channel_id), 3);
        assert_eq!(channel(&mut world, second, &channel_id).status, ChannelStatus::Active);
    }
    say(&mut world, 1, (&direct, "to both of you"));
    say(&mut world, 0, (&group, "from the first"));
    say(&mut world, second, (&group, "from the second"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, second, &direct), ["to both of you"]);
    let shown = history(&mut world, second, &group);
    let other = shown.iter().find(|m| m.text == "from the first").unwrap();
    assert_eq!((other.own, other.state), (true, MessageState::Received));
    assert!(shown.iter().all(|message| message.text != "before"));
    let shown = history(&mut world, 1, &group);
    let theirs = shown.iter().find(|m| m.text == "from the second").unwrap();
    assert_eq!((theirs.own, theirs.sender.as_str()), (false, "user0"));
}

#[test]
fn a_linked_device_is_in_what_its_account_opens_later() {
    let mut world = world(3);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    let group = group(&mut world, &[1]);
    let opened = direct(&mut world, second, 2);
    let by_other = direct(&mut world, 1, 0);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, second]);
    in_step(&mut world, &opened, &[0, 2, second]);
    in_step(&mut world, &by_other, &[0, 1, second]);
}

#[test]
fn a_device_in_a_large_group_trusts_its_sibling_and_no_stranger() {
    let mut world = world(4);
    let group = group(&mut world, &[1, 2]);
    let second = world.link(1).unwrap();
    add(&mut world, &group, &[3]);
    at_peace(&mut world);
    // Nobody but the inviter has written since: the stranger's guest is not sure of it.
    assert_eq!(channel(&mut world, second, &group).status, ChannelStatus::Active);
    in_step(&mut world, &group, &[0, 1, 2, 3, second]);
}

#[test]
fn two_siblings_that_act_at_once_add_a_third_once() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    // The sibling does not hear of its turn before the primary has claimed, too.
    let third = world.link(0).unwrap();
    world.connect(third).unwrap();
    until_sent(&mut world, third, Method::UploadKeyPackages);
    world.deliver(third, (Method::UploadKeyPackages, false)).unwrap();
    world.disconnect(0).unwrap();
    until_sent(&mut world, second, Method::Commit);
    let sibling = commits(&mut world, second);
    world.connect(0).unwrap();
    until_sent(&mut world, 0, Method::Commit);
    assert_eq!(commits(&mut world, 0)[0].bundle.after_commit, sibling[0].bundle.after_commit);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, second, third]);
    assert_eq!(devices(&mut world, 1, &group), 4);
}

#[test]
fn case_210_a_new_device_of_a_contact_is_shown_and_warned_of_before_the_next_message() {
    let mut world = world(2);
    let channel_id = direct(&mut world, 0, 1);
    let account = world.account(0).unwrap();
    world.user(1, |m, s| m.set_verified(s, &account, true)).unwrap();
    let second = world.link(0).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &channel_id, &[0, 1, second]);
    let text = "user0 linked a new device; the safety number that you compared is the same";
    assert!(is_told(&mut world, (1, &channel_id), text));
    let first = world.user(1, |m, s| m.queue(s, &channel_id, "one")).unwrap();
    assert_eq!(first.warnings, [text]);
    let next = world.user(1, |m, s| m.queue(s, &channel_id, "two")).unwrap();
    assert!(next.warnings.is_empty());
    let contacts = world.user(1, |m, s| m.contacts(s)).unwrap();
    assert!(contacts[0].verified && !contacts[0].held);
}

#[test]
fn case_057_a_revoked_device_says_so_once_and_stops() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    world.revoke(0, &[second]).unwrap();
    at_peace(&mut world);
    assert_eq!(world.stops(second).unwrap(), ["DEVICE_REVOKED"]);
    let who = world.user(second, |m, _| Ok(m.whoami())).unwrap();
    assert_eq!(who.stopped.as_deref(), Some("DEVICE_REVOKED"));
    assert!(world.sent(second).unwrap().is_empty());
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(devices(&mut world, 1, &group), 2);
}

#[test]
fn case_058_a_revoked_device_that_was_away_is_refused_and_reads_nothing_sealed_since() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    world.disconnect(second).unwrap();
    say(&mut world, second, (&group, "never leaves"));
    world.revoke(0, &[second]).unwrap();
    world.settle_among(&[0, 1]).unwrap();
    say(&mut world, 1, (&group, "behind its back"));
    world.settle_among(&[0, 1]).unwrap();
    at_peace(&mut world);
    assert_eq!(world.stops(second).unwrap(), ["DEVICE_REVOKED"]);
    assert!(words(&mut world, second, &group).is_empty());
    assert_eq!(words(&mut world, 0, &group), ["behind its back"]);
    assert_eq!(words(&mut world, 1, &group), ["behind its back"]);
    assert_eq!(notices(&mut world, 0), Vec::<String>::new());
}

#[test]
fn case_059_what_is_written_waits_until_a_revoked_device_is_out() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let second = world.link(2).unwrap();
    world.settle().unwrap();
    let before = standing(&mut world, 1, &group);
    world.revoke(2, &[second]).unwrap();
    world.disconnect(2).unwrap();
    world.disconnect(0).unwrap();
    // Client 1 is no admin, and waits for its turn: until then nothing is sealed.
    read_all(&mut world, 1);
    say(&mut world, 1, (&group, "not for the revoked"));
    assert!(enqueues(&mut world, 1).is_empty());
    let row = channel(&mut world, 1, &group);
    assert_eq!(row.outbox, 1);
    assert!(row.reason.is_some_and(|reason| reason.contains("device of user2 was revoked")));
    world.settle_among(&[1]).unwrap();
    assert_eq!(standing(&mut world, 1, &group).epoch, before.epoch + 1);
    assert_eq!(channel(&mut world, 1, &group).reason, None);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, 2]);
    assert_eq!(devices(&mut world, 0, &group), 3);
    assert_eq!(words(&mut world, 2, &group), ["not for the revoked"]);
    assert!(words(&mut world, second, &group).is_empty());
}

#[test]
fn case_068_every_device_is_told_of_a_linked_one() {
    let mut world = world(1);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    let third = world.link(0).unwrap();
    at_peace(&mut world);
    assert_eq!(notices(&mut world, second), ["linked"]);
    let all = world.user(second, |m, s| m.notices(s, true)).unwrap();
    assert_eq!(all[0].device, world.device(third).unwrap().to_string());
    assert!(all[0].text.starts_with("the server says: "));
    world.user(second, |m, s| m.mark_notices_seen(s, all[0].id)).unwrap();
    assert!(notices(&mut world, second).is_empty());
}

#[test]
fn a_recovered_account_comes_back_into_its_direct_channel() {
    let mut world = world(2);
    let channel_id = direct(&mut world, 0, 1);
    say(&mut world, 0, (&channel_id, "before"));
    world.settle().unwrap();
    world.disconnect(0).unwrap();
    let back = world.recover(0).unwrap();
    at_peace(&mut world);
    assert_eq!(world.stops(0).unwrap(), ["DEVICE_REVOKED"]);
    in_step(&mut world, &channel_id, &[1, back]);
    assert!(is_told(&mut world, (1, &channel_id), "user0 recovered the account"));
    say(&mut world, 1, (&channel_id, "welcome back"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, back, &channel_id), ["welcome back"]);
    assert_eq!(words(&mut world, 0, &channel_id), ["before"]);
}

#[test]
fn two_who_both_recovered_open_another_direct_channel() {
    let mut world = world(2);
    direct(&mut world, 0, 1);
    world.disconnect(0).unwrap();
    world.disconnect(1).unwrap();
    let (zero, one) = (world.recover(0).unwrap(), world.recover(1).unwrap());
    world.settle().unwrap();
    // No device is left in the old one that could take them in.
    let again = direct(&mut world, zero, one);
    say(&mut world, zero, (&again, "here"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, one, &again), ["here"]);
}

#[test]
fn a_recovered_account_comes_back_into_a_group_by_any_member() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    world.disconnect(2).unwrap();
    world.disconnect(0).unwrap();
    let back = world.recover(2).unwrap();
    world.settle_among(&[1, back]).unwrap();
    in_step(&mut world, &group, &[1, back]);
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, back]);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1, 2]));
}

#[test]
fn an_account_that_was_deleted_goes_out_of_groups_and_ends_its_direct_channels() {
    let mut world = world(3);
    let group = group(&mut world, &[1, 2]);
    let channel_id = direct(&mut world, 1, 2);
    let at_ms = world.delete(2).unwrap();
    world.sleep_until(at_ms + 1).unwrap();
    world.sweep().unwrap();
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(members(&mut world, 0, &group), names(&[0, 1]));
    let over = channel(&mut world, 1, &channel_id);
    assert_eq!(over.status, ChannelStatus::Left);
    assert_eq!(over.reason.as_deref(), Some("user2 deleted the account"));
    let refused = world.user(1, |m, s| m.queue(s, &channel_id, "too late").map(drop));
    assert!(refused.is_err());
}

fn key_changed<T>(result: &anyhow::Result<T>) -> bool {
    let error = result.as_ref().err().and_then(|error| error.downcast_ref::<ClientError>());
    error.is_some_and(|error| error.code() == "KEY_CHANGED")
}

/// Client 1 has a direct channel with user0, who deletes the account; another takes the name. Gives
/// the channel and the newcomer.
fn renamed(world: &mut World) -> (ChannelId, usize) {
    let old = direct(world, 1, 0);
    let at_ms = world.delete(0).unwrap();
    world.sleep_until(at_ms + 1).unwrap();
    world.sweep().unwrap();
    world.settle().unwrap();
    let stranger = world.register_as("user0").unwrap();
    world.settle().unwrap();
    (old, stranger)
}

#[test]
fn case_074_a_name_that_changed_hands_is_held_until_accepted() {
    let mut world = world(3);
    let (old, stranger) = renamed(&mut world);
    // The newcomer writes first.
    let new = direct(&mut world, stranger, 1);
    say(&mut world, stranger, (&new, "it is me"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, 1, &new), ["it is me"]);
    assert!(is_told(&mut world, (1, &new), "belongs to another key"));
    assert_eq!(world.alarms(1).unwrap().len(), 1);
    let account = world.account(stranger).unwrap();
    assert!(key_changed(&world.user(1, |m, s| m.queue(s, &new, "hello?").map(drop))));
    assert!(key_changed(&world.user(1, |m, s| m.direct(s, &account).map(drop))));
    assert!(key_changed(&world.user(1, |m, s| m.resolve(s, "user0").map(drop))));
    let made = world.user(1, |m, s| m.create_group_channel(s, "Ours")).unwrap();
    world.settle().unwrap();
    let adding = world.user(1, |m, s| m.change_members(s, &made.channel, (true, &[account])));
    assert!(key_changed(&adding));
    // Nothing of the old account is the newcomer's.
    assert_eq!(channel(&mut world, 1, &old).status, ChannelStatus::Left);
    let inherited = world.user(stranger, |m, s| m.channels(s)).unwrap();
    assert_eq!(inherited.len(), 1);
    let accepted = world.user(1, |m, s| m.accept_contact(s, "User0")).unwrap();
    assert_eq!((accepted.account, accepted.held), (account.to_string(), false));
    say(&mut world, 1, (&new, "hello"));
    world.settle().unwrap();
    assert_eq!(words(&mut world, stranger, &new), ["it is me", "hello"]);
    let found = world.user(1, |m, s| m.resolve(s, "user0")).unwrap();
    assert_eq!(found, qpc_client::machine::Target::Channel(new));
}

#[test]
fn case_074_what_is_written_into_a_group_by_a_held_account_waits_for_its_acceptance() {
    let mut world = world(2);
    let (_, stranger) = renamed(&mut world);
    let made = world.user(stranger, |m, s| m.create_group_channel(s, "Trap")).unwrap();
    world.settle().unwrap();
    let account = world.account(1).unwrap();
    world.user(stranger, |m, s| m.change_members(s, &made.channel, (true, &[account]))).unwrap();
    world.settle().unwrap();
    say(&mut world, 1, (&made.channel, "waits"));
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 1, &made.channel).outbox, 1);
    assert!(words(&mut world, stranger, &made.channel).is_empty());
    world.user(1, |m, s| m.accept_contact(s, "user0").map(drop)).unwrap();
    world.settle().unwrap();
    assert_eq!(words(&mut world, stranger, &made.channel), ["waits"]);
}

#[test]
fn case_216_a_server_that_shows_an_old_list_after_a_revocation_is_named() {
    let mut world = world(2);
    let channel_id = direct(&mut world, 0, 1);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    let stale = world.newest(0).unwrap();
    world.revoke(0, &[second]).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &channel_id, &[0, 1]);
    // To a contact, and to the account itself.
    let (identity, certificate) = (stale.clone(), bytes::Bytes::new());
    let answer = Response::Devices(qpc_proto::message::Devices { identity, certificate });
    inject(&mut world, 1, Input::Answer(Work::Devices(stale.account), Ok(answer.clone())));
    inject(&mut world, 0, Input::Answer(Work::OwnDevices, Ok(answer)));
    for index in [0, 1] {
        let alarms = world.alarms(index).unwrap();
        assert!(alarms.iter().any(|alarm| alarm.contains("old")), "{alarms:?}");
    }
    world.settle().unwrap();
    assert_eq!(devices(&mut world, 1, &channel_id), 2);
}

#[test]
fn case_216_a_key_package_of_a_device_that_no_list_holds_is_never_added() {
    let mut world = world(3);
    let second = world.link(1).unwrap();
    world.settle().unwrap();
    let made = group(&mut world, &[]);
    // The server answers the claim for client 1 with a device that its list has lost.
    let stash = std::sync::Arc::new(std::sync::Mutex::new(None));
    let sink = std::sync::Arc::clone(&stash);
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::Claim(..), Ok(Response::Claims(claims))) = input
            && index == 2
        {
            *sink.lock().unwrap() = Some(claims.clone());
        }
    }));
    direct(&mut world, 2, 1);
    let ghost = world.device(second).unwrap();
    let claims: qpc_proto::message::Claims = stash.lock().unwrap().clone().unwrap();
    assert!(claims.claimed.iter().any(|claimed| claimed.device == ghost));
    world.revoke(1, &[second]).unwrap();
    world.settle().unwrap();
    let newest = world.newest(1).unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::Claim(..), Ok(Response::Claims(answer))) = input
            && index == 0
        {
            answer.claimed.clone_from(&claims.claimed);
            answer.identity.clone_from(&newest);
        }
    }));
    add(&mut world, &made, &[1]);
    world.settle().unwrap();
    assert_eq!(members(&mut world, 0, &made), names(&[0]));
    assert!(!world.alarms(0).unwrap().is_empty());
}

#[test]
fn case_216_a_list_that_the_server_hides_is_named() {
    let mut world = world(2);
    let channel_id = direct(&mut world, 0, 1);
    let stale = world.newest(0).unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::Devices(_), Ok(Response::Devices(devices))) = input
            && index == 1
        {
            devices.identity = stale.clone();
        }
    }));
    // The certificate of the device that comes in names a list that the server does not show.
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    in_step(&mut world, &channel_id, &[0, 1, second]);
    let alarms = world.alarms(1).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.contains("user0")), "{alarms:?}");
}

#[test]
fn a_claim_repeated_after_a_revocation_brings_no_alarm_and_nobody_revoked() {
    let mut world = world(2);
    let second = world.link(1).unwrap();
    direct(&mut world, 0, 1);
    let made = group(&mut world, &[]);
    let one = world.account(1).unwrap();
    let started = world.user(0, |m, s| m.change_members(s, &made, (true, &[one]))).unwrap();
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    assert!(world.deliver(0, (Method::ClaimKeyPackages, true)).unwrap());
    // The server keeps the lost answer, with a list that ends here.
    world.revoke(1, &[second]).unwrap();
    at_peace(&mut world);
    assert!(world.user(0, |m, s| m.outcome(s, &started)).unwrap().is_some());
    in_step(&mut world, &made, &[0, 1]);
    assert_eq!(devices(&mut world, 0, &made), 2);
}

/// It was met by its certificate alone, which names a newer list than the answer that was lost.
#[test]
fn a_claim_repeated_after_its_account_was_met_brings_no_alarm() {
    let mut world = world(2);
    let made = group(&mut world, &[]);
    let one = world.account(1).unwrap();
    let started = world.user(0, |m, s| m.change_members(s, &made, (true, &[one]))).unwrap();
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    assert!(world.deliver(0, (Method::ClaimKeyPackages, true)).unwrap());
    // The server keeps the lost answer, with a list that ends here.
    let second = world.link(1).unwrap();
    let zero = world.account(0).unwrap();
    let theirs = world.user(1, |m, s| m.create_group_channel(s, "Theirs")).unwrap().channel;
    world.settle_among(&[1, second]).unwrap();
    world.user(1, |m, s| m.change_members(s, &theirs, (true, &[zero]))).unwrap();
    world.settle_among(&[1, second]).unwrap();
    world.connect(0).unwrap();
    read_all(&mut world, 0);
    for method in [Method::ListChannels, Method::Fetch] {
        assert!(world.deliver(0, (method, false)).unwrap());
        read_all(&mut world, 0);
    }
    assert_eq!(channel(&mut world, 0, &theirs).kind, "group", "it is met");
    assert!(world.deliver(0, (Method::ClaimKeyPackages, false)).unwrap());
    at_peace(&mut world);
    assert!(world.user(0, |m, s| m.outcome(s, &started)).unwrap().is_some());
    in_step(&mut world, &made, &[0, 1, second]);
    in_step(&mut world, &theirs, &[0, 1, second]);
}

#[test]
fn devices_that_crash_after_every_input_still_come_and_go() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let second = world.link(0).unwrap();
    for round in 0..40 {
        for index in [0, 1, second] {
            let Some(sent) =
                world.sent(index).ok().filter(|_| world.stops(index).unwrap().is_empty())
            else {
                continue;
            };
            if let Some(method) = sent.first().map(|out| out.request.method()) {
                world.deliver(index, (method, false)).unwrap();
            }
            world.deliver_down(index).unwrap();
            world.crash(index).unwrap();
            world.connect(index).unwrap();
        }
        world.tick(300).unwrap();
        if round == 25 {
            world.revoke(0, &[second]).unwrap();
        }
    }
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1]);
    assert_eq!(devices(&mut world, 1, &group), 2);
}

/// Its KeyPackage was claimed and waits behind messages; meanwhile it is revoked, and another one
/// linked in its place.
#[test]
fn a_device_linked_while_the_addition_of_a_revoked_one_waits_still_comes_in() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let second = world.link(0).unwrap();
    world.connect(second).unwrap();
    until_sent(&mut world, second, Method::UploadKeyPackages);
    world.deliver(second, (Method::UploadKeyPackages, false)).unwrap();
    say(&mut world, 0, (&group, "first"));
    until_sent(&mut world, 0, Method::ClaimKeyPackages);
    world.deliver(0, (Method::ClaimKeyPackages, false)).unwrap();
    until_sent(&mut world, 0, Method::Enqueue);
    read_all(&mut world, 0);
    assert!(commits(&mut world, 0).is_empty(), "the addition waits for the message");
    world.revoke(0, &[second]).unwrap();
    let third = world.link(0).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &group, &[0, 1, third]);
}

/// Waiting for KeyPackages is no attempt at a Commit: after a day of it the first overtaken one is
/// not the last.
#[test]
fn a_recovered_device_that_comes_online_days_later_gets_back_in() {
    let mut world = world(2);
    let channel_id = direct(&mut world, 0, 1);
    world.disconnect(0).unwrap();
    let back = world.recover(0).unwrap();
    for _ in 0..120 {
        world.disconnect(1).unwrap();
        world.now_ms += 600_000;
        world.settle_among(&[1]).unwrap();
    }
    world.connect(back).unwrap();
    until_sent(&mut world, back, Method::UploadKeyPackages);
    world.deliver(back, (Method::UploadKeyPackages, false)).unwrap();
    world.disconnect(1).unwrap();
    world.now_ms += 600_000;
    world.connect(1).unwrap();
    until_sent(&mut world, 1, Method::Commit);
    let stale = ErrorBody::new(ErrorCode::StaleCommit, "stale");
    inject(&mut world, 1, Input::Answer(Work::Commit(channel_id), Err(Failure::Refused(stale))));
    world.disconnect(1).unwrap();
    world.disconnect(back).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &channel_id, &[1, back]);
    assert!(!is_told(&mut world, (1, &channel_id), "ALARM"));
}

#[test]
fn what_a_sibling_wrote_is_refused_visibly_when_its_account_leaves() {
    let mut world = world(2);
    let group = group(&mut world, &[]);
    let second = world.link(0).unwrap();
    world.settle().unwrap();
    world.disconnect(second).unwrap();
    say(&mut world, second, (&group, "too late"));
    // An addition is on its way, so that there may be somebody left who reads the leave.
    add(&mut world, &group, &[1]);
    until_sent(&mut world, 0, Method::Commit);
    world.user(0, |m, s| m.leave(s, &group)).unwrap();
    until_sent(&mut world, 0, Method::Statement);
    world.deliver(0, (Method::Statement, false)).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, second, &group).status, ChannelStatus::Left);
    let lines = history(&mut world, second, &group);
    assert!(lines.iter().any(|m| m.text == "too late" && m.state == MessageState::Refused));
}

/// All devices of the other account are revoked: only who is leaving can take its next one in.
#[test]
fn who_leaves_while_the_only_other_member_recovers_gets_out() {
    let mut world = world(2);
    let group = group(&mut world, &[1]);
    let account = world.account(1).unwrap();
    world.user(0, |m, s| m.set_admin(s, &group, (&account, true))).unwrap();
    at_peace(&mut world);
    world.disconnect(1).unwrap();
    world.disconnect(0).unwrap();
    world.user(0, |m, s| m.leave(s, &group)).unwrap();
    let back = world.recover(1).unwrap();
    at_peace(&mut world);
    assert_eq!(channel(&mut world, 0, &group).status, ChannelStatus::Left);
    assert_eq!(channel(&mut world, back, &group).status, ChannelStatus::Active);
    assert_eq!(members(&mut world, back, &group), names(&[1]));
}

#[test]
fn the_only_admin_is_still_one_after_a_recovery() {
    let mut world = world(3);
    let made = group(&mut world, &[1, 2]);
    let back = world.recover(0).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &made, &[1, 2, back]);
    let two = world.account(2).unwrap();
    let started = world.user(back, |m, s| m.change_members(s, &made, (false, &[two]))).unwrap();
    at_peace(&mut world);
    assert!(world.user(back, |m, s| m.outcome(s, &started)).unwrap().is_some());
    in_step(&mut world, &made, &[1, back]);
    assert_eq!(members(&mut world, 1, &made), names(&[0, 1]));
}

#[test]
fn of_two_recoveries_in_a_row_the_last_one_has_the_account() {
    let mut world = world(2);
    let direct = direct(&mut world, 0, 1);
    let made = group(&mut world, &[1]);
    let overtaken = world.recover(0).unwrap();
    let back = world.recover(0).unwrap();
    at_peace(&mut world);
    for channel in [&direct, &made] {
        in_step(&mut world, channel, &[1, back]);
        assert_eq!(devices(&mut world, 1, channel), 2);
    }
    assert_eq!(world.stops(overtaken).unwrap().len(), 1);
    say(&mut world, 1, (&direct, "are you there?"));
    at_peace(&mut world);
    assert_eq!(words(&mut world, back, &direct).last().unwrap(), "are you there?");
}

/// Somebody who recovers has two devices, one of which nobody can add yet.
#[test]
fn a_swap_brings_in_who_can_be_added_and_the_others_later() {
    let mut world = world(2);
    let direct = direct(&mut world, 0, 1);
    world.disconnect(1).unwrap();
    let back = world.recover(0).unwrap();
    world.connect(back).unwrap();
    let second = world.link(back).unwrap();
    world.connect(1).unwrap();
    world.settle_among(&[1, back]).unwrap();
    assert_eq!(devices(&mut world, 1, &direct), 2);
    world.settle_among(&[second]).unwrap();
    // Its sibling asks for its KeyPackages every ten minutes at least.
    let later = world.now_ms + 600_000;
    world.sleep_until(later).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &direct, &[1, back, second]);
}

/// It leaves by a device that has not read yet what another one wrote.
#[test]
fn who_leaves_alone_reads_first_what_its_other_device_wrote() {
    let mut world = world(1);
    let group_id = group(&mut world, &[]);
    let tablet = world.link(0).unwrap();
    at_peace(&mut world);
    world.disconnect(0).unwrap();
    say(&mut world, tablet, (&group_id, "before"));
    world.settle_among(&[tablet]).unwrap();
    world.user(0, |m, s| m.leave(s, &group_id)).unwrap();
    at_peace(&mut world);
    for index in [0, tablet] {
        assert_eq!(channel(&mut world, index, &group_id).status, ChannelStatus::Left);
        assert_eq!(words(&mut world, index, &group_id), ["before"], "client {index}");
    }
}

/// Nobody else is there to act on it: the other device hears of it all the same, and the server
/// keeps no channel that everybody left.
#[test]
fn who_leaves_alone_takes_its_other_devices_along_and_leaves_nothing() {
    let mut world = world(1);
    let group_id = group(&mut world, &[]);
    let tablet = world.link(0).unwrap();
    at_peace(&mut world);
    in_step(&mut world, &group_id, &[0, tablet]);
    world.user(0, |m, s| m.leave(s, &group_id)).unwrap();
    world.settle().unwrap();
    assert_eq!(channel(&mut world, 0, &group_id).status, ChannelStatus::Left);
    assert_eq!(channel(&mut world, tablet, &group_id).status, ChannelStatus::Left);
    for _ in 0..3 {
        world.expire_after(60 * 24 * 3_600_000).unwrap();
    }
    world.settle().unwrap();
    let Response::Channels(left) = world.ask(0, &Request::ListChannels).unwrap() else {
        panic!("no list")
    };
    assert!(left.iter().all(|state| state.channel != group_id), "{left:?}");
}
