//! `qpc-chaos soak`: the real programs under a steady load and in peace. What they hold is sampled
//! all along, written as a table and drawn; it must be flat in the second half.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::life::Kind;
use crate::party::Party;
use crate::plot::{Curve, svg};
use crate::process::now;
use crate::sample::Held;
use crate::trend::Trend;
use crate::{Folder, check, minutes, report};

/// Those who talk all the time, and one more who comes and goes.
const CLIENTS: usize = 4;
/// Lines of a chat that are not accepted.
const WINDOW: usize = 64;
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const VISIT_EVERY: Duration = Duration::from_secs(7);
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long, minutes.
    #[arg(long, default_value = "30", value_parser = minutes)]
    minutes: Duration,
    /// Lines a second, of all together. Fewer, or a shorter time, may not fill the page caches of
    /// the databases before the second half: then memory rises with them.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Write the samples as a table.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write a picture.
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// One look at everything.
struct Sample {
    minutes: f64,
    accepted: u64,
    server: Held,
    clients: Held,
}

/// One thing that is held, and how much more of it the second half may end with.
struct Gauge {
    title: &'static str,
    of: fn(&Sample) -> u64,
    bound: Bound,
}

/// What a rise over the second half may be.
enum Bound {
    /// A share of the mean, or if that is more so much.
    Share(f64, f64),
    /// So much for each message accepted meanwhile: what is kept by intention.
    PerMessage(f64),
}

/// The server remembers ids for retention and outbox age, about 170 bytes each (decision 20), and
/// entries until all have read them; a client keeps its history.
const GAUGES: [Gauge; 8] = [
    Gauge {
        title: "server: memory, KiB",
        of: |sample| sample.server.resident_kib,
        bound: Bound::Share(0.05, 2_048.0),
    },
    Gauge {
        title: "server: file descriptors",
        of: |sample| sample.server.descriptors,
        bound: Bound::Share(0.0, 3.0),
    },
    Gauge {
        title: "server: write-ahead log, bytes",
        of: |sample| sample.server.wal,
        bound: Bound::Share(0.05, 65_536.0),
    },
    Gauge {
        title: "server: database, bytes",
        of: |sample| sample.server.database,
        bound: Bound::PerMessage(400.0),
    },
    Gauge {
        title: "three clients: memory, KiB",
        of: |sample| sample.clients.resident_kib,
        bound: Bound::Share(0.05, 6_144.0),
    },
    Gauge {
        title: "three clients: file descriptors",
        of: |sample| sample.clients.descriptors,
        bound: Bound::Share(0.0, 3.0),
    },
    Gauge {
        title: "three clients: write-ahead logs, bytes",
        of: |sample| sample.clients.wal,
        bound: Bound::Share(0.05, 65_536.0),
    },
    Gauge {
        title: "three clients: databases, bytes (they keep their history)",
        of: |sample| sample.clients.database,
        bound: Bound::PerMessage(3.0 * 1_500.0),
    },
];

/// Runs, checks and prints; whether everything held and was flat.
///
/// # Errors
/// When something could not be run, read or written.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let mut folder = Folder::new()?;
    let mut party = Party::new(&folder.path()?, (CLIENTS, 1))?;
    let samples = load(&mut party, arguments)?;
    if let Some(path) = &arguments.csv {
        std::fs::write(path, table(&samples)).context("writing the table")?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture(&samples, arguments)).context("writing the picture")?;
    }
    let flat = judge(&samples)?;
    party.end_all()?;
    check::settle(&mut party)?;
    let messages = check::judge(&mut party)?;
    party.server.stop()?;
    let held = report::verdict(&party.ledger, messages) && flat;
    if !held && let Some(kept) = folder.keep() {
        report::line(&format!("kept: {}", kept.display()));
    }
    Ok(held)
}

fn load(party: &mut Party, arguments: &Arguments) -> Result<Vec<Sample>> {
    let talkers = CLIENTS.saturating_sub(1);
    for at in 0..talkers {
        party.chat(at, 0)?;
    }
    let (start, mut samples) = (now(), Vec::new());
    let (mut next_sample, mut next_visit) = (start, start);
    let (mut fed, mut turn) = (0_u32, 0_usize);
    let until = start + arguments.minutes;
    while now() < until {
        party.listen(now() + TICK)?;
        party.reap()?;
        let due = start.elapsed().as_secs_f64() * f64::from(arguments.rate);
        // Whoever is not ready passes its turn: the load is what the machine takes of the rate.
        for _ in 0..talkers {
            if f64::from(fed) >= due {
                break;
            }
            turn = turn.wrapping_add(1);
            fed = fed.saturating_add(u32::from(party.feed(turn % talkers, WINDOW)));
        }
        let visitor = party.clients.get(talkers).context("no visitor")?;
        if now() >= next_visit && visitor.life.is_none() {
            party.start(talkers, (Kind::Command, &["recv"]))?;
            next_visit = now() + VISIT_EVERY;
        }
        if now() >= next_sample {
            samples.push(sample(party, (start, talkers))?);
            next_sample += SAMPLE_EVERY;
            progress(&samples);
        }
    }
    Ok(samples)
}

