//! The numbers of a round by name, and which of them are judged. Measures nothing.

use super::round::Round;
use crate::sides::{Bound, Column};

/// What the ratios must keep to; `None` is not judged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) cpu_at_most: Option<f64>,
    pub(super) throughput_at_least: Option<f64>,
    pub(super) p50_at_most: Option<f64>,
    pub(super) p99_at_most: Option<f64>,
}

impl Bounds {
    /// All columns.
    pub(super) fn columns(&self) -> Vec<Column<Round>> {
        let throughput = self.throughput_at_least.map(Bound::AtLeast);
        let p50 = self.p50_at_most.map(Bound::AtMost);
        let p99 = self.p99_at_most.map(Bound::AtMost);
        let cpu = self.cpu_at_most.map(Bound::AtMost);
        let of = |name, of: fn(&Round) -> f64, bound| Column { name, of, bound };
        vec![
            of("accepted/s", |r| r.accepted_per_second, throughput),
            of("delivered/s", |r| r.delivered_per_second, throughput),
            of("accept p50 µs", |r| r.accept.p50_us, p50),
            of("accept p90 µs", |r| r.accept.p90_us, None),
            of("accept p99 µs", |r| r.accept.p99_us, p99),
            of("accept max µs", |r| r.accept.max_us, None),
            of("delivery p50 µs", |r| r.delivery.p50_us, p50),
            of("delivery p90 µs", |r| r.delivery.p90_us, None),
            of("delivery p99 µs", |r| r.delivery.p99_us, p99),
            of("delivery max µs", |r| r.delivery.max_us, None),
            of("CPU µs/message", |r| r.cpu_us, cpu),
            of("written B/message", |r| r.written, None),
            of("memory KiB", |r| r.resident_kib, None),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Quantiles;
    use crate::sides::Report;

    fn round(per_second: f64, us: f64) -> Round {
        let quantiles = Quantiles { p50_us: us, p90_us: us, p99_us: us, max_us: us };
        Round {
            accepted_per_second: per_second,
            delivered_per_second: per_second,
            accept: quantiles,
            delivery: quantiles,
            cpu_us: us,
            written: us,
            resident_kib: 1_024.0,
        }
    }

    #[test]
    fn each_bound_judges_its_columns() {
        let rounds = [(round(1_000.0, 100.0), round(600.0, 160.0))];
        let within = |bounds: Bounds| {
            Report::new("messages", &rounds, &bounds.columns()).unwrap().is_within()
        };
        let none = Bounds::default();
        assert!(within(none));
        assert!(within(Bounds { throughput_at_least: Some(0.6), ..none }));
        assert!(!within(Bounds { throughput_at_least: Some(0.61), ..none }));
        assert!(within(Bounds { cpu_at_most: Some(1.6), ..none }));
        assert!(!within(Bounds { cpu_at_most: Some(1.59), ..none }));
        assert!(!within(Bounds { p50_at_most: Some(1.5), ..none }));
        assert!(!within(Bounds { p99_at_most: Some(1.5), ..none }));
    }
}
