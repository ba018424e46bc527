//! What one seed's run may have, and what operation comes at each number: drawn from the seed and
//! the number alone, never from what happened before.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};

use super::kind::{FEATURES, Feature, KINDS, Kind};
use super::lying::CLIENTS as CLIENTS_OF_A_LIAR;

/// Clients of a world, at least.
const CLIENTS_MIN: u64 = 2;
/// Kinds of numbers of clients: up to four.
const CLIENTS_KINDS: u64 = 3;

/// The generators of a seed, by what they decide. That of operation n is `OPERATIONS + n`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Profile,
    Peace,
    Operation(u32),
}

/// A generator of its own for each purpose, so that nothing shifts when something is left out.
pub(crate) fn stream(seed: u64, of: Stream) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 is the world's own: keys, names, what registration draws.
    rng.set_stream(match of {
        Stream::Profile => 1,
        Stream::Peace => 2,
        Stream::Operation(number) => u64::from(number).saturating_add(16),
    });
    rng
}

/// How long before this machine's time a run begins in which days pass.
const EARLIER_MS: u64 = 40 * 24 * 3_600_000;

/// The same, where open verdicts must fall; the hostile member's clock is this machine's, and its
/// KeyPackages begin a day before that.
const EARLIER_HOSTILE_MS: u64 = 20 * 3_600_000;

/// What a run may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Clients at the beginning.
    pub(crate) clients: usize,
    /// What may happen.
    pub(crate) features: BTreeSet<Feature>,
    /// Kinds that may come, and up to which of the numbers below the last each is drawn.
    weights: Vec<(Kind, u64)>,
}

impl Profile {
    /// That of a seed.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = stream(seed, Stream::Profile);
        let mut below = |bound: u64| rng.next_u64().checked_rem(bound).unwrap_or(0);
        let clients = CLIENTS_MIN.saturating_add(below(CLIENTS_KINDS));
        let in_it = |(_, percent): &(Feature, u64)| below(100) < *percent;
        let mut features: BTreeSet<Feature> =
            FEATURES.iter().copied().filter(in_it).map(|(feature, _)| feature).collect();
        if features.contains(&Feature::Liar) {
            // Honest members under a lying server, and nothing else.
            features = [Feature::Liar].into();
        }
        let clients = match features.contains(&Feature::Liar) {
            true => CLIENTS_OF_A_LIAR,
            false => usize::try_from(clients).unwrap_or(CLIENTS_OF_A_LIAR),
        };
        if features.contains(&Feature::Hostile) {
            // What a hostile member does to who is away for days, or comes back from a copy, has no
            // bound yet that could be checked: docs/security/known-limits.md.
            for apart in [Feature::Days, Feature::Copies, Feature::Backups] {
                features.remove(&apart);
            }
        }
        let mut weights = Vec::new();
        let mut upto = 0_u64;
        for (kind, _, weight, feature) in KINDS {
            if feature.is_none_or(|feature| features.contains(&feature)) {
                upto = upto.saturating_add(weight.into());
                weights.push((kind, upto));
            }
        }
        Self { clients, features, weights }
    }

    /// The operation of a number, and the generator that everything else about it draws from.
    pub(crate) fn operation(&self, (seed, number): (u64, u32)) -> (Kind, ChaCha8Rng) {
        let mut rng = stream(seed, Stream::Operation(number));
        let all = self.weights.last().map_or(1, |(_, upto)| *upto);
        let drawn = rng.next_u64().checked_rem(all).unwrap_or(0);
        let kind = self.weights.iter().find(|(_, upto)| drawn < *upto);
        (kind.map_or(Kind::Tick, |(kind, _)| *kind), rng)
    }

    /// How long before this machine's time it begins.
    pub(crate) fn earlier_ms(&self) -> u64 {
        match (self.has(Feature::Days), self.has(Feature::Hostile)) {
            (true, _) => EARLIER_MS,
            (false, true) => EARLIER_HOSTILE_MS,
            (false, false) => 0,
        }
    }

    /// Whether some may have to be taken in again, which takes hours.
    pub(crate) fn needs_hours(&self) -> bool {
        self.has(Feature::Days) || self.has(Feature::Copies) || self.has(Feature::Backups)
    }

    /// Whether it has a feature.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_comes_and_is_missing() {
        let profiles: Vec<Profile> = (0..200).map(Profile::draw).collect();
        for (feature, _) in FEATURES.into_iter().filter(|(_, percent)| *percent > 0) {
            let with = profiles.iter().filter(|profile| profile.has(feature)).count();
            assert!((1..200).contains(&with), "{feature:?}: {with}");
        }
    }

    #[test]
    fn an_operation_depends_on_seed_and_number_alone() {
        let profile = Profile::draw(5);
        let kinds = |from: u32| -> Vec<Kind> {
            (from..100).map(|number| profile.operation((5, number)).0).collect()
        };
        assert_eq!(kinds(0)[50..], kinds(50)[..]);
        let mut rngs = [3, 4].map(|number| profile.operation((5, number)).1);
        assert_ne!(rngs[0].next_u64(), rngs[1].next_u64());
    }
}
