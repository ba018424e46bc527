//! One `qpc` process of a client: what it does, and how it may end.

use std::process::ExitStatus;

use crate::process::Process;

/// What a process is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `chat --plain`: sends lines into a room and shows everything.
    Chat(usize),
    /// `recv --follow`: prints what was not printed yet.
    Receive,
    /// One change of a group, to its end.
    Command,
}

/// A process of a client.
pub(crate) struct Life {
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    pub(crate) process: Process,
    /// It was asked to end.
    pub(crate) ending: bool,
}

impl Life {
    /// Why it should not have ended so. Exit codes are those of docs/use/exit-codes.md.
    pub(crate) fn complaint(&self, status: ExitStatus) -> Option<String> {
        let allowed: &[i32] = match self.kind {
            // Done, not done in time, or no network.
            Kind::Command => &[0, 5, 8],
            Kind::Chat(_) if self.ending => &[0, 5, 8],
            Kind::Receive if self.ending => &[0],
            Kind::Chat(_) | Kind::Receive => &[],
        };
        let fits = status.code().is_some_and(|code| allowed.contains(&code));
        (!fits).then(|| format!("{:?} ended with {status}, asked to: {}", self.kind, self.ending))
    }
}
