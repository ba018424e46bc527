//! Stateless resets (RFC 9000 section 10.3) that outlive the process: a server that crashed and
//! came back tells the clients of its past life at once, instead of letting them wait for the idle
//! timeout. Keeps no state: everything follows from the server's private key.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use rand_core::{OsRng, RngCore as _};

use crate::identity::ServerIdentity;

const LABEL: &[u8] = b"qpc stateless reset v1";
/// A reset is smaller than what it answers, so the bound only spares the CPU.
const BETWEEN_RESETS: Duration = Duration::from_millis(1);

/// The endpoint's side of it. Tokens are the HMAC-SHA-256 of the connection id under a key that is
/// itself an HMAC under the private key (RFC 9000 section 10.3.2).
pub(crate) fn endpoint(identity: &ServerIdentity) -> EndpointConfig {
    let private = Key::new(HMAC_SHA256, identity.key_pem().as_bytes());
    let secret = sign(&private, LABEL);
    let mut config = EndpointConfig::new(Arc::new(Key::new(HMAC_SHA256, secret.as_ref())));
    config.min_reset_interval(BETWEEN_RESETS).cid_generator(|| Box::new(AnyId));
    config
}

/// Random connection ids of 8 bytes. It takes every id for one of its own: the default one
/// recognises only those of this process, and would answer no other.
#[derive(Debug)]
struct AnyId;

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; 8];
        OsRng.fill_bytes(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
