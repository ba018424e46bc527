//! What a typed line means. Only lines that begin with a slash are commands.

/// The commands, for `/help`.
pub(super) const HELP: &str = "\
* /members        who is in this channel
* /verify [NAME]  the safety number to compare
* /help           this list
* /quit           end (also: end of input)
* //text          send a message that begins with a slash";

/// One typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed<'a> {
    Nothing,
    Text(&'a str),
    Members,
    Verify(Option<&'a str>),
    Help,
    Quit,
    Unknown(&'a str),
}

impl<'a> From<&'a str> for Typed<'a> {
    fn from(line: &'a str) -> Self {
        if line.trim().is_empty() {
            return Self::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else {
            return Self::Text(line);
        };
        if command.starts_with('/') {
            return Self::Text(command);
        }
        let mut words = line.split_whitespace();
        match (words.next().unwrap_or(line), words.next(), words.next()) {
            ("/quit", None, None) => Self::Quit,
            ("/members", None, None) => Self::Members,
            ("/help", None, None) => Self::Help,
            ("/verify", name, None) => Self::Verify(name),
            (word, ..) => Self::Unknown(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_what_they_mean() {
        for (line, meaning) in [
            ("", Typed::Nothing),
            ("  ", Typed::Nothing),
            (" hello /quit", Typed::Text(" hello /quit")),
            ("//etc/hosts", Typed::Text("/etc/hosts")),
            ("/quit", Typed::Quit),
            ("/quit ", Typed::Quit),
            ("/quit now", Typed::Unknown("/quit")),
            ("/members", Typed::Members),
            ("/help", Typed::Help),
            ("/verify", Typed::Verify(None)),
            ("/verify carol", Typed::Verify(Some("carol"))),
            ("/verify carol dave", Typed::Unknown("/verify")),
            ("/", Typed::Unknown("/")),
        ] {
            assert_eq!(Typed::from(line), meaning, "{line}");
        }
    }
}
