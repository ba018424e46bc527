//! The servers that are measured: `bare` finishes the handshake and closes, `floor` stores and
//! forwards without a question, `full` is the server as it ships. None is ever reachable from another machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use qpc_proto::message::RegistrationMode;
use qpc_server::audit::Audit;
use qpc_server::limits::{Period, Rate, Rates};
use qpc_server::{Config, DataDir, Server, Settings, clock};
use qpc_transport::{Limits, Listener, ServerIdentity, ServerUrl};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::floor;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// The handshake alone.
    Bare,
    /// Messages without any of our features.
    Floor,
    /// Everything.
    Full,
}

impl What {
    /// As on the command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Floor => "floor",
            Self::Full => "full",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to serve.
    what: What,
    /// Where its files go.
    #[arg(long)]
    dir: PathBuf,
    /// Invites to make and print.
    #[arg(long, default_value_t = 0)]
    invites: u32,
}

/// Serves until standard input ends, as it does when the one who measures is gone.
///
/// # Errors
/// When the server cannot be started.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let dir = DataDir::new(&arguments.dir);
    dir.init(&[], clock::system()())?;
    let identity = dir.identity()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, &identity, Limits::default())?;
    match arguments.what {
        What::Bare => {
            ready(&listener, &identity)?;
            tokio::select! {
                () = bare(&listener) => Ok(()),
                () = owner_gone() => Ok(()),
            }
        }
        What::Floor => {
            ready(&listener, &identity)?;
            floor::serve(&arguments.dir, &listener, owner_gone()).await
        }
        What::Full => {
            let server = Server::start(dir.open_store()?, settings(&dir)?)?;
            for _ in 0..arguments.invites {
                let code = server.create_invite().await;
                let code = code.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
                print(&format!("invite {}", hex(code.as_ref())));
            }
            ready(&listener, &identity)?;
            server.serve(&listener, owner_gone()).await;
            Ok(server.stop().await?)
        }
    }
}

/// As an operator gets them, the audit log among them. Only the limits are wide: all that is
/// measured comes from one address, so everything is counted and nothing refused.
fn settings(dir: &DataDir) -> Result<Settings> {
    let config = Config::default();
    let mut policy = config.policy;
    policy.auth.registration = RegistrationMode::Invite;
    let limits = qpc_server::Limits {
        rates: Rates::uniform(Rate::new(u32::MAX, Period::Second, u32::MAX)),
        connections_per_network_max: config.limits.connections_max,
        ..config.limits
    };
    let audit = Audit::start(&dir.audit(), config.audit, None, clock::system())?;
    Ok(Settings { audit, ..Settings::new(policy, limits, clock::system()) })
}

/// Takes connections as the server does, and closes each as soon as its handshake is done.
async fn bare(listener: &Listener) {
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            incoming = listener.accept() => {
                let Some(incoming) = incoming else { return };
                handshakes.spawn(async move {
                    if let Ok(connection) = incoming.establish().await {
                        connection.close(0, "");
                    }
                });
            }
            Some(_) = handshakes.join_next() => {}
        }
    }
}

async fn owner_gone() {
    // An error says the same as the end.
    drop(tokio::io::stdin().read_to_end(&mut Vec::new()).await);
}

fn ready(listener: &Listener, identity: &ServerIdentity) -> Result<()> {
    let bound = listener.local_addr().context("asking for the port")?;
    let url = ServerUrl {
        host: bound.ip().to_string(),
        port: bound.port(),
        fingerprint: identity.fingerprint(),
        invite: None,
    };
    print(&format!("ready {url}"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one who measures reads it")]
fn print(line: &str) {
    println!("{line}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
