//! Counts requests: by address before login, by account and device after it, and some by what they
//! ask for. One look-up for each limiter that a request meets.
//!
//! Knows no token: who is logged in is told by the connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use governor::Quota;
use governor::clock::Clock as _;
use qpc_proto::message::{DeviceRef, Method, Request};
use qpc_proto::{AccountId, DeviceId, ErrorBody, ErrorCode};

use super::{Bounded, Counts, KeyedBy, Limiter, Network, Period, Rate, Rates, Ticks};
use crate::access::{counts_for_account, limiters};

/// The longest wait that a refusal asks for, in milliseconds.
const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
/// Milliseconds between two attempts to make room in a full limiter.
const MAKE_ROOM_EVERY_MS: u64 = 1_000;

/// What one count belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Address(Network),
    Account(AccountId),
    Device(DeviceId),
    Pair(AccountId, AccountId),
}

/// A request as limits see it.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) method: Method,
    /// Where the connection was accepted from.
    pub(crate) address: IpAddr,
    /// Who has logged in on it.
    pub(crate) device: Option<DeviceRef>,
    /// The request's body; only a claim's is read.
    pub(crate) body: &'a Bytes,
}

/// One limiter with its counts.
#[derive(Debug)]
struct Counted {
    limiter: Limiter,
    counts: Counts<Key>,
    full: Arc<AtomicBool>,
    room_made_ms: AtomicU64,
}

/// All limiters of a server.
#[derive(Debug)]
pub(crate) struct Limiters {
    counted: [Counted; Limiter::ALL.len()],
    ticks: Ticks,
}

