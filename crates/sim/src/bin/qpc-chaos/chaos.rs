//! The run under faults: who is killed, stopped, cut off or moved, and when, by a seed. The real
//! programs decide what they are doing at that moment, so a seed repeats the faults, not the run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use crate::life::Kind;
use crate::party::{CLIENTS_MAX, Party};
use crate::process::now;
use crate::weather::{Tally, Weather, below};
use crate::{Folder, check, minutes, report};

/// Between two looks at everything.
const TICK: Duration = Duration::from_millis(20);
/// Lines of a chat that are not accepted.
const WINDOW: usize = 6;
/// A chat that may send is given a line once in so many ticks, by chance.
const LINE_IN_TICKS: u64 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long faults happen, minutes; getting everybody to rest comes on top.
    #[arg(long, default_value = "5", value_parser = minutes)]
    minutes: Duration,
    /// Decides faults and lines.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many clients.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=6))]
    clients: u8,
}

/// Runs, checks and prints; whether everything held.
///
/// # Errors
/// When something could not be run or judged.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let clients = usize::from(arguments.clients).min(CLIENTS_MAX);
    let mut folder = Folder::new()?;
    let outcome = Party::new(&folder.path()?, (clients, arguments.seed)).and_then(|party| {
        let mut director = Director::new(party, arguments);
        director.play(arguments.minutes)?;
        director.close()
    });
    let held = matches!(outcome, Ok(true));
    if !held && let Some(kept) = folder.keep() {
        report::line(&format!("kept: {}", kept.display()));
        report::line(&format!(
            "repeat the faults: qpc-chaos --minutes {} --seed {} --clients {clients}",
            arguments.minutes.as_secs_f64() / 60.0,
            arguments.seed
        ));
    }
    outcome
}

struct Director {
    party: Party,
    rng: ChaCha8Rng,
    /// Faults and other events by kind.
    done: BTreeMap<&'static str, u64>,
    next_fault: Instant,
    server_wakes: Option<Instant>,
    /// The server is killed and comes back then.
    server_returns: Option<Instant>,
    started: Instant,
    told: Duration,
}

