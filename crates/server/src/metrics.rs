//! What a server counts, and its text in Prometheus' format.
//!
//! Labels come from enums alone: no account, device, channel or address ever stands in one. Opens
//! no port; whoever may read the text gets it from [`crate::Server::metrics`].

use std::fmt;
use std::sync::OnceLock;

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use qpc_proto::ErrorCode;
use qpc_proto::frame::Frame;
use qpc_proto::message::Method;
use qpc_transport::TransportError;

use crate::limits::{Limiter, RefusedFor};
use crate::writer::Pages;

const METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const REQUESTS: &str = "qpc_requests_total";
const LIMITED: &str = "qpc_limited_total";
const REFUSED: &str = "qpc_connections_refused_total";
const HANDSHAKES: &str = "qpc_handshakes_failed_total";
const OPEN: &str = "qpc_connections_open";
const KEYS: &str = "qpc_limiter_keys";
const LOG_LINES: &str = "qpc_log_lines_left_out_total";
const AUDIT_LINES: &str = "qpc_audit_lines_lost_total";
const LOG_PAGES: &str = "qpc_wal_pages";
const LOG_BLOCKED: &str = "qpc_wal_blocked";
const FREE_PAGES: &str = "qpc_free_pages";
const CLOCK_JUMPS: &str = "qpc_clock_jumps_total";
const PUBLISHED: &str = "qpc_published_left_out_total";
const REDELIVERED: &str = "qpc_redelivery_alarms_total";

/// The code of a granted request, and the method of one whose method nobody knows.
const GRANTED: &str = "OK";
const UNKNOWN: &str = "Unknown";

/// The counters of one server.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    /// By method, then by code; a series exists from its first count on.
    requests: Vec<OnceLock<Counter>>,
    limited: [Counter; Limiter::ALL.len()],
    refused: [Counter; RefusedFor::ALL.len()],
    handshakes: [Counter; HandshakeFailure::ALL.len()],
    keys: [Gauge; Limiter::ALL.len()],
    open: Gauge,
    wal_pages: Gauge,
    wal_blocked: Gauge,
    free_pages: Gauge,
    clock_jumps: Counter,
    log_lines: Counter,
    audit_lines: Counter,
    published: Counter,
    redelivered: Counter,
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    Alpn,
    TlsVersion,
    Timeout,
    Other,
}

impl HandshakeFailure {
    pub(crate) const ALL: [Self; 4] = [Self::Alpn, Self::TlsVersion, Self::Timeout, Self::Other];

    fn as_str(self) -> &'static str {
        match self {
            Self::Alpn => "alpn",
            Self::TlsVersion => "tls_version",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

impl From<&TransportError> for HandshakeFailure {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever comes to it is `other`, too")]
    fn from(error: &TransportError) -> Self {
        match error {
            TransportError::Alpn => Self::Alpn,
            TransportError::TlsVersion => Self::TlsVersion,
            TransportError::Timeout => Self::Timeout,
            _ => Self::Other,
        }
    }
}

/// What [`Metrics::render`] reads from elsewhere.
pub(crate) struct Readings<'a> {
    /// Connections open.
    pub(crate) open: usize,
    /// Keys that each limiter remembers.
    pub(crate) keys: &'a [(Limiter, usize)],
    /// How the database's files stand.
    pub(crate) pages: Pages,
    /// Steps of the system's clock since the start.
    pub(crate) clock_jumps: u64,
    /// Log lines left out since the start.
    pub(crate) log_lines: u64,
    /// Lines of the audit log lost since the start.
    pub(crate) audit_lines: u64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        describe(&recorder);
        let counter = |name, label, value| {
            recorder.register_counter(&labelled(name, &[(label, value)]), &METADATA)
        };
        let gauge =
            |name, labels: &[_]| recorder.register_gauge(&labelled(name, labels), &METADATA);
        let plain = |name| recorder.register_counter(&labelled(name, &[]), &METADATA);
        Self {
            requests: (0..METHODS.saturating_mul(CODES)).map(|_| OnceLock::new()).collect(),
            limited: Limiter::ALL.map(|limiter| counter(LIMITED, "limiter", limiter.as_str())),
            refused: RefusedFor::ALL.map(|cause| counter(REFUSED, "cause", cause.as_str())),
            handshakes: HandshakeFailure::ALL
                .map(|cause| counter(HANDSHAKES, "cause", cause.as_str())),
            keys: Limiter::ALL.map(|limiter| gauge(KEYS, &[("limiter", limiter.as_str())])),
            open: gauge(OPEN, &[]),
            wal_pages: gauge(LOG_PAGES, &[]),
            wal_blocked: gauge(LOG_BLOCKED, &[]),
            free_pages: gauge(FREE_PAGES, &[]),
            clock_jumps: plain(CLOCK_JUMPS),
            log_lines: plain(LOG_LINES),
            audit_lines: plain(AUDIT_LINES),
            published: plain(PUBLISHED),
            redelivered: plain(REDELIVERED),
            recorder,
        }
    }

