//! What a network does to datagrams, decided by a seed: loss, duplication, reordering, delay,
//! corruption, a small MTU, directions that are cut. Touches no socket.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::RngCore as _;

/// A random number below `bound` (0 for 0).
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64().checked_rem(bound).unwrap_or(0)
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// What befalls datagrams for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Calm,
    /// Of a hundred so many vanish.
    Loss(u64),
    /// Of a hundred so many arrive twice.
    Duplication(u64),
    /// Of a hundred so many arrive up to 80 ms late, behind others.
    Reordering(u64),
    /// All are late by as many milliseconds.
    Delay(u64),
    /// Of a hundred so many have a byte changed.
    Corruption(u64),
    /// Longer ones vanish.
    Mtu(usize),
    /// One way or both lead nowhere.
    Blackhole { up: bool, down: bool },
    /// Some of everything.
    Storm,
}

/// The longest that a reordered datagram is held, ms.
const HELD_MS: u64 = 80;

impl Weather {
    /// Draws any but calm. Below 1,200 bytes QUIC does not work at all (RFC 9000 section 14).
    pub(crate) fn draw(rng: &mut ChaCha8Rng) -> Self {
        match below(rng, 8) {
            0 => Self::Loss(5 + below(rng, 30)),
            1 => Self::Duplication(10 + below(rng, 50)),
            2 => Self::Reordering(10 + below(rng, 50)),
            3 => Self::Delay(20 + below(rng, 380)),
            4 => Self::Corruption(2 + below(rng, 20)),
            5 => Self::Mtu([1_200, 1_252, 1_300, 1_400].get(draw4(rng)).copied().unwrap_or(1_200)),
            6 => match below(rng, 3) {
                0 => Self::Blackhole { up: true, down: false },
                1 => Self::Blackhole { up: false, down: true },
                _ => Self::Blackhole { up: true, down: true },
            },
            _ => Self::Storm,
        }
    }

    /// What it is called in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Loss(_) => "loss",
            Self::Duplication(_) => "duplication",
            Self::Reordering(_) => "reordering",
            Self::Delay(_) => "delay",
            Self::Corruption(_) => "corruption",
            Self::Mtu(_) => "small MTU",
            Self::Blackhole { .. } => "blackhole",
            Self::Storm => "storm",
        }
    }

    /// What becomes of a datagram of `len` bytes.
    pub(crate) fn fate(self, rng: &mut ChaCha8Rng, (way, len): (Way, usize)) -> Fate {
        let mut fate = Fate::default();
        let percent = |rng: &mut ChaCha8Rng, share: u64| below(rng, 100) < share;
        match self {
            Self::Calm => {}
            Self::Loss(share) => fate.lost = percent(rng, share).then_some(Cause::Loss),
            Self::Duplication(share) => fate.twice = percent(rng, share),
            Self::Reordering(share) => fate.hold(rng, share),
            Self::Delay(ms) => fate.late = Duration::from_millis(ms),
            Self::Corruption(share) => fate.corrupt(rng, (share, len)),
            Self::Mtu(bytes) => fate.lost = (len > bytes).then_some(Cause::Mtu),
            Self::Blackhole { up, down } => {
                let cut = if way == Way::Up { up } else { down };
                fate.lost = cut.then_some(Cause::Blackhole);
            }
            Self::Storm => {
                fate.lost = percent(rng, 10).then_some(Cause::Loss);
                fate.twice = percent(rng, 10);
                fate.corrupt(rng, (5, len));
                fate.hold(rng, 25);
            }
        }
        fate
    }
}

fn draw4(rng: &mut ChaCha8Rng) -> usize {
    usize::try_from(below(rng, 4)).unwrap_or(0)
}

/// Why a datagram vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Loss,
    Mtu,
    Blackhole,
}

/// What becomes of one datagram.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) lost: Option<Cause>,
    pub(crate) twice: bool,
    pub(crate) late: Duration,
    /// Whether it is late for itself, so that others pass it.
    pub(crate) passed: bool,
    /// Which byte changes, and by what (never 0).
    pub(crate) changed: Option<(usize, u8)>,
}

