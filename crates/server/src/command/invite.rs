//! `qpc-server invite`: asks the running server for an invite, or makes one in its database.

use std::path::PathBuf;

use anyhow::Result;
use qpc_server::DataDir;
use qpc_server::admin::{self, Answer, Question};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The server's files.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let answer = admin::ask(&DataDir::new(&arguments.data_dir), &Question::Invite)?;
    let Answer::Invite(url) = answer else { return Err(admin::unexpected().into()) };
    super::print(url.0)
}
