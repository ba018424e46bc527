//! Whether a series is flat: the least-squares line through its second half. Knows no unit.

/// A straight line through a series of (time, value).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Trend {
    /// The mean value.
    pub(crate) mean: f64,
    /// How much the line rises from the first to the last time.
    pub(crate) rise: f64,
}

impl Trend {
    /// Over the second half of a series that is sorted by time. `None` for fewer than 4 points, or
    /// when no time passes.
    pub(crate) fn of_second_half(series: &[(f64, f64)]) -> Option<Self> {
        let half = series.get(series.len() / 2..).filter(|half| half.len() > 1)?;
        let count = half.iter().fold(0.0, |count, _| count + 1.0);
        let mean = |of: fn(&(f64, f64)) -> f64| half.iter().map(of).sum::<f64>() / count;
        let (mean_time, mean) = (mean(|(time, _)| *time), mean(|(_, value)| *value));
        let products = half.iter().map(|(time, value)| (time - mean_time) * (value - mean));
        let squares = half.iter().map(|(time, _)| (time - mean_time).powi(2));
        let (products, squares) = (products.sum::<f64>(), squares.sum::<f64>());
        let span = half.last()?.0 - half.first()?.0;
        (squares > 0.0).then(|| Self { mean, rise: products / squares * span })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(of: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..100).map(f64::from).map(|time| (time, of(time))).collect()
    }

    #[test]
    fn a_line_is_found_again() {
        let trend = Trend::of_second_half(&series(|time| 3.0 + 2.0 * time)).unwrap();
        assert!((trend.rise - 98.0).abs() < 1e-9, "{trend:?}");
        assert!((trend.mean - 152.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn what_rose_in_the_first_half_only_is_flat() {
        let trend = Trend::of_second_half(&series(|time| time.min(40.0))).unwrap();
        assert!(trend.rise.abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn a_saw_rises_by_a_quarter_of_its_teeth_at_most() {
        let trend = Trend::of_second_half(&series(|time| time % 10.0)).unwrap();
        assert!(trend.rise.abs() < 9.0 / 4.0, "{trend:?}");
        assert_eq!(Trend::of_second_half(&[(0.0, 1.0), (0.0, 2.0)]), None);
    }
}
