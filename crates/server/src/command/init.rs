//! `qpc-server init`: makes a server's files. Overwrites nothing.

use std::path::PathBuf;

use anyhow::Result;
use qpc_server::{DataDir, clock};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Where the server's files go; created if missing.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// A name or address that clients reach the server under; the first goes into invites.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let dir = DataDir::new(&arguments.data_dir);
    dir.init(&arguments.hosts, clock::system()())?;
    super::print(format_args!("initialised {}", arguments.data_dir.display()))
}
