//! Who may open another connection: by address lists, and by how many are open, in all and from one
//! network. A place is held from before the handshake until the connection has ended.
//!
//! Counts by the address that a connection was accepted from; one that moves later (RFC 9000
//! section 9) keeps its place there.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AddressLists, Network};

/// From this share of a cap on, clients must show first that they receive at their address
/// (RFC 9000 section 8.1): forged addresses can take no more than the rest.
const VALIDATE_ABOVE: usize = 2;

/// Why a client is refused before its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedFor {
    /// The address lists.
    Address,
    /// Too many are open from its network.
    Network,
    /// Too many are open.
    Total,
}

impl RefusedFor {
    /// Every cause, in the order of the declaration.
    pub(crate) const ALL: [Self; 3] = [Self::Address, Self::Network, Self::Total];

    /// Its name in logs and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Network => "network",
            Self::Total => "total",
        }
    }
}

/// What becomes of a client that asks to connect.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Let it in, and hold the place while it is open.
    Admitted(Place),
    /// Let it show first that it receives at its address.
    Validate,
    /// Refuse it.
    Refused(RefusedFor),
}

/// The open connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    total_max: usize,
    per_network_max: usize,
    lists: AddressLists,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    networks: HashMap<Network, usize>,
}

/// One open connection; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    network: Network,
}

impl Connections {
    pub(crate) fn new(total_max: usize, per_network_max: usize, lists: AddressLists) -> Self {
        Self { total_max, per_network_max, lists, open: Mutex::default() }
    }

    /// Judges a client by its address, and whether it has shown that it receives there.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, validated: bool) -> Entry {
        if !self.lists.admits(address) {
            return Entry::Refused(RefusedFor::Address);
        }
        let network = Network::of(address);
        let mut open = self.locked();
        let here = open.networks.get(&network).copied().unwrap_or(0);
        if here >= self.per_network_max {
            return Entry::Refused(RefusedFor::Network);
        }
        if open.total >= self.total_max {
            return Entry::Refused(RefusedFor::Total);
        }
        let busy = open.total > self.total_max / VALIDATE_ABOVE
            || here > self.per_network_max / VALIDATE_ABOVE;
        if busy && !validated {
            return Entry::Validate;
        }
        open.total = open.total.saturating_add(1);
        open.networks.insert(network, here.saturating_add(1));
        drop(open);
        Entry::Admitted(Place { connections: Arc::clone(self), network })
    }

    /// Connections that are open, handshakes included.
    pub(crate) fn open(&self) -> usize {
        self.locked().total
    }

    /// The counts stay whole whatever panics.
    fn locked(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.locked();
        open.total = open.total.saturating_sub(1);
        if let Some(here) = open.networks.get_mut(&self.network) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                open.networks.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(connections: &Arc<Connections>, address: &str, validated: bool) -> Entry {
        connections.enter(address.parse().unwrap(), validated)
    }

    fn place(connections: &Arc<Connections>, address: &str) -> Place {
        let Entry::Admitted(place) = enter(connections, address, true) else {
            panic!("there is room")
        };
        place
    }

    #[test]
    fn case_018_the_65th_connection_of_an_address_or_64_is_refused() {
        let connections = Arc::new(Connections::new(10_000, 64, AddressLists::default()));
        for host in ["192.0.2.7", "2001:db8:0:1::"] {
            let address =
                |n: usize| if host.contains(':') { format!("{host}{n}") } else { host.into() };
            let mut held: Vec<_> = (0..64).map(|n| place(&connections, &address(n))).collect();
            let more = enter(&connections, &address(64), true);
            assert!(matches!(more, Entry::Refused(RefusedFor::Network)), "{host}");
            // Neighbours are not affected, and an ended connection makes room.
            let _other = place(&connections, "192.0.2.8");
            let _next = place(&connections, "2001:db8:0:2::1");
            held.pop();
            held.push(place(&connections, &address(64)));
        }
        assert_eq!((connections.open(), connections.locked().networks.len()), (0, 0));
    }

    #[test]
    fn forged_addresses_take_no_more_than_half_of_a_network() {
        let connections = Arc::new(Connections::new(10_000, 8, AddressLists::default()));
        let mut forged = Vec::new();
        while let Entry::Admitted(place) = enter(&connections, "192.0.2.7", false) {
            forged.push(place);
        }
        assert_eq!(forged.len(), 5);
        let validated: Vec<_> = (0..3).map(|_| place(&connections, "192.0.2.7")).collect();
        assert_eq!(connections.open(), 8);
        drop((forged, validated));
        assert_eq!(connections.open(), 0);
    }

    #[test]
    fn the_lists_come_first_and_the_total_last() {
        let deny = vec![AddressLists::parse("192.0.2.0/24").unwrap()];
        let lists = AddressLists { deny, ..AddressLists::default() };
        let connections = Arc::new(Connections::new(1, 1, lists));
        let cause = |address| match enter(&connections, address, true) {
            Entry::Refused(cause) => Some(cause),
            Entry::Admitted(_) | Entry::Validate => None,
        };
        let _held = place(&connections, "198.51.100.1");
        assert_eq!(cause("192.0.2.1"), Some(RefusedFor::Address));
        assert_eq!(cause("198.51.100.1"), Some(RefusedFor::Network));
        assert_eq!(cause("198.51.100.2"), Some(RefusedFor::Total));
    }
}
