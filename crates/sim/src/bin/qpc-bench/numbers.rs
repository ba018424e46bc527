//! Medians and quantiles. Prints nothing.

use std::time::Duration;

/// The middle one, or the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied()?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(middle.checked_sub(1)?).map(|lower| f64::midpoint(*lower, upper))
}

/// How long most of many things took, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Quantiles {
    /// `None` of nothing. A quantile is a time that was measured: the smallest one that so many
    /// of the times do not exceed.
    pub(crate) fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = times.len().checked_mul(percent)?.div_ceil(100);
            times.get(rank.checked_sub(1)?).map(|time| time.as_secs_f64() * 1e6)
        };
        Some(Self { p50_us: at(50)?, p90_us: at(90)?, p99_us: at(99)?, max_us: at(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let found = Quantiles::of(times).unwrap();
        let expected = Quantiles { p50_us: 100.0, p90_us: 180.0, p99_us: 198.0, max_us: 200.0 };
        for (found, expected) in [
            (found.p50_us, expected.p50_us),
            (found.p90_us, expected.p90_us),
            (found.p99_us, expected.p99_us),
            (found.max_us, expected.max_us),
        ] {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(Quantiles::of(Vec::new()), None);
    }
}
