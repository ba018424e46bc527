//! The servers that are measured: `bare` finishes the handshake and closes, `floor` stores and
//! forwards without a question, `full` is the server as it ships. None is ever reachable from
//! another machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
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

/// Serves until standard input ends, as it does when the one who measures is gone. Prints the
/// invites, then where it listens.
///
/// # Errors
/// When the server cannot be started.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { what, dir, invites } = arguments;
    let tell = |url: ServerUrl, invites: Vec<Bytes>| {
        for code in &invites {
            print(&format!("invite {}", hex(code)));
        }
        print(&format!("ready {url}"));
    };
    serve((*what, dir, *invites), tell, owner_gone()).await
}

/// Serves until `until` ends; `tell` hears where it listens, and of so many invites.
///
/// # Errors
/// When the server cannot be started.
pub(crate) async fn serve(
    (what, root, invites): (What, &Path, u32),
    tell: impl FnOnce(ServerUrl, Vec<Bytes>),
    until: impl Future<Output = ()>,
) -> Result<()> {
    let dir = DataDir::new(root);
    dir.init(&[], clock::system()())?;
    let identity = dir.identity()?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(any, &identity, Limits::default())?;
    let url = url(&listener, &identity)?;
    match what {
        What::Bare => {
            tell(url, Vec::new());
            tokio::select! {
                () = bare(&listener) => Ok(()),
                () = until => Ok(()),
            }
        }
        What::Floor => {
            tell(url, Vec::new());
            floor::serve(root, &listener, until).await
        }
        What::Full => {
            let server = Server::start(dir.open_store()?, settings(&dir)?)?;
            let mut codes = Vec::new();
            for _ in 0..invites {
                let code = server.create_invite().await;
                let code = code.map_err(|refusal| anyhow::anyhow!("{}", refusal.message))?;
                codes.push(Bytes::copy_from_slice(code.as_ref()));
            }
            tell(url, codes);
            server.serve(&listener, until).await;
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

fn url(listener: &Listener, identity: &ServerIdentity) -> Result<ServerUrl> {
    let bound = listener.local_addr().context("asking for the port")?;
    Ok(ServerUrl {
        host: bound.ip().to_string(),
        port: bound.port(),
        fingerprint: identity.fingerprint(),
        invite: None,
    })
}

#[expect(clippy::print_stdout, reason = "the one who measures reads it")]
fn print(line: &str) {
    println!("{line}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs `measure` against a server in this process.
    pub(crate) async fn with(
        (what, invites): (What, u32),
        measure: impl AsyncFnOnce(&ServerUrl, &[Bytes]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let path = dir.path().to_owned();
        let serving =
            serve((what, &path, invites), |url, invites| drop(tell.send((url, invites))), async {
                drop(stopped.await);
            });
        let measuring = async {
            let (url, invites) = told.await.unwrap();
            measure(&url, &invites).await;
            drop(stop);
        };
        let (served, ()) = tokio::join!(serving, measuring);
        served.unwrap();
    }
}
