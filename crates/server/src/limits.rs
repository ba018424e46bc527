//! How much one address, account or device may ask for, and what happens beyond it.
//!
//! Names every limiter with its rate, its key and the way it fails; `docs/operate/limits.md` has
//! the same table. Counts nothing itself and never sees the database.

mod addresses;
mod bounded;
mod connections;
mod limiters;
mod ticks;

use std::num::NonZeroU32;

pub use addresses::{AddressLists, Network};
pub(crate) use bounded::{Bounded, Counts};
pub(crate) use connections::{Connections, Entry, RefusedFor};
pub(crate) use limiters::{Asking, Limiters, refusal};
pub(crate) use ticks::Ticks;

/// A limit on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiter {
    /// Every request before login. Fails open: the connection count still holds.
    Address,
    /// Every request after login. Fails open: the device's own limit still holds.
    Account,
    /// Every request after login. Fails open: the account's own limit still holds.
    Device,
    /// `Register`. Fails closed: names are scarce.
    Register,
    /// `Login`. Fails open: a signature is not guessed, and a full table must not lock people out.
    Login,
    /// `Refresh`. Fails open: 256 bits are not guessed.
    Refresh,
    /// `Recover`. Fails closed: it changes who owns an account, and is rare.
    Recover,
    /// `LinkRelay`. Fails closed: one-time codes are guessed here, and their rows are few: what
    /// one address gets in the life of a code is a small part of them.
    Link,
    /// `Lookup` and `DeviceList`. Fails open: names are no secret. By device: who is to revoke a
    /// stolen one reads the list first.
    Lookup,
    /// `ClaimKeyPackages`. Fails closed: KeyPackages are scarce.
    Claim,
    /// `ClaimKeyPackages`, by claimer and target together, so that nobody empties the stock of
    /// another alone. Fails closed.
    ClaimTarget,
    /// `ClaimKeyPackages`, by target alone, so that many claimers together don't empty a stock
    /// faster than its owner fills it. Fails closed.
    ClaimAny,
    /// `UploadKeyPackages`. Fails closed: each has many signatures to check, and a line in the
    /// audit log.
    Upload,
    /// `CreateChannel` and `Commit`. Fails open: the account's and the device's own limits still
    /// hold.
    Commit,
    /// `Publish`. Fails open, for the same reason.
    Publish,
    /// What changes a whole account. Fails closed: it is rare and heavy. By device, so that a
    /// stolen one can't hold up its own revocation.
    AccountChange,
    /// `ExportAccount`. Fails closed: it reads all there is about an account.
    Export,
}

/// What a limiter counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyedBy {
    /// An IPv4 address or an IPv6 /64: the one that the connection was accepted from.
    Address,
    /// The account of the device that logged in.
    Account,
    /// The device that logged in.
    Device,
    /// The account that logged in and the account that it asks about.
    AccountAndTarget,
    /// The account that is asked about, whoever asks.
    Target,
}

/// What a limiter does with a key that it has no room to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// It lets the request through.
    Open,
    /// It refuses the request.
    Closed,
}

/// The time that a rate is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
}

impl Period {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// Requests that a limiter lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In each period, evenly spread.
    pub count: NonZeroU32,
    /// Of what time.
    pub per: Period,
    /// At once, after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate; 0 counts as 1.
    pub fn new(count: u32, per: Period, burst: u32) -> Self {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self { count: at_least_one(count), per, burst: at_least_one(burst) }
    }
}

impl Limiter {
    /// Every limiter, in the order of the declaration.
    pub const ALL: [Self; 17] = [
        Self::Address,
        Self::Account,
        Self::Device,
        Self::Register,
        Self::Login,
        Self::Refresh,
        Self::Recover,
        Self::Link,
        Self::Lookup,
        Self::Claim,
        Self::ClaimTarget,
        Self::ClaimAny,
        Self::Upload,
        Self::Commit,
        Self::Publish,
        Self::AccountChange,
        Self::Export,
    ];

