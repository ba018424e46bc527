//! Counts how often a device is given the same first entry of a log again: a client that breaks on
//! an entry each time comes back for it for ever, and its user may not tell anybody.
//!
//! Keeps a bounded number of places in memory. Changes nothing about what is delivered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use qpc_proto::ChannelId;
use qpc_proto::message::DeviceRef;

/// Times that an entry may be given again before it is an alarm.
const AGAIN_MAX: u32 = 5;
/// Places that are remembered; when there are more, all are forgotten.
const PLACES_MAX: usize = 16 * 1_024;

/// Where devices began to read last.
#[derive(Debug, Default)]
pub(crate) struct Redeliveries {
    places: Mutex<HashMap<(DeviceRef, ChannelId), Place>>,
}

#[derive(Debug)]
struct Place {
    first_seq: u64,
    /// How often it was given after the first time.
    again: u32,
}

impl Redeliveries {
    /// Notes that a device begins to read a log with the entry `first_seq`. True, once, when it has
    /// been given that entry too often.
    pub(crate) fn begins(&self, (device, channel): (DeviceRef, ChannelId), first_seq: u64) -> bool {
        // The map stays whole whatever panics.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX && !places.contains_key(&(device, channel)) {
            places.clear();
        }
        match places.get_mut(&(device, channel)) {
            Some(place) if place.first_seq == first_seq => {
                place.again = place.again.saturating_add(1);
                place.again == AGAIN_MAX.saturating_add(1)
            }
            Some(_) | None => {
                places.insert((device, channel), Place { first_seq, again: 0 });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::{AccountId, DeviceId};

    fn at(n: u8) -> (DeviceRef, ChannelId) {
        let device = DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) };
        (device, ChannelId([9; 16]))
    }

    #[test]
    fn case_154_an_entry_given_again_too_often_is_an_alarm_once() {
        let redeliveries = Redeliveries::default();
        let alarms: Vec<_> = (0..10).map(|_| redeliveries.begins(at(1), 7)).collect();
        // Once, and again five times, is no alarm yet.
        let expected: Vec<_> = (0..10).map(|n| n == 6).collect();
        assert_eq!(alarms, expected);
    }

    #[test]
    fn case_154_who_moves_on_or_is_another_begins_anew() {
        let redeliveries = Redeliveries::default();
        for _ in 0..6 {
            assert!(!redeliveries.begins(at(1), 7));
        }
        assert!(!redeliveries.begins(at(2), 7));
        assert!(!redeliveries.begins(at(1), 8));
        assert!(!redeliveries.begins(at(1), 7));
    }

    #[test]
    fn places_are_bounded() {
        let redeliveries = Redeliveries::default();
        for n in 0..=u16::try_from(PLACES_MAX).unwrap() {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            redeliveries.begins((at(1).0, ChannelId(id)), 1);
        }
        assert!(redeliveries.places.lock().unwrap().len() <= PLACES_MAX);
    }
}