fn sample(party: &Party, (start, talkers): (Instant, usize)) -> Result<Sample> {
    let server = party.server.process().context("the server is down")?;
    let server = Held::of(server.id(), &party.server.database()?)?;
    let mut clients = Held::default();
    for client in party.clients.iter().take(talkers) {
        let life = client.life.as_ref().context("a chat has ended")?;
        clients = clients.and(Held::of(life.process.id(), &client.person.database())?);
    }
    let accepted = u64::try_from(party.ledger.accepted.len())?;
    Ok(Sample { minutes: start.elapsed().as_secs_f64() / 60.0, accepted, server, clients })
}

/// A line a minute.
fn progress(samples: &[Sample]) {
    if samples.len() % 12 == 1
        && let Some(Sample { minutes, accepted, server, clients }) = samples.last()
    {
        report::line(&format!(
            "{minutes:>5.1} min: {accepted} accepted; server {} KiB, {} files, database {} KiB, \
             log {} KiB; clients {} KiB",
            server.resident_kib,
            server.descriptors,
            server.database / 1_024,
            server.wal / 1_024,
            clients.resident_kib
        ));
    }
}

/// Counts of this size are exact.
#[expect(clippy::cast_precision_loss, reason = "sizes and counts are far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Whether every gauge is flat in the second half.
fn judge(samples: &[Sample]) -> Result<bool> {
    let trend = |of: fn(&Sample) -> u64| {
        let series: Vec<_> = samples.iter().map(|s| (s.minutes, float(of(s)))).collect();
        Trend::of_second_half(&series).context("too few samples")
    };
    let messages = trend(|sample| sample.accepted)?.rise;
    report::line(&format!("\nthe second half, {messages:.0} messages; mean, rise, allowed"));
    let mut flat = true;
    for gauge in &GAUGES {
        let Trend { mean, rise } = trend(gauge.of)?;
        let allowed = match gauge.bound {
            Bound::Share(share, least) => least.max(share * mean),
            Bound::PerMessage(bytes) => bytes * messages,
        };
        let verdict = if rise <= allowed { "" } else { "  GROWS" };
        flat &= rise <= allowed;
        let title = gauge.title;
        report::line(&format!("{mean:>14.0} {rise:>12.0} {allowed:>12.0}  {title}{verdict}"));
    }
    let written = trend(|sample| sample.server.written)?.rise / messages;
    report::line(&format!("bytes the server wrote to disk for each message: {written:.0}"));
    Ok(flat)
}

fn table(samples: &[Sample]) -> String {
    let mut out = String::from("minutes,accepted");
    for side in ["server", "clients"] {
        for what in ["resident_kib", "descriptors", "database", "wal", "written"] {
            out.push_str(&format!(",{side}_{what}"));
        }
    }
    for Sample { minutes, accepted, server, clients } in samples {
        out.push_str(&format!("\n{minutes:.3},{accepted}"));
        for held in [server, clients] {
            let Held { resident_kib, descriptors, database, wal, written } = held;
            out.push_str(&format!(",{resident_kib},{descriptors},{database},{wal},{written}"));
        }
    }
    out.push('\n');
    out
}

fn picture(samples: &[Sample], arguments: &Arguments) -> String {
    let points: Vec<Vec<(f64, f64)>> = GAUGES
        .iter()
        .map(|gauge| samples.iter().map(|s| (s.minutes, float((gauge.of)(s)))).collect())
        .collect();
    let curves: Vec<Curve<'_>> = GAUGES
        .iter()
        .zip(&points)
        .map(|(gauge, points)| Curve { title: gauge.title, points })
        .collect();
    let minutes = arguments.minutes.as_secs_f64() / 60.0;
    let heading =
        format!("qpc-chaos soak: {minutes:.0} minutes, {} messages a second", arguments.rate);
    svg(&heading, &curves)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..100)
            .map(|at| Sample {
                minutes: float(at),
                accepted: at * 10,
                server: Held { resident_kib: memory(at), ..Held::default() },
                clients: Held::default(),
            })
            .collect()
    }

    #[test]
    fn what_grows_all_along_is_not_flat() {
        assert!(judge(&samples(|_| 50_000)).unwrap());
        assert!(judge(&samples(|at| 50_000 + at.min(40) * 1_000)).unwrap());
        assert!(!judge(&samples(|at| 50_000 + at * 1_000)).unwrap());
    }

    #[test]
    fn the_table_has_a_line_for_each_sample() {
        let table = table(&samples(|_| 7));
        assert_eq!(table.lines().count(), 101);
        let columns = |line: Option<&str>| line.unwrap().split(',').count();
        assert_eq!(columns(table.lines().next()), columns(table.lines().last()));
    }
}