    /// A request was answered. `None` for a method that this server does not know.
    pub(crate) fn answered(&self, method: Option<Method>, frame: &Frame) {
        let code = match frame {
            Frame::Error(code, _) => ErrorCode::from_u16(*code),
            Frame::Reply(_) | Frame::Item(_) | Frame::End | Frame::Request(_) => None,
        };
        let slot = place(Method::ALL, method)
            .saturating_mul(CODES)
            .saturating_add(place(ErrorCode::ALL, code));
        if let Some(counter) = self.requests.get(slot) {
            counter.get_or_init(|| self.request(method, code)).increment(1);
        }
    }

    fn request(&self, method: Option<Method>, code: Option<ErrorCode>) -> Counter {
        let labels = [
            ("method", method.map_or(UNKNOWN, Method::as_str)),
            ("code", code.map_or(GRANTED, ErrorCode::as_str)),
        ];
        self.recorder.register_counter(&labelled(REQUESTS, &labels), &METADATA)
    }

    /// A limiter refused a request.
    pub(crate) fn limited(&self, limiter: Limiter) {
        count(&self.limited, limiter.index());
    }

    /// Publications were left out because a subscription was slow.
    pub(crate) fn left_out(&self, count: u64) {
        self.published.increment(count);
    }

    /// A device was given the same entry again and again.
    pub(crate) fn redelivered(&self) {
        self.redelivered.increment(1);
    }

    /// A client was refused before its handshake.
    pub(crate) fn refused(&self, cause: RefusedFor) {
        count(&self.refused, RefusedFor::ALL.iter().position(|c| *c == cause).unwrap_or(0));
    }

    /// A handshake failed.
    pub(crate) fn handshake_failed(&self, cause: HandshakeFailure) {
        let all = &HandshakeFailure::ALL;
        count(&self.handshakes, all.iter().position(|c| *c == cause).unwrap_or(0));
    }

    /// All series as text.
    pub(crate) fn render(&self, readings: &Readings<'_>) -> String {
        self.open.set(float(readings.open));
        for (limiter, keys) in readings.keys {
            if let Some(gauge) = self.keys.get(limiter.index()) {
                gauge.set(float(*keys));
            }
        }
        let Pages { log, log_blocked, free } = readings.pages;
        self.wal_pages.set(float(usize::try_from(log).unwrap_or(usize::MAX)));
        self.wal_blocked.set(if log_blocked { 1.0 } else { 0.0 });
        self.free_pages.set(f64::from(free));
        self.clock_jumps.absolute(readings.clock_jumps);
        self.log_lines.absolute(readings.log_lines);
        self.audit_lines.absolute(readings.audit_lines);
        self.recorder.handle().render()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Every method and none, every code and none.
const METHODS: usize = Method::ALL.len() + 1;
const CODES: usize = ErrorCode::ALL.len() + 1;

/// Where `item` stands in `all`; what is none of them comes after the last.
fn place<T: PartialEq>(all: &[T], item: Option<T>) -> usize {
    let found = item.and_then(|item| all.iter().position(|known| *known == item));
    found.unwrap_or(all.len())
}

fn labelled(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let label =
        |(name, value): &(&'static str, &'static str)| Label::from_static_parts(name, value);
    Key::from_parts(name, labels.iter().map(label).collect::<Vec<_>>())
}

fn count(counters: &[Counter], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.increment(1);
    }
}

/// A gauge's value; what has more than 32 bits is shown as the largest that has.
fn float(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn describe(recorder: &PrometheusRecorder) {
    for (name, text) in [
        (REQUESTS, "Requests answered, by method and by the code of the answer"),
        (LIMITED, "Requests that a limiter refused"),
        (REFUSED, "Clients refused before their handshake"),
        (HANDSHAKES, "Handshakes that failed"),
        (LOG_LINES, "Log lines left out because their cause came too often"),
        (CLOCK_JUMPS, "Steps of the system's clock that the server did not follow at once"),
        (PUBLISHED, "Publications left out because a subscription was read too slowly"),
        (REDELIVERED, "Devices that were given the same entry more than five times again"),
        (AUDIT_LINES, "Lines of the audit log that were lost because its queue was full"),
    ] {
        recorder.describe_counter(KeyName::from_const_str(name), None, text.into());
    }
    for (name, text) in [
        (OPEN, "Connections that are open, handshakes included"),
        (LOG_PAGES, "Pages of 4 KiB in the database's write-ahead log"),
        (LOG_BLOCKED, "1 while a reader keeps the write-ahead log from being cut"),
        (FREE_PAGES, "Pages of 4 KiB in the database that were left to be given back"),
        (KEYS, "Addresses, accounts or devices that a limiter remembers"),
    ] {
        recorder.describe_gauge(KeyName::from_const_str(name), None, text.into());
    }
}
