//! The life of a server and its clients, cut into stages: each begins where the one before ended,
//! and together they write everything that either side stores.

use std::collections::BTreeSet;

use qpc_client::view::{ChannelStatus, Message, MessageState};
use qpc_proto::{AccountId, ChannelId};
use qpc_sim::World;

use crate::notes::Notes;

/// Names of the clients, by number; the fourth is a device that the first links.
pub(crate) const NAMES: [&str; 4] = ["user0", "user1", "user2", "user0"];
/// The last: its device can never read what it wrote in the life that the copy lacks.
pub(crate) const REJOIN: &str = "rejoin";
pub(crate) const TITLE: &str = "Fishing";
const DAY_MS: u64 = 24 * 3_600_000;

/// One stage.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// How many clients there are when it begins; none, where it begins from nothing.
    pub(crate) clients: usize,
    pub(crate) run: fn(&mut World, &mut Notes),
}

pub(crate) const STAGES: [Stage; 10] = [
    // Its world is made by `birth`.
    Stage { name: "birth", clients: 0, run: |_, _| {} },
    Stage { name: "start again", clients: 3, run: start_again },
    Stage { name: "group", clients: 3, run: group },
    Stage { name: "talk", clients: 3, run: talk },
    Stage { name: "changes", clients: 3, run: changes },
    Stage { name: "leave and join", clients: 3, run: leave_and_join },
    Stage { name: "link", clients: 3, run: link },
    Stage { name: "revoke", clients: 4, run: revoke },
    Stage { name: "expire", clients: 4, run: expire },
    Stage { name: REJOIN, clients: 4, run: rejoin },
];

/// From nothing: databases are made, accounts registered, KeyPackages uploaded.
pub(crate) fn birth(notes: &mut Notes) -> World {
    let mut world = World::new(7, 3).unwrap();
    world.settle().unwrap();
    notes.note(&world, "registered");
    world
}

/// The group, as client 0 knows it.
pub(crate) fn the_group(world: &mut World) -> Option<ChannelId> {
    let channels = world.user(0, |m, s| m.channels(s)).unwrap();
    let group = channels.iter().find(|channel| channel.kind == "group")?;
    Some(ChannelId::from_hex(&group.channel).unwrap())
}

/// Everything that a client shows, with its channel.
pub(crate) fn messages(world: &mut World, index: usize) -> Vec<(ChannelId, Message)> {
    let mut all = Vec::new();
    for channel in world.user(index, |m, s| m.channels(s)).unwrap() {
        let id = ChannelId::from_hex(&channel.channel).unwrap();
        let history = world.user(index, |m, s| m.history(s, (&id, 10_000))).unwrap();
        all.extend(history.into_iter().map(|message| (id, message)));
    }
    all
}

/// Tells a resumed world what its clients have written, as their files say; returns it.
pub(crate) fn remember(world: &mut World) -> BTreeSet<(usize, ChannelId, String)> {
    let mut written = BTreeSet::new();
    for index in 0..world.clients() {
        for (channel, message) in messages(world, index) {
            let state = message.state;
            // What another device of the account wrote was received here.
            let others = matches!(state, MessageState::Notice | MessageState::Received);
            if message.own && !others {
                world.wrote(index, (&channel, &message.text));
                written.insert((index, channel, message.text));
            }
        }
    }
    written
}

fn group_of(world: &mut World) -> ChannelId {
    the_group(world).expect("the group of an earlier stage")
}

fn accounts(world: &mut World, of: &[usize]) -> Vec<AccountId> {
    of.iter().map(|index| world.account(*index).unwrap()).collect()
}

/// Client 0 wants these in, or out.
pub(crate) fn change(world: &mut World, group: ChannelId, (add, of): (bool, &[usize])) {
    let accounts = accounts(world, of);
    world.user(0, |m, s| m.change_members(s, &group, (add, &accounts)).map(drop)).unwrap();
}

fn start_again(world: &mut World, notes: &mut Notes) {
    world.restart_server().unwrap();
    for index in 0..world.clients() {
        world.crash(index).unwrap();
    }
    world.settle().unwrap();
    notes.note(world, "started again");
}

fn group(world: &mut World, notes: &mut Notes) {
    let made = world.user(0, |m, s| m.create_group_channel(s, TITLE)).unwrap();
    notes.note(world, "group");
    world.settle().unwrap();
    change(world, made.channel, (true, &[1, 2]));
    world.settle().unwrap();
    notes.say(world, (1, made.channel, "from a new member"));
    world.settle().unwrap();
}

fn talk(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    let peer = world.account(2).unwrap();
    let direct = world.user(1, |m, s| m.direct(s, &peer)).unwrap().channel;
    for index in 0..3 {
        for number in 0..2 {
            notes.say(world, (index, group, &format!("{number} of {index}")));
        }
    }
    world.settle().unwrap();
    notes.say(world, (1, direct, "between us"));
    // Taken back before it was sealed.
    world.disconnect(2).unwrap();
    let id = world.user(2, |m, s| m.queue(s, &group, "never mind")).unwrap().id;
    world.user(2, |m, s| m.cancel(s, id).map(drop)).unwrap();
    world.wrote(2, (&group, "never mind"));
    world.settle().unwrap();
}

