//! How values read on a terminal or to a screen reader: one line each where they come in lists, no
//! escape sequences, text of others escaped. Never prints.

use qpc_client::view::{
    Channel, ChannelStatus, Contact, Device, Event, Loss, Member, Message, MessageState, Notice,
    SafetyNumber, Whoami,
};

use crate::date::{date_and_time, time_of_day};
use crate::escape::visible;

/// Digits of an id that are shown; the least that a TARGET may be.
pub(crate) const SHORT_ID: usize = 8;

/// A value that can be shown as text.
pub(crate) trait Plain {
    /// One or more lines, without the last line end.
    fn plain(&self) -> String;
}

impl Plain for Whoami {
    fn plain(&self) -> String {
        let primary = if self.primary { "  (primary)" } else { "" };
        let mut text = format!(
            "name      {}\nserver    {}\naccount   {}\ndevice    {}{primary}\nroot key  {}",
            visible(&self.name),
            visible(&self.server),
            self.account,
            self.device,
            self.root
        );
        if let Some(code) = &self.stopped {
            text.push_str(&format!("\nSTOPPED   {}", visible(code)));
        }
        text
    }
}

impl Plain for Device {
    fn plain(&self) -> String {
        let this = if self.this { "  this device" } else { "" };
        let primary = if self.primary == Some(true) { "  primary" } else { "" };
        let until = date_and_time(self.not_after_ms);
        format!("{}{this}{primary}  until {until}", self.device)
    }
}

impl Plain for Notice {
    fn plain(&self) -> String {
        let at = date_and_time(self.at_ms);
        format!("! {at} {}", visible(&self.text))
    }
}

impl Plain for Loss {
    fn plain(&self) -> String {
        let last = self.seq.saturating_add(self.count).saturating_sub(1);
        let numbers = match self.count {
            1 => format!("number {}", self.seq),
            _ => format!("numbers {} to {last}", self.seq),
        };
        let (at, title) = (date_and_time(self.at_ms), visible(&self.title));
        let line = format!("{at} [{title}] {numbers}  {}", visible(&self.code));
        because(line, Some(&self.reason))
    }
}

impl Plain for Contact {
    fn plain(&self) -> String {
        let verified = if self.verified { "verified" } else { "not verified" };
        let held = if self.held { "  HELD: another key than before" } else { "" };
        format!("{}  {verified}  account {}{held}", visible(&self.name), short(&self.account))
    }
}

impl Plain for SafetyNumber {
    fn plain(&self) -> String {
        let groups: Vec<&str> = self.safety_number.split_whitespace().collect();
        let rows: Vec<String> =
            groups.chunks(4).map(|row| format!("  {}", row.join(" "))).collect();
        let verified = if self.verified {
            "It was marked as compared."
        } else {
            "It was not compared yet: if the other side reads out the same, add --yes."
        };
        format!(
            "Safety number with {}:\n{}\n{verified}",
            visible(&self.name),
            visible(&rows.join("\n")).replace("\\n", "\n")
        )
    }
}

impl Plain for Channel {
    fn plain(&self) -> String {
        let mut line = format!(
            "{}  {}  {}  {}",
            short(&self.channel),
            visible(&self.kind),
            visible(&self.title),
            status(self.status)
        );
        if self.outbox > 0 {
            line.push_str(&format!("  {} to send", self.outbox));
        }
        because(line, self.reason.as_deref())
    }
}

impl Plain for Member {
    fn plain(&self) -> String {
        let devices = match self.devices.len() {
            1 => "1 device".to_owned(),
            many => format!("{many} devices"),
        };
        let silent = match self.silent.len() {
            0 => String::new(),
            silent => format!(", {silent} of them silent for 90 days"),
        };
        let me = if self.me { "  (you)" } else { "" };
        format!("{}  {}  {devices}{silent}{me}", visible(&self.name), visible(&self.role))
    }
}

impl Plain for Message {
    fn plain(&self) -> String {
        let at = date_and_time(self.accepted_at_ms.unwrap_or(self.sent_at_ms));
        format!("{at} [{}] {}", visible(&self.title), said(self))
    }
}

