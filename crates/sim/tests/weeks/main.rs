//! Weeks of four devices in minutes: they write, stay away, renew what ages; the server sweeps.
//! Everything said is shown once, and what either side keeps stops growing. Simulates no faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "Clippy excuses test functions, not the functions they share"
)]

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod life;
#[cfg(test)]
mod tables;

#[cfg(test)]
mod tests {
    use super::life::{Life, Pace};

    /// Each half week, and then now and then.
    #[test]
    fn nothing_grows_over_six_weeks_and_a_renewal() {
        let mut life = Life::begin(Pace { step_hours: 84, days: 42, later_days: 160 });
        life.weeks();
        life.until_renewal();
    }

    #[test]
    #[ignore = "minutes: each six hours of twelve weeks, then each four weeks of two years"]
    fn nothing_grows_over_twelve_weeks_and_a_renewal() {
        let mut life = Life::begin(Pace { step_hours: 6, days: 84, later_days: 28 });
        life.weeks();
        life.until_renewal();
    }
}
