//! The kinds of lies about a log. Tells none.

use std::fmt;

/// What the server does to the log that its victims are shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Lie {
    /// Leaves an entry out.
    Drop,
    /// Leaves a Commit out.
    DropCommit,
    /// Shows an entry behind the one after it.
    Swap,
    /// Shows an entry a second time, behind the one after it.
    Replay,
    /// For a while shows each side only what it wrote itself.
    Fork,
    /// Takes back what was shown last and goes on from there.
    Rollback,
    /// Shows an entry with another time of acceptance.
    AcceptTime,
    /// Shows an entry as one of another kind.
    Kind,
    /// Shows an entry with another reference to the last Commit.
    AfterCommit,
    /// Shows a Commit with another declared change.
    Change,
    /// Shows a Commit with a statement more.
    Statements,
    /// Shows a Commit with the digest of another Welcome.
    Welcome,
    /// Shows an entry that was sealed for another channel.
    OtherChannel(Vec<u8>),
    /// Shows a statement that nobody made.
    Statement(Vec<u8>),
}

/// Without payloads: ciphertexts differ from one run of a seed to the next.
impl fmt::Debug for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "Drop",
            Self::DropCommit => "DropCommit",
            Self::Swap => "Swap",
            Self::Replay => "Replay",
            Self::Fork => "Fork",
            Self::Rollback => "Rollback",
            Self::AcceptTime => "AcceptTime",
            Self::Kind => "Kind",
            Self::AfterCommit => "AfterCommit",
            Self::Change => "Change",
            Self::Statements => "Statements",
            Self::Welcome => "Welcome",
            Self::OtherChannel(_) => "OtherChannel",
            Self::Statement(_) => "Statement",
        })
    }
}

impl Lie {
    /// How many kinds [`Lie::of_kind`] knows.
    pub const KINDS: u32 = 14;

    /// The lie of a kind (below [`Lie::KINDS`]) to this victim, with a payload of another channel.
    /// Client 0 alone commits: to it nobody lies about others' Commits.
    pub fn of_kind(kind: u32, (victim, elsewhere): (usize, Vec<u8>)) -> Self {
        match kind {
            0 => Self::Drop,
            1 => Self::Swap,
            2 => Self::Replay,
            3 => Self::Fork,
            4 => Self::Rollback,
            5 => Self::AcceptTime,
            6 => Self::Kind,
            7 => Self::AfterCommit,
            8 => Self::OtherChannel(elsewhere),
            9 => Self::Statement(elsewhere),
            _ if victim == 0 => Self::AcceptTime,
            10 => Self::DropCommit,
            11 => Self::Change,
            12 => Self::Statements,
            _ => Self::Welcome,
        }
    }
}