    /// Its name in the configuration and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Account => "account",
            Self::Device => "device",
            Self::Register => "register",
            Self::Login => "login",
            Self::Refresh => "refresh",
            Self::Recover => "recover",
            Self::Link => "link",
            Self::Lookup => "lookup",
            Self::Claim => "claim",
            Self::ClaimTarget => "claim_target",
            Self::ClaimAny => "claim_any",
            Self::Upload => "upload",
            Self::Commit => "commit",
            Self::Publish => "publish",
            Self::AccountChange => "account_change",
            Self::Export => "export",
        }
    }

    /// What it counts by. Whatever can be guessed is counted by address, never by who is guessed
    /// at, so that nobody can lock another out.
    pub fn keyed_by(self) -> KeyedBy {
        match self {
            Self::Address
            | Self::Register
            | Self::Login
            | Self::Refresh
            | Self::Recover
            | Self::Link => KeyedBy::Address,
            Self::Account | Self::Claim | Self::Export => KeyedBy::Account,
            Self::Device
            | Self::Lookup
            | Self::Upload
            | Self::Commit
            | Self::Publish
            | Self::AccountChange => KeyedBy::Device,
            Self::ClaimTarget => KeyedBy::AccountAndTarget,
            Self::ClaimAny => KeyedBy::Target,
        }
    }

    /// What it does with a key that it has no room to remember.
    pub fn fails(self) -> Fails {
        match self {
            Self::Address
            | Self::Account
            | Self::Device
            | Self::Login
            | Self::Refresh
            | Self::Lookup
            | Self::Commit
            | Self::Publish => Fails::Open,
            Self::Register
            | Self::Recover
            | Self::Link
            | Self::Claim
            | Self::ClaimTarget
            | Self::ClaimAny
            | Self::Upload
            | Self::AccountChange
            | Self::Export => Fails::Closed,
        }
    }

    /// Its rate unless the configuration says otherwise.
    pub fn default_rate(self) -> Rate {
        use Period::{Hour, Minute, Second};
        match self {
            Self::Address | Self::Account | Self::Device => Rate::new(50, Second, 100),
            Self::Register => Rate::new(20, Minute, 20),
            Self::Login | Self::Refresh => Rate::new(120, Minute, 64),
            Self::Recover => Rate::new(12, Minute, 12),
            Self::Link => Rate::new(120, Minute, 60),
            Self::Lookup => Rate::new(120, Minute, 120),
            Self::Claim | Self::Commit => Rate::new(300, Minute, 300),
            Self::Publish => Rate::new(10, Second, 20),
            Self::Upload => Rate::new(20, Minute, 20),
            // One account alone holds up nobody for long: half of what comes back stays to others.
            Self::ClaimTarget => Rate::new(1, Minute, 10),
            // Half a pool at once.
            Self::ClaimAny => Rate::new(2, Minute, 50),
            Self::AccountChange => Rate::new(20, Minute, 20),
            Self::Export => Rate::new(3, Hour, 3),
        }
    }

    /// Its place in [`Limiter::ALL`].
    pub(crate) fn index(self) -> usize {
        Self::ALL.iter().position(|limiter| *limiter == self).unwrap_or(0)
    }
}

/// Keys that a limiter remembers unless the configuration says otherwise.
pub const KEYS_MAX: usize = 16_384;

/// The rates of all limiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    rates: [Rate; Limiter::ALL.len()],
    /// Keys that one limiter remembers at one time; beyond it fails as it says.
    pub keys_max: usize,
}

impl Default for Rates {
    fn default() -> Self {
        Self { rates: Limiter::ALL.map(Limiter::default_rate), keys_max: KEYS_MAX }
    }
}

impl Rates {
    /// The same rate for every limiter.
    pub fn uniform(rate: Rate) -> Self {
        Self { rates: Limiter::ALL.map(|_| rate), ..Self::default() }
    }

    /// The rate of a limiter.
    pub fn get(&self, limiter: Limiter) -> Rate {
        self.rates.get(limiter.index()).copied().unwrap_or_else(|| limiter.default_rate())
    }

    /// The same with another rate for one limiter.
    #[must_use]
    pub fn with(mut self, limiter: Limiter, rate: Rate) -> Self {
        if let Some(slot) = self.rates.get_mut(limiter.index()) {
            *slot = rate;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_for_operators_has_the_same_table() {
        let page = include_str!("../../../docs/operate/limits.md");
        let rows = page.lines().filter(|line| line.starts_with("| `") && line.contains("` | by "));
        let rows: Vec<Vec<_>> = rows
            .map(|line| line.trim_matches('|').split('|').map(str::trim).take(5).collect())
            .collect();
        let table: Vec<_> = Limiter::ALL
            .into_iter()
            .map(|limiter| {
                let by = match limiter.keyed_by() {
                    KeyedBy::Address => "by address",
                    KeyedBy::Account => "by account",
                    KeyedBy::Device => "by device",
                    KeyedBy::AccountAndTarget => "by account and target",
                    KeyedBy::Target => "by target",
                };
                let fails = match limiter.fails() {
                    Fails::Open => "open",
                    Fails::Closed => "closed",
                };
                let rate = limiter.default_rate();
                [
                    format!("`{}`", limiter.as_str()),
                    by.to_owned(),
                    format!("{} per {}", rate.count, rate.per.as_str()),
                    rate.burst.to_string(),
                    fails.to_owned(),
                ]
            })
            .collect();
        assert_eq!(rows, table);
    }

    #[test]
    fn what_can_be_guessed_is_counted_by_address_and_never_by_victim() {
        use Limiter::{Link, Login, Recover, Refresh, Register};
        for guessed in [Register, Login, Refresh, Recover, Link] {
            assert_eq!(guessed.keyed_by(), KeyedBy::Address, "{}", guessed.as_str());
        }
    }
}
