//! Records every event and span of this process at every level, those of other threads and of
//! crates that use `log` instead of `tracing` among them.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

static RECORDED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Recorder;

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        RECORDED.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Recorder {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl log::Log for Recorder {
    /// OpenMLS writes whole group contexts below `warn`, titles among them. Both programs cap it
    /// there, and neither takes what comes by `log`.
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        !metadata.target().starts_with("openmls") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            drop(writeln!(&mut Self, "{} {}: {}", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Begins to record, once for all tests of this process.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(Recorder)
            .init();
        log::set_boxed_logger(Box::new(Recorder)).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// All that was recorded so far.
pub(crate) fn recorded() -> Vec<u8> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[test]
fn what_is_logged_is_recorded_at_every_level_and_in_every_form() {
    use crate::needles::Needles;

    start();
    let (told, listed) = ([0xa7_u8; 20], [0xb8_u8; 20]);
    let escaped = bytes::Bytes::from_static(&[0xc9; 20]);
    let hex: String = told.iter().map(|byte| format!("{byte:02x}")).collect();
    tracing::trace!(token = %hex, "a planted secret");
    tracing::trace_span!("planted", ?listed).in_scope(|| ());
    log::trace!("a planted secret: {escaped:?}");
    let mut needles = Needles::default();
    needles.bytes("told", &told);
    needles.bytes("listed", &listed);
    needles.bytes("escaped", &escaped);
    let found = needles.found_in(&recorded());
    assert_eq!(found.len(), 3, "{found:?}");
}
