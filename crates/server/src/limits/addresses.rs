//! Addresses as limits see them, and which of them may connect at all.

use std::net::IpAddr;

use ipnet::IpNet;

/// Bits of an IPv6 address that name a network; the rest is the host's to change at will.
const IPV6_PREFIX_BITS: u32 = 64;

/// An IPv4 address or an IPv6 /64: what one subscriber has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// One address.
    V4([u8; 4]),
    /// The upper half of an address.
    V6([u8; 8]),
}

impl Network {
    /// The network of an address; an IPv4 address written as IPv6 (RFC 4291 section 2.5.5.2) is
    /// IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let upper = address.to_bits() >> (128 - IPV6_PREFIX_BITS);
                Self::V6(u64::try_from(upper).unwrap_or(u64::MAX).to_be_bytes())
            }
        }
    }
}

/// Who may connect, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressLists {
    /// These alone; empty for all.
    pub allow: Vec<IpNet>,
    /// These never, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

impl AddressLists {
    /// Whether an address may connect.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let holds = |list: &[IpNet]| list.iter().any(|net| net.contains(&address));
        !holds(&self.deny) && (self.allow.is_empty() || holds(&self.allow))
    }

    /// Reads one entry: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
    ///
    /// # Errors
    /// What it must look like.
    pub fn parse(text: &str) -> Result<IpNet, String> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            format!("{text:?} is no network; write one like 192.0.2.0/24 or 2001:db8::/32")
        })?;
        if network.trunc() == network {
            Ok(network)
        } else {
            Err(format!("{text:?} has bits behind its prefix; write {}", network.trunc()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    #[test]
    fn case_201_privacy_addresses_of_one_64_are_one_network() {
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        // A dual-stack socket shows IPv4 clients like this.
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    fn lists(allow: &[&str], deny: &[&str]) -> AddressLists {
        let parse =
            |texts: &[&str]| texts.iter().map(|t| AddressLists::parse(t).unwrap()).collect();
        AddressLists { allow: parse(allow), deny: parse(deny) }
    }

    #[test]
    fn deny_wins_and_an_empty_allow_means_all() {
        let admits = |lists: &AddressLists, text: &str| lists.admits(text.parse().unwrap());
        let all = AddressLists::default();
        assert!(admits(&all, "192.0.2.1") && admits(&all, "2001:db8::1"));
        let some = lists(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.128/25", "2001:db8::9"]);
        for (address, admitted) in [
            ("192.0.2.127", true),
            ("192.0.2.128", false),
            ("::ffff:192.0.2.128", false),
            ("192.0.3.1", false),
            ("2001:db8::8", true),
            ("2001:db8::9", false),
            ("2001:db9::1", false),
        ] {
            assert_eq!(admits(&some, address), admitted, "{address}");
        }
    }

    #[test]
    fn an_entry_that_names_no_network_is_told() {
        for wrong in ["", "here", "192.0.2.0/33", "192.0.2.1/24", "2001:db8::1/32"] {
            assert!(AddressLists::parse(wrong).is_err(), "{wrong}");
        }
        assert!(AddressLists::parse("192.0.2.1/24").unwrap_err().contains("192.0.2.0/24"));
    }
}
