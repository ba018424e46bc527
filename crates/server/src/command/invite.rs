//! `qpc-server invite`: asks the running server for an invite, or makes one in its database.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use qpc_server::{DataDir, Node, ServerError, admin, clock};
use qpc_storage::Outcome;
use rand_core::OsRng;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The server's files.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = DataDir::new(&arguments.data_dir);
    // Before whoever listens there is believed.
    dir.refuse_shared()?;
    match admin::ask_for_invite(&dir.admin_socket())? {
        Some(url) => super::print(url),
        None => super::print(make(&dir)?),
    }
}

fn make(dir: &DataDir) -> Result<String> {
    let config = dir.read_config()?;
    let url = config.url(config.listen, dir.identity()?.fingerprint())?;
    let mut store = dir.open_store().map_err(|error| {
        if matches!(error, ServerError::Locked) { ServerError::NoAnswer } else { error }
    })?;
    let node = Node::open(&mut store, config.policy, &mut OsRng).map_err(ServerError::from)?;
    let now_ms = clock::system()();
    let made = store.transact(|tx| node.create_invite(tx, now_ms, &mut OsRng));
    let code = match made.map_err(ServerError::from)? {
        Outcome::Done(code) => code,
        Outcome::Refused(error) => return Err(error.into()),
        Outcome::Panicked => return Err(anyhow!("making the invite failed; report this as a bug")),
    };
    store.close().map_err(ServerError::from)?;
    Ok(admin::with_invite(&url, code).to_string())
}
