//! A world at rest with a channel, and what its clients show of it.

use std::sync::{Arc, Mutex};

use qpc_client::machine::{Input, Standing};
use qpc_client::view::{Channel, ChannelStatus, Message, MessageState};
use qpc_proto::ChannelId;
use qpc_proto::message::{CommitRequest, Enqueue, Method, Page, Request, Response};
use qpc_sim::World;

/// Clients 0 to `clients`, connected, with KeyPackages at the server.
pub(crate) fn world(clients: usize) -> World {
    let mut world = World::new(7, clients).unwrap();
    world.settle().unwrap();
    world
}

/// A group made by client 0 with `others` in it, at rest.
pub(crate) fn group(world: &mut World, others: &[usize]) -> ChannelId {
    let made = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap();
    world.settle().unwrap();
    if !others.is_empty() {
        add(world, &made.channel, others);
        world.settle().unwrap();
    }
    made.channel
}

/// Client 0 wants these in.
pub(crate) fn add(world: &mut World, channel: &ChannelId, others: &[usize]) {
    let accounts: Vec<_> = others.iter().map(|index| world.account(*index).unwrap()).collect();
    world.user(0, |m, s| m.change_members(s, channel, (true, &accounts))).unwrap();
}

pub(crate) fn channel(world: &mut World, index: usize, channel: &ChannelId) -> Channel {
    world.user(index, |m, s| m.channel(s, channel)).unwrap()
}

pub(crate) fn standing(world: &mut World, index: usize, channel: &ChannelId) -> Standing {
    world.user(index, |m, s| m.standing(s, channel)).unwrap()
}

pub(crate) fn history(world: &mut World, index: usize, channel: &ChannelId) -> Vec<Message> {
    world.user(index, |m, s| m.history(s, (channel, 10_000))).unwrap()
}

/// Texts with a place in the log, in its order.
pub(crate) fn texts(world: &mut World, index: usize, channel: &ChannelId) -> Vec<(u64, String)> {
    let read = |m: &Message| matches!(m.state, MessageState::Received | MessageState::Accepted);
    let all = history(world, index, channel).into_iter().filter(read);
    let mut all: Vec<_> = all.map(|m| (m.seq.unwrap(), m.text)).collect();
    all.sort();
    all
}

pub(crate) fn words(world: &mut World, index: usize, channel: &ChannelId) -> Vec<String> {
    texts(world, index, channel).into_iter().map(|(_, text)| text).collect()
}

pub(crate) fn say(world: &mut World, index: usize, (channel, text): (&ChannelId, &str)) {
    world.write(index, (channel, text)).unwrap();
}

pub(crate) fn members(world: &mut World, index: usize, channel: &ChannelId) -> Vec<String> {
    let members = world.user(index, |m, s| m.members(s, channel)).unwrap();
    let mut names: Vec<_> = members.into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

pub(crate) fn names(indices: &[usize]) -> Vec<String> {
    indices.iter().map(|index| format!("user{index}")).collect()
}

/// All are active members in the same epoch, at the same place of the same log.
pub(crate) fn in_step(world: &mut World, channel_id: &ChannelId, all: &[usize]) {
    let first = standing(world, all[0], channel_id);
    for index in all {
        assert_eq!(standing(world, *index, channel_id), first, "client {index}");
        let status = channel(world, *index, channel_id).status;
        assert!(
            matches!(status, ChannelStatus::Active | ChannelStatus::Unconfirmed),
            "client {index}: {status:?}"
        );
    }
}

/// The sends that a client has on its way.
pub(crate) fn enqueues(world: &mut World, index: usize) -> Vec<Enqueue> {
    let sent = world.sent(index).unwrap().into_iter();
    sent.filter_map(
        |out| if let Request::Enqueue(enqueue) = out.request { Some(enqueue) } else { None },
    )
    .collect()
}

/// The Commits that a client has on their way.
pub(crate) fn commits(world: &mut World, index: usize) -> Vec<CommitRequest> {
    let sent = world.sent(index).unwrap().into_iter();
    sent.filter_map(
        |out| if let Request::Commit(commit) = out.request { Some(commit) } else { None },
    )
    .collect()
}

/// Moves one client's traffic and its time on until it has sent a request of `method`.
pub(crate) fn until_sent(world: &mut World, index: usize, method: Method) {
    for _ in 0..200 {
        if world.sent(index).unwrap().iter().any(|out| out.request.method() == method) {
            return;
        }
        let next = world.sent(index).unwrap().first().map(|out| out.request.method());
        let moved = match next {
            Some(next) => world.deliver(index, (next, false)).unwrap(),
            None => false,
        };
        if !world.deliver_down(index).unwrap() && !moved {
            world.tick(500).unwrap();
        }
    }
    panic!("client {index} never sends {}", method.as_str());
}

/// Delivers everything that waits for a client.
pub(crate) fn read_all(world: &mut World, index: usize) {
    while world.deliver_down(index).unwrap() {}
}

/// The page in what a client is given, if it holds one.
pub(crate) fn page(input: &mut Input) -> Option<&mut Page> {
    match input {
        Input::Page(page) | Input::Answer(_, Ok(Response::Page(page))) => Some(page),
        Input::Answer(..)
        | Input::Online(_)
        | Input::Offline(_)
        | Input::Tick
        | Input::Lookup(_) => None,
    }
}

/// Keeps a copy of every page of `channel` that `client` is given from now on.
pub(crate) fn record(world: &mut World, client: usize) -> Arc<Mutex<Vec<Page>>> {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&kept);
    world.liar = Some(Box::new(move |index, input| {
        if index == client
            && let Some(page) = page(input)
        {
            sink.lock().unwrap().push(page.clone());
        }
    }));
    kept
}

/// Gives a client an input that the server never sent.
pub(crate) fn inject(world: &mut World, index: usize, input: Input) {
    world.user(index, |machine, step| machine.handle(step, input)).unwrap();
}

pub(crate) fn at_peace(world: &mut World) {
    world.settle().unwrap();
    qpc_sim::check(world).unwrap();
}
