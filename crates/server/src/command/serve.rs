//! `qpc-server serve`: opens what the data directory holds and serves until a signal.
//!
//! The first SIGTERM or SIGINT stops in order; a second one ends the process at once, which loses
//! nothing that was accepted.

use std::future::Future;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use qpc_proto::message::RegistrationMode;
use qpc_server::admin::{AdminSocket, Role};
use qpc_server::audit::{self, Audit};
use qpc_server::clock::Steady;
use qpc_server::sample::Sampler;
use qpc_server::{Config, DataDir, Server, ServerError, Settings, clock, config};
use qpc_transport::Listener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Port of a `--dev` server unless `--listen` says otherwise.
const DEV_PORT: u16 = 4810;

/// Time between two looks at the system's clock.
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The server's files.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Listen here instead of where the configuration says; port 0 takes any free one.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// For this machine alone: `init` if needed, open registration, loopback only.
    #[arg(long)]
    dev: bool,
    /// Log filter instead of the configuration's, such as `debug` or `info,qpc_server=debug`.
    #[arg(long, value_name = "FILTER", value_parser = log_filter)]
    log: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = DataDir::new(&arguments.data_dir);
    if arguments.dev && !dir.is_initialised() {
        dir.init(&[], clock::system()())?;
    }
    let config = configure(arguments, &dir)?;
    let clock = Steady::system();
    let sampler = Sampler::new(clock.clock());
    log_to_stderr(&config.log, &sampler)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&dir, config, (clock, sampler)))
}

fn configure(arguments: &Arguments, dir: &DataDir) -> Result<Config, ServerError> {
    let mut config = dir.read_config()?;
    if arguments.dev {
        config.policy.auth.registration = RegistrationMode::Open;
        config.policy.auth.pow_bits = 0;
        config.public_address = None;
        config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, DEV_PORT));
    }
    config.listen = arguments.listen.unwrap_or(config.listen);
    if arguments.dev && !config.listen.ip().is_loopback() {
        return Err(ServerError::DevNotLoopback);
    }
    if let Some(log) = &arguments.log {
        config.log.clone_from(log);
    }
    Ok(config)
}

fn log_filter(filter: &str) -> Result<String, String> {
    config::check_log(filter).map(|()| filter.to_owned())
}

fn log_to_stderr(filter: &str, sampler: &Sampler) -> Result<()> {
    // OpenMLS logs an error for every hostile message, refinery an info for every start.
    let mut levels = EnvFilter::try_new(filter).context("the log filter is wrong")?;
    for cap in ["openmls=warn", "refinery_core=warn"] {
        levels = levels.add_directive(cap.parse()?);
    }
    tracing_subscriber::fmt()
        .with_env_filter(levels)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .finish()
        .with(sampler.layer())
        .try_init()
        .map_err(|error| anyhow!("{error}"))
}

async fn serve(dir: &DataDir, config: Config, (time, sampler): (Steady, Sampler)) -> Result<()> {
    let mut store = dir.open_store()?;
    let identity = dir.identity()?;
    let listener = Listener::bind(config.listen, &identity, qpc_transport::Limits::default())
        .map_err(ServerError::from)?;
    let bound = listener.local_addr().map_err(ServerError::from)?;
    let url = config.url(bound, identity.fingerprint())?;
    let admin = AdminSocket::bind(dir.admin_socket(), Role::Admin)?;
    let viewer = AdminSocket::bind(dir.viewer_socket(), Role::Viewer)?;
    let known = audit::known_head(&mut store)?;
    let audit = Audit::start(&dir.audit(), config.audit, known, time.clock())?;
    let (policy, limits, addresses) = (config.policy, config.limits, config.addresses);
    let settings = Settings::new(policy, limits, time.clock());
    let jumps = time.clone();
    let clock_jumps: clock::Clock = std::sync::Arc::new(move || jumps.jumps());
    let settings = Settings { audit, addresses, sampler, clock_jumps, ..settings };
    let server = Server::start(store, settings)?;
    let (first, second) = (signal_number(1)?, signal_number(2)?);
    super::print(format_args!("ready {url}"))?;
    tokio::select! {
        () = server.serve(&listener, first) => {}
        () = admin.serve(&server, &url) => {}
        () = viewer.serve(&server, &url) => {}
        () = report_jumps(&time) => {}
        () = second => return Err(anyhow!("stopped at once by a second signal")),
    }
    server.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Says when the system's clock has jumped; never ends.
async fn report_jumps(time: &Steady) {
    let mut look = tokio::time::interval(LOOK_AT_CLOCK_EVERY);
    let mut known = 0;
    loop {
        look.tick().await;
        let gap_seconds = time.gap_ms() / 1_000;
        let jumps = time.jumps();
        if jumps != known {
            tracing::error!(
                gap_seconds,
                "the system's clock jumped; the server follows it slowly, so that nothing expires \
                 at once: set the clock right, or restart the server to take the new time"
            );
        }
        known = jumps;
    }
}

/// Ends with the `count`th SIGTERM or SIGINT from now on.
fn signal_number(count: u32) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for _ in 0..count {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}