impl Fate {
    fn hold(&mut self, rng: &mut ChaCha8Rng, share: u64) {
        self.passed = below(rng, 100) < share;
        if self.passed {
            self.late = Duration::from_millis(1 + below(rng, HELD_MS));
        }
    }

    fn corrupt(&mut self, rng: &mut ChaCha8Rng, (share, len): (u64, usize)) {
        if below(rng, 100) < share {
            let at = below(rng, u64::try_from(len).unwrap_or(0));
            let by = u8::try_from(1 + below(rng, 255)).unwrap_or(1);
            self.changed = usize::try_from(at).ok().map(|at| (at, by));
        }
    }
}

/// Datagrams by what befell them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) seen: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) delayed: u64,
    pub(crate) corrupted: u64,
    pub(crate) too_long: u64,
    pub(crate) swallowed: u64,
    pub(crate) rebindings: u64,
}

impl Tally {
    /// Counts a datagram.
    pub(crate) fn note(&mut self, fate: &Fate) {
        let add = |count: &mut u64, happened: bool| {
            *count = count.saturating_add(u64::from(happened));
        };
        add(&mut self.seen, true);
        add(&mut self.lost, fate.lost == Some(Cause::Loss));
        add(&mut self.too_long, fate.lost == Some(Cause::Mtu));
        add(&mut self.swallowed, fate.lost == Some(Cause::Blackhole));
        let arrives = fate.lost.is_none();
        add(&mut self.doubled, arrives && fate.twice);
        add(&mut self.corrupted, arrives && fate.changed.is_some());
        add(&mut self.reordered, arrives && fate.passed);
        add(&mut self.delayed, arrives && !fate.passed && !fate.late.is_zero());
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.seen, other.seen),
            (&mut self.lost, other.lost),
            (&mut self.doubled, other.doubled),
            (&mut self.reordered, other.reordered),
            (&mut self.delayed, other.delayed),
            (&mut self.corrupted, other.corrupted),
            (&mut self.too_long, other.too_long),
            (&mut self.swallowed, other.swallowed),
            (&mut self.rebindings, other.rebindings),
        ];
        for (own, others) in pairs {
            *own = own.saturating_add(others);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    fn fates(weather: Weather, way: Way, len: usize) -> Vec<Fate> {
        let mut rng = rng();
        (0..1_000).map(|_| weather.fate(&mut rng, (way, len))).collect()
    }

    #[test]
    fn a_seed_decides_every_fate() {
        for weather in [Weather::Storm, Weather::Loss(30), Weather::Reordering(30)] {
            assert_eq!(fates(weather, Way::Up, 1_200), fates(weather, Way::Up, 1_200));
        }
    }

    #[test]
    fn each_weather_does_what_it_is_called_by_and_nothing_else() {
        let tally = |weather, way, len| {
            let mut tally = Tally::default();
            fates(weather, way, len).iter().for_each(|fate| tally.note(fate));
            tally
        };
        let calm = Tally { seen: 1_000, ..Tally::default() };
        assert_eq!(tally(Weather::Calm, Way::Up, 1_200), calm);
        let lost = tally(Weather::Loss(30), Way::Up, 1_200);
        assert_eq!(Tally { lost: 0, ..lost }, calm);
        assert!((200..400).contains(&lost.lost), "{lost:?}");
        let doubled = tally(Weather::Duplication(50), Way::Down, 60);
        assert!((400..600).contains(&doubled.doubled), "{doubled:?}");
        let delayed = tally(Weather::Delay(9), Way::Down, 60);
        assert_eq!(delayed, Tally { delayed: 1_000, ..calm });
        assert_eq!(tally(Weather::Mtu(1_200), Way::Up, 1_200), calm);
        assert_eq!(tally(Weather::Mtu(1_200), Way::Up, 1_201).too_long, 1_000);
        let one_way = Weather::Blackhole { up: true, down: false };
        assert_eq!(tally(one_way, Way::Up, 60).swallowed, 1_000);
        assert_eq!(tally(one_way, Way::Down, 60), calm);
        for fate in fates(Weather::Corruption(100), Way::Up, 7) {
            let (at, by) = fate.changed.unwrap();
            assert!(at < 7 && by != 0);
        }
    }
}
