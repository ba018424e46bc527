//! What the clients show, against the reference model: every message that the server took is shown
//! once by every device that it is owed to, in its place, and by no other.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use qpc_client::view::{Loss, LossCode};
use qpc_proto::ChannelId;
use qpc_proto::message::DeviceRef;

use super::{Seen, texts_of};
use crate::model::Owed;
use crate::world::World;

/// How long the server of a world keeps what nobody has read.
const RETENTION_MS: u64 = 7 * 24 * 3_600_000;

/// Compares all channels that somebody has.
pub(super) fn check(world: &mut World, by_channel: &BTreeMap<String, Vec<Seen>>) -> Result<()> {
    let devices = devices(world)?;
    let Some(model) = &world.model else { return Ok(()) };
    for channel in model.channels() {
        let seen = by_channel.get(&channel.to_string()).map_or(&[][..], Vec::as_slice);
        check_channel((world, &devices), (channel, seen))
            .with_context(|| format!("in channel {channel}"))?;
    }
    Ok(())
}

/// The devices of all clients that go on: one that is out stands where it was when it heard of it.
fn devices(world: &mut World) -> Result<BTreeMap<usize, DeviceRef>> {
    let mut devices = BTreeMap::new();
    for index in 0..world.clients.len() {
        if !world.client(index)?.is_stopped() {
            let (account, device) = (world.account(index)?, world.device(index)?);
            devices.insert(index, DeviceRef { account, device });
        }
    }
    Ok(devices)
}

fn check_channel(
    (world, devices): (&World, &BTreeMap<usize, DeviceRef>),
    (channel, seen): (ChannelId, &[Seen]),
) -> Result<()> {
    let Some(model) = &world.model else { return Ok(()) };
    for owed in model.owed(&channel, !world.calm)? {
        let of_it = |seen: &&Seen| texts_of(seen).any(|(seq, _)| seq == owed.seq);
        if !world.calm && !seen.iter().any(|seen| of_it(&seen)) {
            // Sent a second time, because nobody knew any more what had become of the first.
            continue;
        }
        let text = seen.iter().flat_map(texts_of).find(|(seq, _)| *seq == owed.seq);
        let text = text.map(|(_, text)| text);
        let mut said = None;
        for (client, device) in devices {
            let shown = seen.iter().find(|seen| seen.client == *client);
            let lines: Vec<&str> = shown
                .into_iter()
                .flat_map(texts_of)
                .filter(|(seq, _)| *seq == owed.seq)
                .map(|(_, text)| text)
                .collect();
            if !owed.roster.contains(device) {
                ensure!(lines.is_empty(), "{client} shows {}, which it is not owed", owed.seq);
                continue;
            }
            ensure!(lines.len() <= 1, "{client} shows {} more than once", owed.seq);
            match lines.first() {
                Some(line) => {
                    let same = *said.get_or_insert(*line) == *line;
                    ensure!(same, "{client} shows another text at {}: {line}", owed.seq);
                }
                None if !world.calm && had_before(shown, (owed.seq, text)) => {}
                // Its sender had not heard yet that its account had left.
                None if owed.left.contains(device) => {}
                None => check_excused((world, &owed), (*client, device, shown))?,
            }
        }
    }
    Ok(())
}

/// Whether a client shows a text at an earlier place: its sender never heard of that one, and sent
/// it a second time when the entry had expired; who has it shows it once.
fn had_before(shown: Option<&Seen>, (second, text): (u64, Option<&str>)) -> bool {
    let is_first = |(seq, line): (u64, &str)| seq < second && Some(line) == text;
    shown.into_iter().flat_map(texts_of).any(is_first)
}

/// What is not shown is in the ledger, and there is a reason.
fn check_excused(
    (world, owed): (&World, &Owed),
    (client, device, shown): (usize, &DeviceRef, Option<&Seen>),
) -> Result<()> {
    let expired = owed.accepted_at_ms.saturating_add(RETENTION_MS) <= world.now_ms;
    let losses = || shown.into_iter().flat_map(|seen| &seen.losses);
    let named =
        |loss: &Loss, seq: u64| (loss.seq..loss.seq.saturating_add(loss.count)).contains(&seq);
    // Who leaves asks for nothing any more when a Commit expired before it was read.
    let mut unread = losses().filter(|loss| loss.code == LossCode::Expired.as_str());
    let leaves_behind = owed.leaving.get(device).is_some_and(|commits| {
        unread.any(|loss| commits.iter().any(|commit| named(loss, *commit)))
    });
    let lost_place = owed.came_back.contains(device) || leaves_behind;
    let excused = !world.calm && (expired || lost_place);
    ensure!(excused, "{client} does not show {}, which it is owed", owed.seq);
    let in_ledger = losses().any(|loss| named(loss, owed.seq));
    ensure!(in_ledger, "{client} does not show {}, and no loss names it", owed.seq);
    Ok(())
}

