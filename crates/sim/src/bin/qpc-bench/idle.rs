//! `qpc-bench idle`: memory that the server holds for a client that is logged in and says nothing,
//! with what its connection alone holds at the floor.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qpc_transport::{ClientLimits, Connection, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use serde_json::json;

use crate::account::Account;
use crate::child::Child;
use crate::serve::What;

/// Sessions that a device may have.
const SESSIONS: u32 = 8;
/// Clients before the first reading: pools, caches and threads are there then.
const WARM_UP: u32 = 64;
/// Silence before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Clients that are connected at one time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    clients: u32,
    /// Fail when a client holds more KiB than this.
    #[arg(long, default_value_t = 32.0)]
    at_most: f64,
    /// Where the servers' files go.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, and judges.
///
/// # Errors
/// When a server does not start, or a single client is refused.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let floor = Child::start(What::Floor, &dir.path().join("floor"), 0)?;
    let alone = held(&floor, arguments.clients, async |_| {
        Ok(connect(&floor.url, &ClientLimits::default()).await?)
    })
    .await?;
    drop(floor);
    let all = arguments.clients.saturating_add(WARM_UP);
    let full = Child::start(What::Full, &dir.path().join("full"), all.div_ceil(SESSIONS))?;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut accounts = Vec::new();
    for (number, invite) in full.invites.iter().enumerate() {
        let account = Account::new(number, &mut rng);
        account.register(&full.url, invite.clone()).await.context("registering")?;
        accounts.push(account);
    }
    let logged_in = held(&full, arguments.clients, async |number: u32| {
        let account = accounts.get(usize::try_from(number / SESSIONS)?).context("no account")?;
        Ok(account.open(&full.url).await?.0)
    })
    .await?;
    print((alone, logged_in), arguments);
    Ok(if logged_in <= arguments.at_most { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Memory of `server` for each of `clients` more connections, KiB.
async fn held(
    server: &Child,
    clients: u32,
    open: impl AsyncFn(u32) -> Result<Connection>,
) -> Result<f64> {
    let mut connections = Vec::new();
    for number in 0..WARM_UP {
        connections.push(open(number).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let before = server.usage()?.resident_kib;
    for number in (WARM_UP..).take(usize::try_from(clients)?) {
        connections.push(open(number).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let after = server.usage()?.resident_kib;
    for connection in &connections {
        let end = tokio::time::timeout(Duration::ZERO, connection.closed()).await;
        ensure!(end.is_err(), "a client was cut off");
    }
    let grown = u32::try_from(after.saturating_sub(before))?;
    Ok(f64::from(grown) / f64::from(clients))
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn print((alone, logged_in): (f64, f64), arguments: &Arguments) {
    let Arguments { clients, at_most, .. } = arguments;
    let is_within = logged_in <= *at_most;
    if arguments.json {
        let report = json!({
            "benchmark": "idle",
            "clients": clients,
            "connection_kib": alone,
            "client_kib": logged_in,
            "at_most": at_most,
            "within": is_within,
        });
        println!("{report}");
        return;
    }
    println!("a connection alone  {alone:>8.1} KiB");
    println!("a client logged in  {logged_in:>8.1} KiB");
    let verdict = if is_within { "within" } else { "ABOVE" };
    println!("{logged_in:.1} KiB for each of {clients}, {verdict} the limit of {at_most}");
}
