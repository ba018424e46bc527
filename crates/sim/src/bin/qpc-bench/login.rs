//! `qpc-bench login`: what a login costs the server, against what no login can do without: the
//! handshake and one signature check.
//!
//! Both are measured in turns in one run, so that a machine that slows down slows both.

mod report;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_proto::DeviceId;
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::DeviceRef;
use qpc_transport::{ClientLimits, CloseReason, ServerUrl, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use tokio::task::JoinSet;

use crate::account::Account;
use crate::child::Child;
use crate::serve::What;
use crate::stopwatch::{Stopwatch, cpu_of_this_thread};
use report::{Report, Round};

/// Silence before CPU time is read, so that the ends of connections are in it.
const SETTLE: Duration = Duration::from_millis(250);
/// Signature checks that are measured in a round.
const CHECKS: u32 = 4_000;
/// Logins of each account before the first round: as many sessions as a device has at most, so that
/// each measured login ends an old one, too.
const WARM_UP: usize = 8;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each measures the bare handshake and then the login.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections of each kind in a round.
    #[arg(long, default_value_t = 600)]
    logins: usize,
    /// Connections at one time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// Accounts that log in by turns.
    #[arg(long, default_value_t = 128)]
    accounts: u32,
    /// Fail when a login costs more than this times the bare work.
    #[arg(long, default_value_t = 1.4)]
    at_most: f64,
    /// Where the servers' files go; the database is synced to this disk.
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, and judges.
///
/// # Errors
/// When a server does not start, or a single connection or login fails.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(arguments.logins > 0 && arguments.concurrency > 0, "nothing to measure");
    ensure!(arguments.accounts > 0, "a login wants an account");
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let bench = Bench::start(dir.path(), arguments).await?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push(bench.round(arguments.logins).await?);
    }
    let report = Report::new(&rounds, arguments.at_most)?;
    report::print(&report, arguments.json);
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Both servers, and the accounts of one.
struct Bench {
    bare: Child,
    full: Child,
    accounts: Arc<Vec<Account>>,
    concurrency: usize,
}

impl Bench {
    async fn start(dir: &Path, arguments: &Arguments) -> Result<Self> {
        let bare = Child::start(What::Bare, &dir.join("bare"), 0)?;
        let full = Child::start(What::Full, &dir.join("full"), arguments.accounts)?;
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut accounts = Vec::new();
        for (number, invite) in full.invites.iter().enumerate() {
            let account = Account::new(number, &mut rng);
            account.register(&full.url, invite.clone()).await.context("registering")?;
            accounts.push(account);
        }
        let concurrency = arguments.concurrency;
        let bench = Self { bare, full, accounts: Arc::new(accounts), concurrency };
        let warm_up = bench.accounts.len().saturating_mul(WARM_UP);
        bench.handshakes(warm_up).await?;
        bench.logins(warm_up).await?;
        Ok(bench)
    }

    async fn round(&self, count: usize) -> Result<Round> {
        let check = signature_check()?;
        let (bare, _) = measured(&self.bare, self.handshakes(count)).await?;
        let (full, took) = measured(&self.full, self.logins(count)).await?;
        let each = f64::from(u32::try_from(count)?);
        Ok(Round {
            check_us: micros(check),
            bare_us: micros(bare) / each,
            full_us: micros(full) / each,
            logins_per_second: each / took.as_secs_f64(),
        })
    }

    /// Connections that end with their handshakes.
    async fn handshakes(&self, count: usize) -> Result<()> {
        let url = Arc::new(self.bare.url.clone());
        many((count, self.concurrency), move |_| hand_shake(Arc::clone(&url))).await
    }

    /// Connections with one login each.
    async fn logins(&self, count: usize) -> Result<()> {
        let (url, accounts) = (Arc::new(self.full.url.clone()), Arc::clone(&self.accounts));
        many((count, self.concurrency), move |number| {
            let (url, accounts) = (Arc::clone(&url), Arc::clone(&accounts));
            async move {
                let index = number.checked_rem(accounts.len()).context("no account")?;
                accounts.get(index).context("no account")?.log_in(&url).await
            }
        })
        .await
    }
}

async fn hand_shake(url: Arc<ServerUrl>) -> Result<()> {
    let connection = connect(&url, &ClientLimits::default()).await?;
    let end = connection.closed().await;
    let in_order = matches!(end, CloseReason::Peer { code: 0, .. });
    ensure!(in_order, "the bare server ended a connection oddly: {end}");
    Ok(())
}

/// Runs `count` tasks, `width` of them at a time, to their ends.
async fn many<F>((count, width): (usize, usize), task: impl Fn(usize) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= width
            && let Some(ended) = running.join_next().await
        {
            ended??;
        }
        running.spawn(task(number));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// The CPU time that `server` spent on `work`, and the time that this took.
async fn measured(
    server: &Child,
    work: impl Future<Output = Result<()>>,
) -> Result<(Duration, Duration)> {
    tokio::time::sleep(SETTLE).await;
    let (before, watch) = (server.cpu()?, Stopwatch::start());
    work.await?;
    let took = watch.elapsed();
    tokio::time::sleep(SETTLE).await;
    Ok((server.cpu()?.saturating_sub(before), took))
}

/// One `verify_strict` of a device's proof, alone on this thread.
fn signature_check() -> Result<Duration> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let device = DeviceRef { account: qpc_proto::AccountId([2; 16]), device: DeviceId([3; 16]) };
    let binding = ChannelBinding { exporter: [4; 32], fingerprint: [5; 32] };
    let proof = binding.to_be_signed(&device, Purpose::Login);
    let (signature, public) = (key.sign(&proof), key.verifying_key());
    let before = cpu_of_this_thread()?;
    for _ in 0..CHECKS {
        std::hint::black_box(&public).verify_strict(std::hint::black_box(&proof), &signature)?;
    }
    // A switch of threads brings the kernel's count up to date.
    std::thread::yield_now();
    Ok(cpu_of_this_thread()?.saturating_sub(before) / CHECKS)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