#[cfg(test)]
mod tests {
    use qpc_proto::message::Method;

    use super::*;

    const DAY_MS: u64 = 24 * 3_600_000;

    /// The answer to a message is lost; all others read it; its sender comes again when the entry
    /// has expired, and sends it once more.
    #[test]
    fn who_read_a_message_in_its_first_place_is_not_owed_it_in_the_second() {
        let mut world = World::earlier((7, 2), 30 * DAY_MS).unwrap();
        world.calm = false;
        world.settle().unwrap();
        let peer = world.account(1).unwrap();
        let direct = world.user(0, |m, s| m.direct(s, &peer)).unwrap().channel;
        world.settle().unwrap();
        world.write(0, (&direct, "sent twice, shown once")).unwrap();
        assert!(world.deliver(0, (Method::Enqueue, true)).unwrap());
        while world.deliver_down(1).unwrap() {}
        assert!(world.sleep_for(8 * DAY_MS).unwrap());
        world.settle().unwrap();
        let places = [0, 1].map(|index| {
            let all = world.user(index, |m, s| m.history(s, (&direct, 100))).unwrap();
            let shown = all.into_iter().filter(|line| line.text.starts_with("sent twice"));
            shown.map(|line| line.seq).collect::<Vec<_>>()
        });
        let [[Some(second)], [Some(first)]] = [&places[0][..], &places[1][..]] else {
            panic!("{places:?}")
        };
        assert!(first < second, "{places:?}");
        crate::check(&mut world).unwrap();
    }

    /// A device writes in a group of its account alone, which another one has left meanwhile.
    #[test]
    fn who_left_alone_is_not_owed_what_a_sibling_wrote_behind_it() {
        let mut world = World::new(7, 1).unwrap();
        world.settle().unwrap();
        let group = world.user(0, |m, s| m.create_group_channel(s, "Mine")).unwrap().channel;
        world.settle().unwrap();
        let sibling = world.link(0).unwrap();
        world.settle().unwrap();
        world.write(sibling, (&group, "too late")).unwrap();
        world.user(0, |m, s| m.leave(s, &group)).unwrap();
        assert!(world.deliver(0, (Method::Statement, false)).unwrap());
        assert!(world.deliver(sibling, (Method::Enqueue, false)).unwrap());
        world.settle().unwrap();
        let shown = [0, sibling].map(|index| {
            let all = world.user(index, |m, s| m.history(s, (&group, 100))).unwrap();
            all.into_iter().filter(|line| line.text == "too late").count()
        });
        assert_eq!(shown, [0, 1]);
        crate::check(&mut world).unwrap();
    }

    /// A Commit expires before a device reads it; the device leaves, and is not taken in again.
    #[test]
    fn who_lost_its_place_and_leaves_is_not_owed_what_came_before_its_removal() {
        let mut world = World::earlier((7, 3), 30 * DAY_MS).unwrap();
        world.calm = false;
        world.settle().unwrap();
        let group = world.user(0, |m, s| m.create_group_channel(s, "Fishing")).unwrap().channel;
        for index in [1, 2] {
            world.settle().unwrap();
            let account = world.account(index).unwrap();
            if index == 2 {
                world.disconnect(1).unwrap();
            }
            world.user(0, |m, s| m.change_members(s, &group, (true, &[account]))).unwrap();
            world.settle_among(&[0, 2]).unwrap();
        }
        assert!(world.sleep_for(8 * DAY_MS).unwrap());
        world.settle_among(&[0, 2]).unwrap();
        world.write(2, (&group, "who is there?")).unwrap();
        world.user(1, |m, s| m.leave(s, &group)).unwrap();
        world.connect(1).unwrap();
        assert!(world.deliver(1, (Method::Statement, false)).unwrap());
        assert!(world.deliver(2, (Method::Enqueue, false)).unwrap());
        world.settle().unwrap();
        let shown = [0, 1, 2].map(|index| {
            let all = world.user(index, |m, s| m.history(s, (&group, 100))).unwrap();
            all.into_iter().filter(|line| line.text == "who is there?").count()
        });
        assert_eq!(shown, [1, 0, 1]);
        crate::check(&mut world).unwrap();
    }
}
