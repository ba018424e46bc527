//! Which connections belong to which device, so that they can be cut off when it is revoked.
//!
//! A connection registers as soon as its device is known, and is told if the device was cut off
//! lately, perhaps between its login and that. Closes nothing itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qpc_proto::ErrorCode;
use qpc_proto::message::DeviceRef;
use tokio::sync::watch;

/// All bound connections by device.
#[derive(Debug, Default)]
pub(crate) struct BoundConnections {
    known: Mutex<Known>,
}

/// Devices cut off last that are remembered: many more than in the time of one login.
const RECENT_MAX: usize = 1_024;

#[derive(Debug, Default)]
struct Known {
    next: u64,
    recent: VecDeque<DeviceRef>,
    devices: HashMap<DeviceRef, BTreeMap<u64, watch::Sender<Option<ErrorCode>>>>,
}

/// One connection's registration; ends when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    bound: Arc<BoundConnections>,
    device: DeviceRef,
    number: u64,
    cut: watch::Receiver<Option<ErrorCode>>,
    /// The device was cut off lately: whether it still is, its session tells.
    pub(crate) suspect: bool,
}

impl BoundConnections {
    /// Registers a connection of a device.
    pub(crate) fn enter(self: &Arc<Self>, device: DeviceRef) -> Registration {
        let (sender, cut) = watch::channel(None);
        let mut known = self.locked();
        let number = known.next;
        known.next = number.wrapping_add(1);
        known.devices.entry(device).or_default().insert(number, sender);
        let suspect = known.recent.contains(&device);
        drop(known);
        Registration { bound: Arc::clone(self), device, number, cut, suspect }
    }

    /// Tells the connections of these devices why they end, after that is on disk.
    pub(crate) fn cut_off(&self, ended: &[(DeviceRef, ErrorCode)]) {
        if ended.is_empty() {
            return;
        }
        let mut known = self.locked();
        for (device, code) in ended {
            if known.recent.len() == RECENT_MAX {
                known.recent.pop_front();
            }
            known.recent.push_back(*device);
            for cut in known.devices.get(device).into_iter().flat_map(BTreeMap::values) {
                cut.send_replace(Some(*code));
            }
        }
    }

    /// Devices that have a connection.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.locked().devices.len()
    }

    /// The map stays whole whatever panics, so a poisoned lock is as good as any.
    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Ends when the device is cut off, with the reason.
    pub(crate) async fn cut(&mut self) -> ErrorCode {
        match self.cut.wait_for(Option::is_some).await.map(|code| *code) {
            Ok(Some(code)) => code,
            // The sender lives as long as this registration.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut known = self.bound.locked();
        if let Some(connections) = known.devices.get_mut(&self.device) {
            connections.remove(&self.number);
            if connections.is_empty() {
                known.devices.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::{AccountId, DeviceId};

    fn device(n: u8) -> DeviceRef {
        DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) }
    }

    #[tokio::test]
    async fn all_connections_of_a_device_hear_it_and_no_others() {
        let bound = Arc::new(BoundConnections::default());
        let mut mine = [bound.enter(device(1)), bound.enter(device(1))];
        let other = bound.enter(device(2));
        bound.cut_off(&[(device(1), ErrorCode::DeviceRevoked), (device(3), ErrorCode::Quota)]);
        for connection in &mut mine {
            assert_eq!(connection.cut().await, ErrorCode::DeviceRevoked);
        }
        assert!(!other.cut.has_changed().unwrap() && !other.suspect);
        assert!(bound.enter(device(1)).suspect);
        drop(mine);
        assert_eq!(bound.count(), 1);
        drop(other);
        assert_eq!(bound.count(), 0);
    }
}
