//! Ctrl-C and SIGTERM as a wish to end in order. Never ends the process itself.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// The signals that end `recv --follow` and `chat`.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// Takes the signals over from their default effect.
    pub(crate) fn listen() -> Result<Self, CliError> {
        let take =
            |kind| signal(kind).map_err(|error| CliError::Internal(format!("no signals: {error}")));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    /// Resolves when one arrived. Cancel-safe.
    pub(crate) async fn arrived(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