impl Limiters {
    pub(crate) fn new(rates: &Rates, ticks: &Ticks) -> Self {
        let counted = Limiter::ALL.map(|limiter| {
            let store = Bounded::new(rates.keys_max, limiter.fails());
            Counted {
                limiter,
                full: store.full(),
                counts: Counts::new(quota(rates.get(limiter)), store, ticks.clone()),
                room_made_ms: AtomicU64::new(0),
            }
        });
        Self { counted, ticks: ticks.clone() }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The limiter that refuses it, and the milliseconds until it would not.
    pub(crate) fn check(&self, asking: &Asking<'_>) -> Result<(), (Limiter, u64)> {
        match asking.device {
            None => self.count(Limiter::Address, Key::Address(Network::of(asking.address)))?,
            Some(device) => {
                self.count(Limiter::Device, Key::Device(device.device))?;
                if counts_for_account(asking.method) {
                    self.count(Limiter::Account, Key::Account(device.account))?;
                }
            }
        }
        for limiter in limiters(asking.method) {
            if let Some(key) = key(*limiter, asking) {
                self.count(*limiter, key)?;
            }
        }
        Ok(())
    }

    /// Forgets whoever owes nothing.
    pub(crate) fn sweep(&self) {
        for counted in &self.counted {
            counted.counts.retain_recent();
            counted.counts.shrink_to_fit();
        }
    }

    /// How many keys each limiter remembers.
    pub(crate) fn remembered(&self) -> impl Iterator<Item = (Limiter, usize)> {
        self.counted.iter().map(|counted| (counted.limiter, counted.counts.len()))
    }

    fn count(&self, limiter: Limiter, key: Key) -> Result<(), (Limiter, u64)> {
        let Some(counted) = self.counted.get(limiter.index()) else {
            return Ok(());
        };
        let checked = counted.counts.check_key(&key);
        if counted.full.load(Ordering::Relaxed) {
            counted.make_room(self.ticks.passed_ms());
        }
        checked.map_err(|until| {
            let wait = until.wait_time_from(self.ticks.now());
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
            (limiter, wait_ms.min(RETRY_AFTER_MS_MAX))
        })
    }
}

impl Counted {
    /// Forgets whoever owes nothing, if that was not tried just before.
    fn make_room(&self, now_ms: u64) {
        let due = self.room_made_ms.load(Ordering::Relaxed);
        if now_ms >= due
            && self
                .room_made_ms
                .compare_exchange(
                    due,
                    now_ms.saturating_add(MAKE_ROOM_EVERY_MS),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            self.full.store(false, Ordering::Relaxed);
            self.counts.retain_recent();
        }
    }
}

/// What `limiter` counts this request by; none if it does not apply.
fn key(limiter: Limiter, asking: &Asking<'_>) -> Option<Key> {
    let account = asking.device.map(|device| device.account);
    match limiter.keyed_by() {
        KeyedBy::Address => Some(Key::Address(Network::of(asking.address))),
        KeyedBy::Account => account.map(Key::Account),
        KeyedBy::Device => asking.device.map(|device| Key::Device(device.device)),
        KeyedBy::Target => other_target(asking).map(Key::Account),
        KeyedBy::AccountAndTarget => {
            account.zip(other_target(asking)).map(|(a, b)| Key::Pair(a, b))
        }
    }
}

/// The other account that a request asks about; a malformed one is refused later. Who brings the
/// own devices into all of its channels is a victim of nobody.
fn other_target(asking: &Asking<'_>) -> Option<AccountId> {
    match Request::decode(asking.method, asking.body.clone()) {
        Ok(Request::ClaimKeyPackages(claim)) => Some(claim.account)
            .filter(|target| asking.device.is_none_or(|device| device.account != *target)),
        Ok(_) | Err(_) => None,
    }
}

/// What a refused request is answered with.
pub(crate) fn refusal(wait_ms: u64) -> ErrorBody {
    let mut body = ErrorBody::new(
        ErrorCode::RateLimited,
        "too many requests; wait for the time given before the next",
    );
    body.retry_after_ms = Some(wait_ms);
    body
}

fn quota(rate: Rate) -> Quota {
    let quota = match rate.per {
        Period::Second => Quota::per_second(rate.count),
        Period::Minute => Quota::per_minute(rate.count),
        Period::Hour => Quota::per_hour(rate.count),
    };
    quota.allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const EMPTY: Bytes = Bytes::new();

    struct Rig {
        clock: Arc<AtomicU64>,
        limiters: Limiters,
    }

    fn rig(keys_max: usize) -> Rig {
        let clock = Arc::new(AtomicU64::new(1));
        let read = Arc::clone(&clock);
        let ticks = Ticks::new(Arc::new(move || read.load(Ordering::SeqCst)));
        let mut rates = Rates::uniform(Rate::new(1, Period::Second, 2));
        rates.keys_max = keys_max;
        Rig { clock, limiters: Limiters::new(&rates, &ticks) }
    }

    impl Rig {
        fn ask(&self, method: Method, from: u32) -> Result<(), (Limiter, u64)> {
            let address = Ipv4Addr::from_bits(from).into();
            self.limiters.check(&Asking { method, address, device: None, body: &EMPTY })
        }

        fn remembered(&self, limiter: Limiter) -> usize {
            let found = self.limiters.remembered().find(|(known, _)| *known == limiter);
            found.unwrap().1
        }
    }

    #[test]
    fn a_refusal_says_when_the_next_request_passes() {
        let rig = rig(10);
        for _ in 0..2 {
            rig.ask(Method::ServerInfo, 1).unwrap();
        }
        let (limiter, wait_ms) = rig.ask(Method::ServerInfo, 1).unwrap_err();
        assert_eq!((limiter, wait_ms), (Limiter::Address, 1_001));
        rig.clock.fetch_add(wait_ms - 2, Ordering::SeqCst);
        rig.ask(Method::ServerInfo, 1).unwrap_err();
        rig.clock.fetch_add(2, Ordering::SeqCst);
        rig.ask(Method::ServerInfo, 1).unwrap();
        assert_eq!(refusal(wait_ms).retry_after_ms, Some(1_001));
    }

    #[test]
    fn a_full_limiter_fails_as_it_says_and_never_grows() {
        let rig = rig(100);
        // Everybody owes something, so nobody is forgotten.
        for from in 0..100 {
            rig.ask(Method::Recover, from).unwrap();
        }
        for from in 100..10_000 {
            // Its address passes uncounted, its recovery does not.
            let (limiter, wait_ms) = rig.ask(Method::Recover, from).unwrap_err();
            assert_eq!((limiter, wait_ms), (Limiter::Recover, RETRY_AFTER_MS_MAX));
        }
        assert_eq!([Limiter::Address, Limiter::Recover].map(|l| rig.remembered(l)), [100, 100]);
        // Those known are judged as ever.
        rig.ask(Method::Recover, 7).unwrap();
        rig.ask(Method::Recover, 7).unwrap_err();
        // Room is made soon after somebody owes nothing any more.
        rig.clock.fetch_add(2_001, Ordering::SeqCst);
        rig.ask(Method::Recover, 10_000).unwrap_err();
        rig.ask(Method::Recover, 10_000).unwrap();
    }

    #[test]
    fn a_sweep_forgets_whoever_owes_nothing() {
        let rig = rig(1_000);
        for from in 0..500 {
            rig.ask(Method::Login, from).unwrap();
        }
        rig.limiters.sweep();
        assert_eq!(rig.remembered(Limiter::Login), 500);
        rig.clock.fetch_add(60_000, Ordering::SeqCst);
        rig.limiters.sweep();
        assert_eq!(rig.remembered(Limiter::Login), 0);
    }
}