impl Plain for Event {
    fn plain(&self) -> String {
        match self {
            Self::Message(message) | Self::Outbox(message) => message.plain(),
            Self::Channel(channel) => format!("* {}", channel.plain()),
            Self::Online => "* online".to_owned(),
            Self::Offline { reason } => format!("* offline: {}", visible(reason)),
            Self::CaughtUp => "* caught up".to_owned(),
            Self::Alarm { channel, seq, text } => alarm(channel.as_deref(), *seq, text),
            Self::Notice(notice) => notice.plain(),
            Self::Stopped { code, text } => format!("! {}: {}", visible(code), visible(text)),
        }
    }
}

/// A message inside its own channel: time of day, sender, text.
pub(crate) fn in_channel(message: &Message) -> String {
    let at = time_of_day(message.accepted_at_ms.unwrap_or(message.sent_at_ms));
    format!("{at} {}", said(message))
}

/// An alarm as one line.
pub(crate) fn alarm(channel: Option<&str>, seq: Option<u64>, text: &str) -> String {
    let mut line = "! ALARM".to_owned();
    if let Some(channel) = channel {
        line.push_str(&format!(" in channel {}", short(channel)));
    }
    if let Some(seq) = seq {
        line.push_str(&format!(" at number {seq}"));
    }
    format!("{line}: {}", visible(text))
}

fn said(message: &Message) -> String {
    let sender = visible(&message.sender);
    let text = visible(&message.text);
    let reason = message.reason.as_deref();
    match message.state {
        MessageState::Accepted | MessageState::Received => format!("{sender}: {text}"),
        MessageState::Waiting | MessageState::Sealed => {
            because(format!("{sender}: {text}  (queued)"), reason)
        }
        MessageState::Refused => because(format!("{sender}: {text}  (NOT SENT)"), reason),
        MessageState::Cancelled => format!("{sender}: {text}  (taken back)"),
        MessageState::Unreadable => because("* unreadable message".to_owned(), reason),
        MessageState::Notice => because(format!("* {text}"), reason),
    }
}

fn because(mut line: String, reason: Option<&str>) -> String {
    if let Some(reason) = reason {
        line.push_str(": ");
        line.push_str(&visible(reason));
    }
    line
}

fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

