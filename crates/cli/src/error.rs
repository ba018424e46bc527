//! What stops a command, sorted by who must act; each has a stable code and an exit code.
//! Never holds message text or a secret.

use std::path::PathBuf;
use std::process::ExitCode;

use qpc_client::{ClientError, ExitKind};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    // The user's command line or input.
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {what}: {source}")]
    Input { what: String, source: std::io::Error },
    #[error(
        "there is no account in {}: make one with `qpc register NAME --server URL`, \
         or name its folder with --home", .0.display()
    )]
    HomeNotFound(PathBuf),
    #[error("{0}")]
    PassphraseNeeded(String),

    // The server or the network.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Waiting(String),
    /// This device is out, by the server's code.
    #[error("{text}")]
    Ended { code: String, text: String },
    #[error("no connection to the server: {0}")]
    Unreachable(String),
    #[error("{0}")]
    Alarm(String),

    // This machine or this program.
    #[error("cannot write to standard output: {0}")]
    Output(std::io::Error),
    #[error("cannot make the folder {}: {source}", path.display())]
    HomeNotMade { path: PathBuf, source: std::io::Error },
    #[error("cannot write {what}: {source}")]
    NotWritten { what: String, source: std::io::Error },
    #[error("{0} problems need somebody to act")]
    Unwell(usize),
    #[error("{0}")]
    Internal(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl CliError {
    /// Stable name for scripts, upper case.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Ended { code, .. } => code,
            Self::Usage(_) => "USAGE",
            Self::Input { .. } => "INPUT_UNREADABLE",
            Self::HomeNotFound(_) => "NO_ACCOUNT",
            Self::PassphraseNeeded(_) => "PASSPHRASE_NEEDED",
            Self::Refused(_) => "MESSAGE_REFUSED",
            Self::Waiting(_) => "WAITING",
            Self::Unreachable(_) => "SERVER_UNREACHABLE",
            Self::Alarm(_) => "ALARM",
            Self::Output(_) => "OUTPUT_CLOSED",
            Self::HomeNotMade { .. } => "HOME_NOT_MADE",
            Self::NotWritten { .. } => "FILE_NOT_WRITTEN",
            Self::Unwell(_) => "PROBLEMS_FOUND",
            Self::Internal(_) => "INTERNAL",
            Self::Client(error) => error.code(),
        }
    }

    /// The process's exit code, `docs/use/exit-codes.md`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_number())
    }

    fn exit_number(&self) -> u8 {
        match self {
            Self::Output(_)
            | Self::HomeNotMade { .. }
            | Self::NotWritten { .. }
            | Self::Unwell(_)
            | Self::Internal(_) => 1,
            Self::Usage(_) | Self::Input { .. } | Self::HomeNotFound(_) => 2,
            Self::Refused(_) => 4,
            Self::Waiting(_) => 5,
            Self::PassphraseNeeded(_) => 7,
            Self::Unreachable(_) => 8,
            Self::Alarm(_) => 9,
            Self::Ended { .. } => 10,
            Self::Client(error) => exit_number(&error.exit()),
        }
    }
}

fn exit_number(kind: &ExitKind) -> u8 {
    match kind {
        ExitKind::Internal => 1,
        ExitKind::Usage => 2,
        ExitKind::NotFound => 3,
        ExitKind::Refused => 4,
        ExitKind::Waiting => 5,
        ExitKind::Locked => 6,
        ExitKind::Key => 7,
        ExitKind::Network => 8,
        ExitKind::Alarm => 9,
        ExitKind::Ended => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_exit_codes_are_the_ones_used() {
        let page = include_str!("../../../docs/use/exit-codes.md");
        let kinds = [
            ExitKind::Internal,
            ExitKind::Usage,
            ExitKind::NotFound,
            ExitKind::Refused,
            ExitKind::Waiting,
            ExitKind::Locked,
            ExitKind::Key,
            ExitKind::Network,
            ExitKind::Alarm,
            ExitKind::Ended,
        ];
        for (number, kind) in (1..).zip(kinds) {
            assert_eq!(exit_number(&kind), number);
            assert!(page.contains(&format!("| {number} | ")), "{number} is not documented");
        }
    }

    #[test]
    fn own_errors_carry_documented_codes() {
        let page = include_str!("../../../docs/use/exit-codes.md");
        let error = || std::io::Error::other("x");
        let own = [
            CliError::Usage(String::new()),
            CliError::Input { what: String::new(), source: error() },
            CliError::HomeNotFound(PathBuf::new()),
            CliError::PassphraseNeeded(String::new()),
            CliError::Refused(String::new()),
            CliError::Waiting(String::new()),
            CliError::Unreachable(String::new()),
            CliError::Alarm(String::new()),
            CliError::Ended { code: "DEVICE_REVOKED".to_owned(), text: String::new() },
            CliError::Ended { code: "ACCOUNT_SUSPENDED".to_owned(), text: String::new() },
            CliError::Output(error()),
            CliError::HomeNotMade { path: PathBuf::new(), source: error() },
            CliError::NotWritten { what: String::new(), source: error() },
            CliError::Unwell(1),
            CliError::Internal(String::new()),
        ];
        for error in own {
            let row = format!("| `{}` | {} | ", error.code(), error.exit_number());
            assert!(page.contains(&row), "{row} is not documented");
        }
    }
}
