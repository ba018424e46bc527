//! What an operator may ask a server, over sockets in its data directory: one JSON line each way.
//!
//! Never reachable over the network: no method of the wire leads here. Who may ask is decided by
//! the files' modes alone: the owner everything, the group of `viewer.sock` to read.

mod desk;
mod offline;
mod socket;

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::audit::Head;
use crate::data_dir::DataDir;
use crate::error::ServerError;
pub use socket::AdminSocket;

/// Bytes of a question, its line feed included.
const QUESTION_BYTES_MAX: u64 = 4 * 1_024;
/// Bytes of an answer, its line feed included: more than any page of accounts or all metrics have.
const ANSWER_BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// Time for one exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Accounts in one answer.
const ACCOUNTS_MAX: u32 = 256;

/// What an operator may ask. In JSON `{"command": "…"}` with the fields beside it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// A one-use invite.
    Invite,
    /// The invites that may still be used.
    Invites,
    /// Takes an invite back.
    RevokeInvite {
        /// As [`InviteRow::id`].
        id: String,
    },
    /// Accounts by name.
    Accounts {
        /// Only those behind this name.
        after: Option<String>,
    },
    /// Lets nobody in at an account, and ends its connections.
    Suspend {
        /// The account's name.
        name: String,
    },
    /// Ends a suspension.
    Resume {
        /// The account's name.
        name: String,
    },
    /// The sessions of an account.
    Sessions {
        /// The account's name.
        name: String,
    },
    /// Ends the sessions of an account; its devices log in again by themselves.
    EndSessions {
        /// The account's name.
        name: String,
    },
    /// The limits that are configured.
    Limits,
    /// What the server has counted, in Prometheus' text format.
    Metrics,
    /// The last line of the audit log that is on disk.
    AuditHead,
}

impl Question {
    /// Whether the answer changes anything: a viewer may not ask it.
    pub fn changes(&self) -> bool {
        match self {
            Self::Invite
            | Self::RevokeInvite { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. }
            | Self::EndSessions { .. } => true,
            Self::Invites
            | Self::Accounts { .. }
            | Self::Sessions { .. }
            | Self::Limits
            | Self::Metrics
            | Self::AuditHead => false,
        }
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The invite's URL.
    Invite(InviteUrl),
    /// Invites, the first to end first.
    Invites(Vec<InviteRow>),
    /// Accounts by name.
    Accounts {
        /// So many as one answer has.
        accounts: Vec<AccountRow>,
        /// Whether more come behind them.
        more: bool,
    },
    /// Sessions by device.
    Sessions(Vec<SessionRow>),
    /// Limits by name.
    Limits(Vec<LimitRow>),
    /// Prometheus' text format.
    Metrics(String),
    /// Sequence number and SHA-256 (hexadecimal) of the last line; none without a log.
    AuditHead(Option<(u64, String)>),
    /// It is done; devices whose connections were ended.
    Done {
        /// How many.
        devices: usize,
    },
    /// Why not.
    Error(String),
}

/// The URL of an invite, which lets whoever has it register: redacted where it would be logged.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InviteUrl(pub String);

impl fmt::Debug for InviteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteUrl(redacted)")
    }
}

/// An account, for its operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AccountRow {
    /// Its name.
    pub name: String,
    /// Its id, hexadecimal.
    pub account: String,
    /// `active`, `suspended` or `ended`.
    pub standing: String,
    /// Devices that are not revoked.
    pub devices: u64,
    /// Unix milliseconds.
    pub created_at_ms: u64,
    /// When it will be deleted, Unix milliseconds, if that was asked for.
    pub delete_at_ms: Option<u64>,
}

/// A session, for its operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionRow {
    /// The device's id, hexadecimal.
    pub device: String,
    /// Unix milliseconds, where it is known.
    pub began_at_ms: Option<u64>,
    /// When its last refresh token expires, Unix milliseconds.
    pub expires_at_ms: u64,
}

/// An invite, for its operator; its code is known to nobody but whom it was given to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct InviteRow {
    /// The first digits of its hash.
    pub id: String,
    /// Unix milliseconds.
    pub expires_at_ms: u64,
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LimitRow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: u64,
}

/// What a socket lets those ask who reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything; the file is its owner's alone.
    Admin,
    /// What changes nothing; the file is its group's, too.
    Viewer,
}

/// Asks the server of a data directory, or its database when none runs.
///
/// # Errors
/// [`ServerError::Refused`] with the reason, [`ServerError::NotRunning`] for what only a running
/// server knows, [`ServerError::System`] when it does not answer, and what opening the database
/// says.
pub fn ask(dir: &DataDir, question: &Question) -> Result<Answer, ServerError> {
    Ok(ask_whom(dir, question)?.0)
}

/// The last line of the audit log that the server has on disk, or that its database knows; and
/// whether the server runs.
///
/// # Errors
/// As [`ask`].
pub fn audit_head(dir: &DataDir) -> Result<(Option<Head>, bool), ServerError> {
    let (answer, running) = ask_whom(dir, &Question::AuditHead)?;
    let Answer::AuditHead(head) = answer else { return Err(unexpected()) };
    Ok((head.and_then(|(seq, hash)| Head::parse(seq, &hash)), running))
}

/// The answer, and whether a running server gave it.
fn ask_whom(dir: &DataDir, question: &Question) -> Result<(Answer, bool), ServerError> {
    // Before whoever listens there is believed.
    dir.refuse_shared()?;
    let answered = match reach(dir, question)? {
        Some(stream) => {
            let asked = exchange(stream, question);
            (asked.map_err(ServerError::system("asking the running server"))?, true)
        }
        None => (offline::answer(dir, question)?, false),
    };
    if let (Answer::Error(reason), _) = answered {
        return Err(ServerError::Refused(reason));
    }
    Ok(answered)
}

/// An answer to another question: both programs are of one version, so it is a bug.
pub fn unexpected() -> ServerError {
    ServerError::Refused("an answer to another question came; report this as a bug".to_owned())
}

/// The socket that may be asked, if a server listens: the viewers' where the owner's is closed.
fn reach(dir: &DataDir, question: &Question) -> Result<Option<UnixStream>, ServerError> {
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let reached = match connect(&dir.admin_socket()) {
        Err(error) if denied(&error) && !question.changes() => connect(&dir.viewer_socket()),
        other => other,
    };
    reached.map_err(|error| {
        if denied(&error) {
            let who = "only the user that the server runs as may ask this; see viewer.sock";
            return ServerError::Refused(who.to_owned());
        }
        ServerError::system("asking the running server")(error)
    })
}

fn connect(path: &Path) -> io::Result<Option<UnixStream>> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn exchange(mut stream: UnixStream, question: &Question) -> io::Result<Answer> {
    stream.set_read_timeout(Some(EXCHANGE_TIMEOUT))?;
    stream.set_write_timeout(Some(EXCHANGE_TIMEOUT))?;
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