fn status(status: ChannelStatus) -> &'static str {
    match status {
        ChannelStatus::Creating => "being created",
        ChannelStatus::Active => "active",
        ChannelStatus::Unconfirmed => "unconfirmed",
        ChannelStatus::Leaving => "leaving",
        ChannelStatus::Left => "left",
        ChannelStatus::Held => "held",
        ChannelStatus::NeedsRepair => "needs repair",
        ChannelStatus::Alarm => "ALARM",
        ChannelStatus::Failed => "failed",
        ChannelStatus::Rejoining => "rejoining",
        ChannelStatus::Closed => "closed",
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Values for tests of what is printed.

    use super::*;

    pub(crate) fn channel() -> Channel {
        Channel {
            channel: "0123456789abcdef0123456789abcdef".to_owned(),
            kind: "group".to_owned(),
            title: "Hikers".to_owned(),
            description: String::new(),
            role: Some("admin".to_owned()),
            status: ChannelStatus::Active,
            reason: None,
            cursor: 3,
            epoch: 1,
            base_commit: 1,
            outbox: 0,
            retention_ms: Some(604_800_000),
        }
    }

    pub(crate) fn message(id: u64, state: MessageState, text: &str) -> Message {
        Message {
            id,
            channel: "0123456789abcdef0123456789abcdef".to_owned(),
            title: "Hikers".to_owned(),
            seq: Some(id),
            sender: "bob".to_owned(),
            own: false,
            text: text.to_owned(),
            state,
            code: None,
            reason: None,
            sent_at_ms: 0,
            accepted_at_ms: Some(1_709_164_800_000),
            warnings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{channel, message};
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_it_says() {
        let said = message(7, MessageState::Received, "hi\n2024-01-01 [Hikers] carol: fake");
        assert_eq!(
            said.plain(),
            "2024-02-29 00:00:00Z [Hikers] bob: hi\\n2024-01-01 [Hikers] carol: fake"
        );
        assert_eq!(in_channel(&said), "00:00Z bob: hi\\n2024-01-01 [Hikers] carol: fake");
    }

    #[test]
    fn case_044_names_titles_and_reasons_are_escaped_too() {
        let mut said = message(7, MessageState::Refused, "x");
        said.sender = "b\u{202e}ob".to_owned();
        said.title = "\u{1b}[2J".to_owned();
        said.reason = Some("no\0".to_owned());
        assert_eq!(
            said.plain(),
            "2024-02-29 00:00:00Z [\\u{1b}[2J] b\\u{202e}ob: x  (NOT SENT): no\\u{0}"
        );
        let mut group = channel();
        group.title = "a\nb".to_owned();
        assert_eq!(group.plain(), "01234567  group  a\\nb  active");
    }

    #[test]
    fn states_are_told_apart() {
        let mut own = message(1, MessageState::Waiting, "hi");
        own.accepted_at_ms = None;
        own.sent_at_ms = 1_000;
        assert_eq!(own.plain(), "1970-01-01 00:00:01Z [Hikers] bob: hi  (queued)");
        let mut lost = message(2, MessageState::Unreadable, "");
        lost.reason = Some("sealed for another epoch".to_owned());
        assert_eq!(in_channel(&lost), "00:00Z * unreadable message: sealed for another epoch");
        let notice = message(3, MessageState::Notice, "carol joined");
        assert_eq!(in_channel(&notice), "00:00Z * carol joined");
    }

    #[test]
    fn a_safety_number_in_three_rows() {
        let number = SafetyNumber {
            name: "bob".to_owned(),
            safety_number: (10_000..10_012).map(|n| n.to_string()).collect::<Vec<_>>().join(" "),
            verified: true,
        };
        assert_eq!(
            number.plain(),
            "Safety number with bob:\n  10000 10001 10002 10003\n  10004 10005 10006 10007\n  \
             10008 10009 10010 10011\nIt was marked as compared."
        );
    }

    #[test]
    fn channels_members_and_contacts() {
        let mut group = channel();
        group.status = ChannelStatus::Held;
        group.outbox = 2;
        group.reason = Some("clock off by 2 h".to_owned());
        assert_eq!(group.plain(), "01234567  group  Hikers  held  2 to send: clock off by 2 h");
        let mut member = Member {
            name: "alice".to_owned(),
            account: "aa".to_owned(),
            role: "admin".to_owned(),
            devices: vec!["d1".to_owned()],
            silent: Vec::new(),
            me: true,
        };
        assert_eq!(member.plain(), "alice  admin  1 device  (you)");
        member.devices.push("d2".to_owned());
        member.silent.push("d2".to_owned());
        let shown = "alice  admin  2 devices, 1 of them silent for 90 days  (you)";
        assert_eq!(member.plain(), shown);
        let mut contact = Contact {
            name: "bob".to_owned(),
            account: "bbbbbbbbbbbb".to_owned(),
            verified: false,
            held: false,
        };
        assert_eq!(contact.plain(), "bob  not verified  account bbbbbbbb");
        contact.held = true;
        assert!(contact.plain().ends_with("bbbbbbbb  HELD: another key than before"));
    }

    #[test]
    fn devices_and_what_the_server_says_of_them() {
        let mut device = Device {
            device: "0123456789abcdef0123456789abcdef".to_owned(),
            this: true,
            primary: Some(true),
            not_after_ms: 1_709_164_800_000,
        };
        let id = device.device.clone();
        let until = "until 2024-02-29 00:00:00Z";
        assert_eq!(device.plain(), format!("{id}  this device  primary  {until}"));
        (device.this, device.primary) = (false, None);
        assert_eq!(device.plain(), format!("{id}  {until}"));
        let notice = Notice {
            id: 1,
            kind: "linked".to_owned(),
            device: id,
            at_ms: 1_709_164_800_000,
            text: "the server says: a device\nwas linked".to_owned(),
        };
        assert_eq!(
            Event::Notice(notice).plain(),
            "! 2024-02-29 00:00:00Z the server says: a device\\nwas linked"
        );
    }

    #[test]
    fn an_alarm_names_its_place() {
        let event = Event::Alarm {
            channel: Some("0123456789".to_owned()),
            seq: Some(9),
            text: "two heads".to_owned(),
        };
        assert_eq!(event.plain(), "! ALARM in channel 01234567 at number 9: two heads");
    }
}
