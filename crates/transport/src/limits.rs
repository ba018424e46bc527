//! Bounds of one connection in time and memory, and their translation for quinn.
//! Numbers that an operator may set; it never reads a configuration.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

/// Bounds of a listener and of each of its connections.
///
/// One connection holds at most `receive_window` bytes received and not read, `send_window` bytes
/// sent and not acknowledged, and, per stream that is being read, one unfinished frame (see
/// [`crate::FrameReceiver::limit_frames`]) and one read chunk. What clients send before they are
/// accepted takes at most 1 MiB in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Silence after which a connection is given up (RFC 9000 section 10.1). At most 24 hours.
    pub idle_timeout: Duration,
    /// Time for a whole handshake, in [`crate::Incoming::establish`].
    pub handshake_timeout: Duration,
    /// Bidirectional streams that a client may have open at once, until it is allowed others
    /// ([`crate::Connection::allow_streams`]).
    pub streams: u32,
    /// Bytes received and not read, per stream.
    pub stream_window: u32,
    /// Bytes received and not read, per connection.
    pub receive_window: u32,
    /// Bytes sent and not acknowledged, per connection.
    pub send_window: u32,
    /// Connections that wait for [`crate::Listener::accept`]; further ones are refused.
    pub incoming: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            streams: 4,
            stream_window: 256 * 1024,
            receive_window: 1024 * 1024,
            send_window: 1024 * 1024,
            incoming: 256,
        }
    }
}

/// Bounds of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Time for resolving the name, and for the handshake with each of its addresses.
    pub connect_timeout: Duration,
    /// Silence after which the connection is given up. At most 24 hours.
    pub idle_timeout: Duration,
    /// Silence after which the client sends something to keep the connection and its path alive.
    pub keep_alive: Duration,
    /// Bytes received and not read, per stream.
    pub stream_window: u32,
    /// Bytes received and not read, per connection.
    pub receive_window: u32,
    /// Bytes sent and not acknowledged, per connection.
    pub send_window: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(20),
            stream_window: 1024 * 1024,
            receive_window: 4 * 1024 * 1024,
            send_window: 2 * 1024 * 1024,
        }
    }
}

impl Limits {
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let mut config = base(self.idle_timeout);
        config
            .max_concurrent_bidi_streams(self.streams.into())
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.receive_window.into())
            .send_window(self.send_window.into());
        Arc::new(config)
    }
}

impl ClientLimits {
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let mut config = base(self.idle_timeout);
        config
            // Servers open no streams.
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .keep_alive_interval(Some(self.keep_alive))
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.receive_window.into())
            .send_window(self.send_window.into());
        Arc::new(config)
    }
}

const IDLE_MS_MAX: u32 = 24 * 60 * 60 * 1000;
/// Above half the way from quinn's first MTU (1,200) to its last (1,452): the last is probed at
/// once. A connection that only logs in then sends and takes one probe instead of four.
const MTU_STEP: u16 = 127;

fn base(idle_timeout: Duration) -> TransportConfig {
    let idle_ms = u32::try_from(idle_timeout.as_millis()).map_or(IDLE_MS_MAX, |ms| {
        // Zero would mean no timeout at all (RFC 9000 section 18.2).
        ms.clamp(1, IDLE_MS_MAX)
    });
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.minimum_change(MTU_STEP);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    config
}