impl Director {
    fn new(party: Party, arguments: &Arguments) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(arguments.seed);
        let (done, started) = (BTreeMap::new(), now());
        let (next_fault, told) = (started + Duration::from_secs(2), Duration::ZERO);
        let (server_wakes, server_returns) = (None, None);
        Self { party, rng, done, next_fault, server_wakes, server_returns, started, told }
    }

    fn below(&mut self, bound: u64) -> u64 {
        below(&mut self.rng, bound)
    }

    fn count(&mut self, what: &'static str) {
        let count = self.done.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    /// A moment between `least` and `most` milliseconds from now.
    fn soon(&mut self, least: u64, most: u64) -> Instant {
        let span = self.below(most.saturating_sub(least).saturating_add(1));
        now() + Duration::from_millis(least.saturating_add(span))
    }

    /// Faults for a while.
    fn play(&mut self, long: Duration) -> Result<()> {
        let until = now() + long;
        while now() < until {
            self.party.listen(now() + TICK)?;
            self.party.reap()?;
            self.end_what_is_over()?;
            self.live()?;
            self.feed();
            if now() >= self.next_fault {
                self.fault()?;
                self.next_fault = self.soon(150, 1_500);
            }
            self.progress(long);
        }
        Ok(())
    }

    /// Wakes who has slept, calms the weather, brings the server back.
    fn end_what_is_over(&mut self) -> Result<()> {
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now());
        for client in &mut self.party.clients {
            if over(client.calm_at) {
                client.calm_at = None;
                client.proxy.set(Weather::Calm);
            }
            if over(client.asleep_until) {
                client.asleep_until = None;
                if let Some(life) = &client.life {
                    life.process.signal("CONT")?;
                }
            }
        }
        if over(self.server_wakes) {
            self.wake_server()?;
        }
        if over(self.server_returns) {
            self.server_returns = None;
            self.party.server.restart()?;
        }
        Ok(())
    }

    fn wake_server(&mut self) -> Result<()> {
        self.server_wakes = None;
        self.party.server.process().context("the server is down")?.signal("CONT")
    }

    /// Gives clients without a process a new one.
    fn live(&mut self) -> Result<()> {
        for at in 0..self.party.clients.len() {
            if self.party.clients.get(at).is_none_or(|client| client.life.is_some()) {
                continue;
            }
            match self.below(10) {
                0 | 1 => {
                    self.count("lives of recv");
                    self.party.start(at, (Kind::Receive, &["recv", "--follow"]))?;
                }
                2 => {
                    self.count("changes of the group");
                    let about = format!("As of {:?}", self.started.elapsed());
                    let words = ["group", "describe", "Hikers", &about];
                    self.party.start(at, (Kind::Command, &words))?;
                }
                _ => {
                    let rooms = self.party.rooms_of(at);
                    let pick = self.below(u64::try_from(rooms.len())?);
                    let room = rooms.get(usize::try_from(pick)?).context("no room")?;
                    self.count("lives of chat");
                    self.party.chat(at, *room)?;
                }
            }
        }
        Ok(())
    }

    fn feed(&mut self) {
        for at in 0..self.party.clients.len() {
            let awake =
                self.party.clients.get(at).is_some_and(|client| client.asleep_until.is_none());
            if self.below(LINE_IN_TICKS) == 0 && awake {
                self.party.feed(at, WINDOW);
            }
        }
    }

    fn fault(&mut self) -> Result<()> {
        let count = u64::try_from(self.party.clients.len())?;
        let at = usize::try_from(self.below(count))?;
        match self.below(100) {
            0..=44 => self.change_weather(at),
            45..=56 => {
                self.count("rebindings ordered");
                let client = self.party.clients.get(at).context("no such client")?;
                client.proxy.rebind();
            }
            57..=68 => {
                if self.party.kill(at)? {
                    self.count("clients killed");
                }
            }
            69..=74 => {
                self.count("clients ended in order");
                self.party.ask_to_end(at)?;
            }
            75..=83 => self.stop_client(at)?,
            84..=92 => self.kill_server()?,
            _ => self.stop_server()?,
        }
        Ok(())
    }

    fn change_weather(&mut self, at: usize) {
        let weather = Weather::draw(&mut self.rng);
        // Now and then longer than a connection lives without a word.
        let most = if self.below(12) == 0 { 75_000 } else { 9_000 };
        let until = self.soon(1_000, most);
        self.count(weather.name());
        if let Some(client) = self.party.clients.get_mut(at) {
            client.proxy.set(weather);
            client.calm_at = Some(until);
        }
    }

    fn stop_client(&mut self, at: usize) -> Result<()> {
        self.party.reap()?;
        let until = self.soon(300, 8_000);
        let client = self.party.clients.get_mut(at).context("no such client")?;
        let Some(life) = client.life.as_ref().filter(|_| client.asleep_until.is_none()) else {
            return Ok(());
        };
        life.process.signal("STOP")?;
        client.asleep_until = Some(until);
        self.count("clients stopped and continued");
        Ok(())
    }

    fn kill_server(&mut self) -> Result<()> {
        if self.server_returns.is_some() {
            return Ok(());
        }
        self.server_wakes = None;
        self.party.server.kill()?;
        self.count("server killed");
        // Mostly at once, as a supervisor would.
        let most = if self.below(4) == 0 { 6_000 } else { 50 };
        self.server_returns = Some(self.soon(0, most));
        Ok(())
    }

    fn stop_server(&mut self) -> Result<()> {
        if self.server_returns.is_some() || self.server_wakes.is_some() {
            return Ok(());
        }
        self.party.server.process().context("the server is down")?.signal("STOP")?;
        self.server_wakes = Some(self.soon(200, 5_000));
        self.count("server stopped and continued");
        Ok(())
    }

    fn progress(&mut self, long: Duration) {
        let elapsed = self.started.elapsed();
        if elapsed.saturating_sub(self.told) >= Duration::from_secs(10) {
            self.told = elapsed;
            let faults: u64 = self.done.values().sum();
            report::line(&format!(
                "{:>4} of {} s: {faults} events, {} lines given, {} accepted",
                elapsed.as_secs(),
                long.as_secs(),
                self.party.ledger.given(),
                self.party.ledger.accepted.len()
            ));
        }
    }

    /// Brings everybody to rest, checks, prints; whether everything held.
    fn close(mut self) -> Result<bool> {
        self.party.calm()?;
        if self.server_wakes.is_some() {
            self.wake_server()?;
        }
        if self.server_returns.take().is_some() {
            self.party.server.restart()?;
        }
        self.party.end_all()?;
        check::settle(&mut self.party)?;
        let messages = check::judge(&mut self.party)?;
        self.party.server.stop()?;
        let mut tally = Tally::default();
        self.party.clients.iter().for_each(|client| tally.add(&client.proxy.tally()));
        report::faults(&self.done, &tally);
        report::line(&format!("slowest start of the server: {:?}", self.party.server.slowest));
        Ok(report::verdict(&self.party.ledger, messages))
    }
}
