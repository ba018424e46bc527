//! The command surface as clap types: names, flags, help texts. Does nothing by itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const LONGEST_WAIT_S: u64 = 7 * 24 * 60 * 60;

/// End-to-end encrypted messages over QUIC.
#[derive(Debug, Parser)]
#[command(name = "qpc", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Folder of this account's keys and messages [default: $XDG_DATA_HOME/qpc].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// One JSON object a line on standard output; errors as JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Read the passphrase of the home from the first line of this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Log to standard error, e.g. `info` or `qpc_client=debug`.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make an account at a server, with new keys in the home.
    Register(Register),
    /// Show this account: name, server, ids.
    Whoami,
    /// List the people this account has met.
    Contacts,
    /// Show the safety number to compare with somebody, or note that it was compared.
    Verify(Verify),
    /// Open a direct channel with somebody.
    Dm {
        /// The person's name at the server.
        name: String,
    },
    /// Create groups and change who is in them.
    #[command(subcommand)]
    Group(Group),
    /// End a channel that is broken and go on in a new one with the same people.
    Reset {
        /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
        target: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// List channels and how they stand.
    Channels,
    /// List the members of a channel.
    Members {
        /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
        target: String,
    },
    /// Send a message, or each line of standard input as a message.
    Send(Send),
    /// Print messages that no earlier `recv` has printed.
    Recv(Recv),
    /// Print the newest messages of a channel, seen or not.
    History {
        /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
        target: String,
        /// How many messages.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u64,
    },
    /// Talk in one channel: incoming lines are printed, typed lines are sent.
    Chat {
        /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
        target: String,
        /// Line mode: no escape sequences, for any terminal, screen reader or script.
        #[arg(long)]
        plain: bool,
    },
    /// End this device's session at the server; `--wipe` also deletes the home.
    Logout {
        /// Delete keys and messages of this home for good.
        #[arg(long)]
        wipe: bool,
        /// Do not ask before deleting.
        #[arg(long, requires = "wipe")]
        yes: bool,
    },
    /// Set, change or remove the passphrase of the home.
    Passphrase(Passphrase),
    /// Show the recovery phrase of a new account, once.
    Phrase {
        /// Write it to this new file, which only its owner can read.
        #[arg(long, value_name = "FILE")]
        recovery_file: Option<PathBuf>,
    },
    /// List the devices of this account.
    Devices,
    /// Link and revoke devices.
    #[command(subcommand)]
    Device(Device),
    /// Get an account back with its recovery phrase, into an empty home.
    Recover(Recover),
    /// Export what the server holds, or end the account.
    #[command(subcommand)]
    Account(Account),
    /// Accept that a name belongs to other keys than before.
    Accept {
        /// The person's name at the server.
        name: String,
    },
    /// Show what the server told of this account's security.
    Notices,
    /// Check this home and the way to the server, and say what to do.
    Doctor {
        /// How long to wait for the server.
        #[arg(long, value_name = "S", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT_S))]
        timeout: u64,
    },
    /// Show what this device never read, or could not read, and why.
    Losses {
        /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
        target: Option<String>,
    },
    /// Show own messages that are not sent, send refused ones again, take waiting ones back.
    #[command(subcommand)]
    Outbox(Outbox),
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The name others will write to.
    pub(crate) name: String,
    /// qpc://HOST:PORT/#FINGERPRINT, or an invitation qpc://HOST:PORT/INVITE#FINGERPRINT.
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// Write the recovery phrase to this new file instead of showing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

/// How the key of a new home is kept.
#[derive(Debug, Default, Clone, Copy, Args)]
pub(crate) struct Keeping {
    /// Protect the home with a passphrase, asked for on the terminal.
    #[arg(long, conflicts_with = "keyring")]
    pub(crate) passphrase: bool,
    /// Keep the key of the home in the desktop's keyring.
    #[arg(long)]
    pub(crate) keyring: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// Make this empty home a device of an account that another device has.
    Link {
        /// qpc://HOST:PORT/#FINGERPRINT.
        #[arg(long, value_name = "URL", required_unless_present = "code_stdin")]
        server: Option<String>,
        /// Read the code, or the address of the link, that the primary device shows.
        #[arg(long)]
        code_stdin: bool,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Link another device to this account; only on the primary device.
    Add {
        /// Read the code, or the address of the link, that the new device shows.
        #[arg(long)]
        code_stdin: bool,
        /// Do not ask whether both devices show the same fingerprint.
        #[arg(long)]
        yes: bool,
    },
    /// Revoke devices: they send and read nothing any more.
    Revoke {
        /// Beginnings of device ids, as `qpc devices` shows them.
        #[arg(required = true, value_name = "DEVICE")]
        devices: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Recover {
    /// qpc://HOST:PORT/#FINGERPRINT.
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// Read the phrase from this file; without it, it is asked for on the terminal.
    #[arg(long, value_name = "FILE")]
    pub(crate) phrase_file: Option<PathBuf>,
    /// Do not revoke this device (the beginning of its id); may be repeated.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) keep: Vec<String>,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Print all that the server holds about this account, as JSON.
    Export {
        /// Write it to this new file, which only its owner can read.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// End the account after a grace of 30 days; only on the primary device.
    Delete {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Take the deletion back.
    CancelDeletion,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// List own messages that are not settled, and those that were refused.
    List,
    /// Send refused messages once more, or try waiting ones at once.
    Resend {
        /// Numbers of messages, as `qpc outbox list` shows them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u64>,
        /// How long to wait for the server to accept; what is not accepted stays queued.
        #[arg(long, value_name = "S", default_value_t = 30)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT_S))]
        timeout: u64,
    },
    /// Take messages back that are not sealed yet, or strike refused ones off the list.
    Cancel {
        /// Numbers of messages, as `qpc outbox list` shows them.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The person's name at the server.
    pub(crate) name: String,
    /// Note that the number was compared and is the same on both sides.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Take that note back.
    #[arg(long, conflicts_with = "yes")]
    pub(crate) unset: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Create a group with this account as its only member and admin.
    Create {
        /// What members see it called.
        title: String,
        /// How long the server keeps entries that not all have read, if less than usual: a number
        /// and m, h or d (30m, 12h, 1d). It never changes.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        retention: Option<Duration>,
    },
    /// Add people.
    Add {
        /// The group's title or channel id.
        group: String,
        /// Names at the server.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Remove people.
    Remove {
        /// The group's title or channel id.
        group: String,
        /// Names at the server.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Change what a group is called; admins only.
    Rename {
        /// The group's title or channel id.
        group: String,
        /// What members see it called from now on.
        title: String,
    },
    /// Say what a group is about; admins only. An empty text takes it away.
    Describe {
        /// The group's title or channel id.
        group: String,
        /// What it is about.
        description: String,
    },
    /// Make a member an admin; admins only.
    Promote {
        /// The group's title or channel id.
        group: String,
        /// Name at the server.
        name: String,
    },
    /// Make an admin a member; admins only. A group keeps one.
    Demote {
        /// The group's title or channel id.
        group: String,
        /// Name at the server.
        name: String,
    },
    /// Leave; the history stays readable here.
    Leave {
        /// The group's title or channel id.
        group: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// A contact's name, a group's title, or a channel id (at least 8 hex digits).
    pub(crate) target: String,
    /// The message.
    #[arg(required_unless_present = "lines", conflicts_with = "lines")]
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: Option<String>,
    /// Send each line of standard input; empty lines are skipped.
    #[arg(long)]
    pub(crate) lines: bool,
    /// How long to wait for the server to accept; what is not accepted stays queued.
    #[arg(long, value_name = "S", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT_S))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Recv {
    /// Keep printing messages as they arrive.
    #[arg(long)]
    pub(crate) follow: bool,
    /// End after this many messages from others.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How long to wait [default: 10, unlimited with --follow].
    #[arg(long, value_name = "S")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=LONGEST_WAIT_S))]
    pub(crate) timeout: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// Read the new passphrase from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "remove")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Protect the home by a key file only its owner can read.
    #[arg(long)]
    pub(crate) remove: bool,
}

/// A number and its unit: minutes, hours or days.
fn duration(text: &str) -> Result<Duration, String> {
    let unit = |text: &str| match text {
        "m" => Some(60),
        "h" => Some(60 * 60),
        "d" => Some(24 * 60 * 60),
        _ => None,
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = unit(text.strip_prefix(digits).unwrap_or_default());
    let count = digits.parse::<u64>().ok().filter(|count| *count > 0);
    let product = count.zip(seconds).and_then(|(count, seconds)| count.checked_mul(seconds));
    product.map(Duration::from_secs).ok_or_else(|| "a number and m, h or d, such as 12h".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(std::iter::once("qpc").chain(line.iter().copied()))
    }

    fn kind(line: &[&str]) -> ErrorKind {
        parse(line).expect_err("must be refused").kind()
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_message_may_begin_with_a_hyphen() {
        let Command::Send(send) = parse(&["send", "bob", "-5 degrees"]).unwrap().command else {
            panic!("not send");
        };
        assert_eq!(send.text.as_deref(), Some("-5 degrees"));
        assert!(!send.lines);
    }

    #[test]
    fn lines_are_a_flag_and_not_the_text() {
        for line in [["send", "bob", "--lines"], ["send", "--lines", "bob"]] {
            let Command::Send(send) = parse(&line).unwrap().command else { panic!("not send") };
            assert!(send.lines);
            assert_eq!((send.target.as_str(), send.text, send.timeout), ("bob", None, 30));
        }
    }

    #[test]
    fn send_wants_exactly_one_source() {
        assert_eq!(kind(&["send", "bob"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["send", "bob", "hi", "--lines"]), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["send", "bob", "hi", "there"]), ErrorKind::UnknownArgument);
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let arguments = parse(&["whoami", "--json", "--home", "/h"]).unwrap();
        assert!(arguments.json);
        assert_eq!(arguments.home, Some(PathBuf::from("/h")));
    }

    #[test]
    fn contradictions_are_refused() {
        assert_eq!(kind(&["verify", "bob", "--yes", "--unset"]), ErrorKind::ArgumentConflict);
        let both = ["register", "a", "--server", "u", "--passphrase", "--keyring"];
        assert_eq!(kind(&both), ErrorKind::ArgumentConflict);
        let both = ["passphrase", "--remove", "--new-passphrase-file", "f"];
        assert_eq!(kind(&both), ErrorKind::ArgumentConflict);
        let both = ["recover", "--server", "u", "--passphrase", "--keyring"];
        assert_eq!(kind(&both), ErrorKind::ArgumentConflict);
        assert_eq!(kind(&["device", "link"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["device", "revoke", "--yes"]), ErrorKind::MissingRequiredArgument);
        assert!(parse(&["device", "link", "--code-stdin"]).is_ok());
        assert_eq!(kind(&["logout", "--yes"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(kind(&["recv", "--count", "0"]), ErrorKind::ValueValidation);
        assert_eq!(kind(&["group", "add", "Hikers"]), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_retention_is_a_number_and_its_unit() {
        for (text, seconds) in [("1m", 60), ("90m", 5_400), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "d", "0d", "-1d", "1", "1.5d", "1 d", "1w", "1dd", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        let line = ["group", "create", "Hikers", "--retention", "1w"];
        assert_eq!(kind(&line), ErrorKind::ValueValidation);
    }
}
