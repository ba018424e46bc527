//! One module a command; this one picks it, opens the home for it and closes it again whatever
//! came of it. Prints nothing itself.

mod account;
mod chat;
mod device;
mod doctor;
mod group;
mod logout;
mod outbox;
mod phrase;
mod protect;
mod recover;
mod recv;
mod register;
mod send;
mod show;
mod verify;

use std::path::PathBuf;

use qpc_client::Home;

use crate::args::{Arguments, Command};
use crate::confirm;
use crate::error::CliError;
use crate::output::Output;
use crate::session::Session;

/// Where the account lives and how it is unlocked.
struct Place {
    folder: PathBuf,
    passphrase_file: Option<PathBuf>,
}

impl Place {
    fn home(&self) -> Home {
        Home::new(self.folder.clone())
    }

    fn existing(&self) -> Result<Home, CliError> {
        let home = self.home();
        if home.exists() { Ok(home) } else { Err(CliError::HomeNotFound(self.folder.clone())) }
    }

    async fn open(&self) -> Result<Session, CliError> {
        Session::open(&self.existing()?, self.passphrase_file.as_deref()).await
    }

    /// Runs `work` on the open home. The first failure counts; closing happens in any case.
    async fn with(
        &self,
        output: &mut Output,
        work: impl AsyncFnOnce(&mut Session, &mut Output) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut session = self.open().await?;
        let worked = work(&mut session, output).await;
        let closed = session.close(output).await;
        worked.and(closed)
    }
}

/// Runs the command that `arguments` name.
pub(crate) async fn run(arguments: Arguments, output: &mut Output) -> Result<(), CliError> {
    let folder = arguments.home.map_or_else(default_folder, Ok)?;
    let place = Place { folder, passphrase_file: arguments.passphrase_file };
    match arguments.command {
        Command::Register(register) => register::run(&place, register, output).await,
        Command::Logout { wipe, yes } => {
            logout::run(&place, logout::Extent { wipe, yes }, output).await
        }
        Command::Passphrase(change) => protect::run(&place, &change, output),
        Command::Chat { plain: false, .. } => Err(CliError::Usage(
            "the full-screen chat is not there yet: use `qpc chat --plain TARGET`".to_owned(),
        )),
        Command::Chat { plain: true, target } => {
            place.with(output, async |s, o| chat::run(s, o, &target).await).await
        }
        Command::Recover(recover) => recover::run(&place, recover, output).await,
        Command::Device(device) => device::run(&place, device, output).await,
        Command::Phrase { recovery_file } => {
            let file = recovery_file.as_deref();
            place.with(output, async |s, o| phrase::run(s, o, file).await).await
        }
        Command::Devices => place.with(output, show::devices).await,
        Command::Account(account) => {
            place.with(output, async |s, o| account::run(s, o, &account).await).await
        }
        Command::Accept { name } => {
            place.with(output, async |s, o| account::accept(s, o, &name).await).await
        }
        Command::Notices => place.with(output, show::notices).await,
        Command::Doctor { timeout } => {
            place.with(output, async |s, o| doctor::run(&place, (s, o), timeout).await).await
        }
        Command::Losses { target } => {
            place.with(output, async |s, o| show::losses(s, o, target.as_deref()).await).await
        }
        Command::Outbox(outbox) => {
            place.with(output, async |s, o| outbox::run(s, o, &outbox).await).await
        }
        Command::Whoami => place.with(output, show::whoami).await,
        Command::Contacts => place.with(output, show::contacts).await,
        Command::Channels => place.with(output, show::channels).await,
        Command::Members { target } => {
            place.with(output, async |s, o| show::members(s, o, &target).await).await
        }
        Command::History { target, limit } => {
            place.with(output, async |s, o| show::history(s, o, (&target, limit)).await).await
        }
        Command::Verify(verify) => {
            place.with(output, async |s, o| verify::run(s, o, &verify).await).await
        }
        Command::Dm { name } => {
            place.with(output, async |s, o| group::direct(s, o, &name).await).await
        }
        Command::Reset { target, yes } => {
            if !yes {
                confirm::can_ask("a reset cannot be taken back: add --yes")?;
            }
            place.with(output, async |s, o| group::reset(s, o, (&target, yes)).await).await
        }
        Command::Group(group) => {
            place.with(output, async |s, o| group::run(s, o, &group).await).await
        }
        Command::Send(send) => place.with(output, async |s, o| send::run(s, o, send).await).await,
        Command::Recv(recv) => place.with(output, async |s, o| recv::run(s, o, &recv).await).await,
    }
}

/// `$XDG_DATA_HOME/qpc`, else `~/.local/share/qpc` (XDG Base Directory Specification: a relative
/// path counts as unset).
fn default_folder() -> Result<PathBuf, CliError> {
    #[expect(clippy::disallowed_methods, reason = "the edge where a default folder is found")]
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    data.filter(|folder| folder.is_absolute())
        .or_else(|| Some(std::env::home_dir()?.join(".local/share")))
        .map(|folder| folder.join("qpc"))
        .ok_or_else(|| CliError::Usage("this user has no home folder: give --home DIR".to_owned()))
}
