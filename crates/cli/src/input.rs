//! Lines of standard input, read on a thread of its own so that a waiting read never holds up the
//! end of the program. Never keeps more than a named number of lines.

use std::io::{BufRead, Read as _};

use tokio::sync::mpsc;

use crate::error::CliError;

const LINES_AHEAD: usize = 64;
/// Longest line in bytes, without its line end.
const LONGEST_LINE: u64 = 1 << 20;

/// Standard input, line by line.
pub(crate) struct Lines(mpsc::Receiver<Result<String, CliError>>);

impl Lines {
    /// Starts reading standard input. At most once in a process.
    pub(crate) fn of_standard_input() -> Self {
        let (sender, receiver) = mpsc::channel(LINES_AHEAD);
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            while let Some(line) = read_line(&mut input).transpose() {
                let broken = line.is_err();
                if sender.blocking_send(line).is_err() || broken {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next line, without its end; `None` at the end of input. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<String, CliError>> {
        self.0.recv().await
    }
}

fn read_line(input: &mut impl BufRead) -> Result<Option<String>, CliError> {
    let mut line = Vec::new();
    let unreadable = |source| CliError::Input { what: "standard input".to_owned(), source };
    // Room for `\r\n`.
    let read = input.by_ref().take(LONGEST_LINE + 2).read_until(b'\n', &mut line);
    if read.map_err(unreadable)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    if u64::try_from(line.len()).is_ok_and(|length| length > LONGEST_LINE) {
        return Err(CliError::Usage(format!(
            "a line of standard input is longer than {LONGEST_LINE} bytes"
        )));
    }
    String::from_utf8(line)
        .map(Some)
        .map_err(|_| CliError::Usage("a line of standard input is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<String>, CliError> {
        std::iter::from_fn(|| read_line(&mut bytes).transpose()).collect()
    }

    #[test]
    fn line_ends_of_every_kind() {
        assert_eq!(all(b"one\ntwo\r\n\nlast").unwrap(), ["one", "two", "", "last"]);
        assert!(all(b"").unwrap().is_empty());
    }

    #[test]
    fn the_longest_line_and_one_byte_more() {
        let longest = usize::try_from(LONGEST_LINE).unwrap();
        for end in ["", "\n", "\r\n"] {
            let fits = format!("{}{end}", "x".repeat(longest));
            assert_eq!(all(fits.as_bytes()).unwrap().len(), 1);
            let over = format!("{}{end}", "x".repeat(longest + 1));
            assert!(matches!(all(over.as_bytes()), Err(CliError::Usage(_))));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert!(matches!(all(b"\xff\n"), Err(CliError::Usage(_))));
    }
}
