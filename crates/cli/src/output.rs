//! The two streams a command writes: results on standard output, everything else on standard
//! error; as text, or as one JSON object a line. Never panics where a reader went away.

use std::io::Write;

use serde::Serialize;

use crate::error::CliError;
use crate::escape::{visible, visible_json};
use crate::plain::Plain;

/// Where a command's results and remarks go.
pub(crate) struct Output {
    json: bool,
    results: Box<dyn Write + Send>,
    remarks: Box<dyn Write + Send>,
}

#[derive(Serialize)]
struct Report<'a> {
    error: Reason<'a>,
}

#[derive(Serialize)]
struct Reason<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Warning<'a> {
    warning: &'a str,
}

impl Output {
    /// Standard output and standard error.
    pub(crate) fn standard(json: bool) -> Self {
        Self { json, results: Box::new(std::io::stdout()), remarks: Box::new(std::io::stderr()) }
    }

    /// Whether scripts read it.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// One result.
    pub(crate) fn record(&mut self, value: &(impl Serialize + Plain)) -> Result<(), CliError> {
        if self.json {
            return self.json_record(value);
        }
        let text = value.plain();
        self.line(&text)
    }

    /// One result as JSON, whatever the mode.
    pub(crate) fn json_record(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        let json = as_json(value)?;
        self.line(&visible_json(&json))
    }

    /// Several results, written out together.
    pub(crate) fn records(&mut self, values: &[impl Serialize + Plain]) -> Result<(), CliError> {
        values.iter().try_for_each(|value| self.record(value))?;
        self.flush()
    }

    /// One line on standard output, already escaped.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), CliError> {
        writeln!(self.results, "{text}").map_err(CliError::Output)
    }

    /// Text with its own line ends on standard output.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.results.write_all(text.as_bytes()).map_err(CliError::Output)?;
        self.flush()
    }

    /// Hands everything to whoever reads standard output.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.results.flush().map_err(CliError::Output)
    }

    /// Something worth knowing that is not a result: text for people only.
    pub(crate) fn remark(&mut self, text: &str) {
        if !self.json {
            self.complain(&format!("qpc: {}\n", visible(text)));
        }
    }

    /// Something that a person or a script must know before it goes on.
    pub(crate) fn warning(&mut self, text: &str) {
        let line = match self.json {
            true => as_json(&Warning { warning: text }).unwrap_or_default(),
            false => format!("qpc: WARNING: {}", visible(text)),
        };
        let line = if self.json { visible_json(&line).into_owned() } else { line };
        self.complain(&format!("{line}\n"));
    }

    /// An event on standard error.
    pub(crate) fn event(&mut self, event: &(impl Serialize + Plain)) {
        let text = if self.json {
            as_json(event).map(|json| visible_json(&json).into_owned()).unwrap_or_default()
        } else {
            event.plain()
        };
        self.complain(&format!("{text}\n"));
    }

    /// Why the command ends without success.
    pub(crate) fn failure(&mut self, error: &CliError) {
        let message = error.to_string();
        if self.json {
            let report = Report { error: Reason { code: error.code(), message: &message } };
            let json = as_json(&report).unwrap_or_default();
            self.complain(&format!("{}\n", visible_json(&json)));
        } else {
            self.complain(&format!("qpc: {} ({})\n", visible(&message), error.code()));
        }
    }

    /// Text as it is on standard error. That nobody reads it is no reason to stop.
    pub(crate) fn complain(&mut self, text: &str) {
        self.remarks.write_all(text.as_bytes()).ok();
        self.remarks.flush().ok();
    }
}

fn as_json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|error| CliError::Internal(format!("JSON: {error}")))
}

#[cfg(test)]
pub(crate) mod capture {
    //! An output whose bytes a test can read.

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The output, its results, its remarks.
    pub(crate) fn output(json: bool) -> (Output, Captured, Captured) {
        let (results, remarks) = (Captured::default(), Captured::default());
        let output =
            Output { json, results: Box::new(results.clone()), remarks: Box::new(remarks.clone()) };
        (output, results, remarks)
    }
}

#[cfg(test)]
mod tests {
    use qpc_client::view::{Event, MessageState};

    use super::capture::output;
    use super::*;
    use crate::plain::samples::message;

    #[test]
    fn json_is_one_line_with_the_documented_fields() {
        let (mut out, results, _) = output(true);
        out.records(&[message(7, MessageState::Received, "a\n\u{9b}b")]).unwrap();
        assert_eq!(
            results.text(),
            "{\"id\":7,\"channel\":\"0123456789abcdef0123456789abcdef\",\"title\":\"Hikers\",\
             \"seq\":7,\"sender\":\"bob\",\"own\":false,\"text\":\"a\\n\\u009bb\",\
             \"state\":\"received\",\"reason\":null,\"sent_at_ms\":0,\
             \"accepted_at_ms\":1709164800000}\n"
        );
        let page = include_str!("../../../docs/use/json.md");
        let value: serde_json::Value = serde_json::from_str(&results.text()).unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{field}`")), "{field} is not documented");
        }
    }

    #[test]
    fn failures_go_to_standard_error_in_both_shapes() {
        let error = CliError::Refused("no\u{1b}".to_owned());
        let (mut out, results, remarks) = output(false);
        out.failure(&error);
        assert_eq!(remarks.text(), "qpc: no\\u{1b} (MESSAGE_REFUSED)\n");
        assert_eq!(results.text(), "");

        let (mut out, results, remarks) = output(true);
        out.failure(&error);
        assert_eq!(
            remarks.text(),
            "{\"error\":{\"code\":\"MESSAGE_REFUSED\",\"message\":\"no\\u001b\"}}\n"
        );
        assert_eq!(results.text(), "");
    }

    #[test]
    fn remarks_are_for_people_and_events_for_everyone() {
        let (mut out, _, remarks) = output(true);
        out.remark("nothing here yet");
        out.event(&Event::Online);
        assert_eq!(remarks.text(), "{\"event\":\"online\"}\n");
    }

    #[test]
    fn a_warning_reaches_people_and_scripts() {
        for (json, line) in [
            (false, "qpc: WARNING: new\\u{1b} keys\n"),
            (true, "{\"warning\":\"new\\u001b keys\"}\n"),
        ] {
            let (mut out, _, remarks) = output(json);
            out.warning("new\u{1b} keys");
            assert_eq!(remarks.text(), line);
        }
    }

    #[test]
    fn a_reader_that_went_away_is_an_error_and_no_panic() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut out = Output { json: false, results: Box::new(Gone), remarks: Box::new(Gone) };
        assert!(matches!(out.line("x"), Err(CliError::Output(_))));
        out.failure(&CliError::Output(std::io::ErrorKind::BrokenPipe.into()));
    }
}
