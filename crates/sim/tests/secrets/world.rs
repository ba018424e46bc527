//! The simulated world: everything of both sides in one thread.

use qpc_client::Phrase;
use qpc_sim::World;

use crate::capture;
use crate::needles::Needles;

const TEXTS: [&str; 3] =
    ["the eagle flies at midnight", "bring the \u{2603} and \"both\" keys", "burn after reading"];
const TITLE: &str = "Society of the silent fish";

/// Tokens of all who are connected, and phrases that were not shown.
fn secrets(world: &mut World, clients: usize, needles: &mut Needles) {
    for index in 0..clients {
        for (number, token) in world.tokens(index).unwrap().into_iter().enumerate() {
            needles.bytes(&format!("token {number} of {index}"), token.as_bytes());
        }
        let phrase = world.user(index, |machine, _| Ok(machine.phrase())).unwrap();
        if let Some(words) = phrase.as_ref().map(Phrase::words) {
            needles.text(&format!("phrase of {index}"), &words);
        }
    }
}

#[test]
fn a_simulated_world_logs_no_secret() {
    capture::start();
    let mut needles = Needles::default();
    let mut world = World::new(11, 3).unwrap();
    world.settle().unwrap();
    secrets(&mut world, 3, &mut needles);
    let made = world.user(0, |m, s| m.create_group_channel(s, TITLE)).unwrap();
    let others = [1, 2].map(|index| world.account(index).unwrap());
    world.settle().unwrap();
    world.user(0, |m, s| m.change_members(s, &made.channel, (true, &others))).unwrap();
    world.settle().unwrap();
    let phone = world.link(0).unwrap();
    world.settle().unwrap();
    for (index, text) in TEXTS.into_iter().enumerate() {
        world.write(index, (&made.channel, text)).unwrap();
        needles.text("a message", text);
    }
    needles.text("a title", TITLE);
    world.settle().unwrap();
    secrets(&mut world, 4, &mut needles);
    world.crash(1).unwrap();
    world.restart_server().unwrap();
    world.settle().unwrap();
    secrets(&mut world, 4, &mut needles);
    world.revoke(0, &[phone]).unwrap();
    world.recover(1).unwrap();
    world.settle_among(&[0, 2, 4]).unwrap();
    secrets(&mut world, 5, &mut needles);

    let recorded = capture::recorded();
    assert!(recorded.len() > 1_000, "a world says something at TRACE");
    let found = needles.found_in(&recorded);
    assert!(found.is_empty(), "{found:?}");
}