fn changes(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    let one = world.account(1).unwrap();
    world.user(0, |m, s| m.set_admin(s, &group, (&one, true)).map(drop)).unwrap();
    world.settle().unwrap();
    // Two Commits over the same epoch, and a message.
    world.user(0, |m, s| m.set_description(s, &group, "With a rod").map(drop)).unwrap();
    world.user(1, |m, s| m.set_title(s, &group, "Angling").map(drop)).unwrap();
    notes.say(world, (2, group, "while it changes"));
    world.settle().unwrap();
    // Leaves get new keys after a day.
    world.sleep_until(world.now_ms + DAY_MS / 2).unwrap();
    world.settle().unwrap();
}

fn leave_and_join(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    world.user(2, |m, s| m.leave(s, &group).map(drop)).unwrap();
    world.settle().unwrap();
    notes.say(world, (0, group, "without you"));
    world.settle().unwrap();
    change(world, group, (true, &[2]));
    world.settle().unwrap();
    notes.say(world, (2, group, "back again"));
    world.settle().unwrap();
}

/// Client 1 goes on from a copy that lacks a Commit of its own, and is taken in again.
fn rejoin(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    world.settle().unwrap();
    world.back_up(1).unwrap();
    world.user(1, |m, s| m.set_description(s, &group, "Gone with the copy").map(drop)).unwrap();
    world.settle().unwrap();
    world.restore(1).unwrap();
    world.settle().unwrap();
    notes.say(world, (1, group, "from the copy"));
    world.settle().unwrap();
}

fn link(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    world.settle().unwrap();
    let linked = world.link(0).unwrap();
    notes.note(world, "linked");
    world.settle().unwrap();
    notes.say(world, (linked, group, "from the other device"));
    world.settle().unwrap();
}

fn revoke(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    world.settle().unwrap();
    world.revoke(0, &[3]).unwrap();
    notes.note(world, "revoked");
    world.settle().unwrap();
    notes.say(world, (1, group, "without the device"));
    world.settle().unwrap();
}

/// The server ends what is due, and an account ends.
fn expire(world: &mut World, notes: &mut Notes) {
    let group = group_of(world);
    world.settle().unwrap();
    world.sweep().unwrap();
    notes.say(world, (2, group, "a last word"));
    world.settle().unwrap();
    world.sweep().unwrap();
    let at_ms = world.delete(2).unwrap();
    notes.note(world, "asked to be deleted");
    world.sleep_until(at_ms + 1).unwrap();
    world.sweep().unwrap();
    notes.note(world, "deleted");
    world.settle().unwrap();
    notes.say(world, (0, group, "without the account"));
    world.settle().unwrap();
    world.expire_after(8 * DAY_MS).unwrap();
    world.settle().unwrap();
}

/// Whether a client is in the group, and may write.
fn is_live(world: &mut World, (index, group): (usize, ChannelId)) -> bool {
    let channel = world.user(index, |m, s| m.channel(s, &group)).unwrap();
    matches!(channel.status, ChannelStatus::Active | ChannelStatus::Unconfirmed)
}

/// Lets time pass until the device that lost its place has it again: what is said before, it is
/// not owed.
pub(crate) fn until_back(world: &mut World) {
    let group = group_of(world);
    for _ in 0..12 {
        world.settle().unwrap();
        if is_live(world, (1, group)) {
            return;
        }
        world.sleep_until(world.now_ms + 600_000).unwrap();
    }
    panic!("it does not come back");
}

/// Brings the world to where the stages lead, from wherever it stopped: a group of all that have an
/// account, in which everybody is heard.
pub(crate) fn go_on(world: &mut World) {
    let group = the_group(world).unwrap_or_else(|| {
        let made = world.user(0, |m, s| m.create_group_channel(s, TITLE)).unwrap();
        world.settle().unwrap();
        made.channel
    });
    let members = world.user(0, |m, s| m.members(s, &group)).unwrap();
    let mut missing = Vec::new();
    for index in 1..3 {
        let account = world.account(index).unwrap().to_string();
        let is_in = members.iter().any(|member| member.account == account);
        if !is_in && !world.is_out(index).unwrap() {
            missing.push(index);
        }
    }
    if !missing.is_empty() {
        change(world, group, (true, &missing));
        world.settle().unwrap();
    }
    let mut said = Vec::new();
    for index in 0..world.clients() {
        if !world.is_out(index).unwrap() {
            let text = format!("client {index} goes on");
            world.write(index, (&group, &text)).unwrap();
            said.push((index, text));
        }
    }
    world.settle().unwrap();
    for (index, _) in &said {
        assert!(is_live(world, (*index, group)), "client {index} is not in");
        let outbox = world.user(*index, |m, s| m.outbox(s)).unwrap();
        assert!(outbox.is_empty(), "client {index} still sends {outbox:?}");
        let history = world.user(*index, |m, s| m.history(s, (&group, 10_000))).unwrap();
        for (_, text) in &said {
            let shown = history.iter().filter(|message| message.text == *text).count();
            assert_eq!(shown, 1, "{text:?} at {index}");
        }
    }
}
