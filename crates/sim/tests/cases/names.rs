//! Names that are looked up: whoever the server answers with must have signed that name.

use qpc_client::machine::{Input, Work};
use qpc_proto::message::Response;

use super::support::{inject, world};

#[test]
fn an_answer_for_a_name_is_of_who_signed_that_name() {
    let mut world = world(3);
    let other = world.newest(2).unwrap();
    world.liar = Some(Box::new(move |index, input| {
        if let Input::Answer(Work::Lookup(_), Ok(Response::Identity(identity))) = input
            && index == 0
        {
            identity.clone_from(&other);
        }
    }));
    inject(&mut world, 0, Input::Lookup("user1".to_owned()));
    world.settle().unwrap();
    assert!(world.user(0, |m, s| m.looked_up(s, "user1")).is_err());
    let alarms = world.alarms(0).unwrap();
    assert!(alarms.iter().any(|alarm| alarm.contains("user1 with somebody else")), "{alarms:?}");
    world.liar = None;
    inject(&mut world, 0, Input::Lookup("user1".to_owned()));
    world.settle().unwrap();
    let found = world.user(0, |m, s| m.looked_up(s, "user1")).unwrap();
    assert_eq!(found, Some(world.account(1).unwrap()));
}
