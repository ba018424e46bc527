//! Where two devices that know the same one-time code meet, before one of them has an account.
//!
//! What they leave is sealed under the code, which never comes here. Nothing says who they are.

use bytes::Bytes;
use qpc_proto::limits::LINK_CODE_MS;
use qpc_proto::message::{LinkRelay, LinkSide, Relayed};

use super::{Auth, Call};
use crate::AuthError;
use crate::store::links;

/// Links under way at a time; more would let anybody fill the disk. Several times what a server's
/// limits let one address make while a code lives.
const LINKS_MAX: u64 = 8_192;

impl Auth {
    /// Takes a device's one offer, or shows what the other side left. The offer again, as after a
    /// lost reply, is a look. The answer can be read until the code ends; an answered offer can't.
    ///
    /// # Errors
    /// [`AuthError::LinkCodeInvalid`] alike for a code that no device has made its offer under, one
    /// that is used or expired, and another offer under the same code; [`AuthError::TooManyLinks`];
    /// [`AuthError::Store`].
    pub fn relay(&self, call: &Call<'_>, relay: &LinkRelay) -> Result<Relayed, AuthError> {
        let row = links::find(call.tx, &relay.rendezvous, call.now_ms)?;
        let Some(row) = row else {
            return offer(call, relay);
        };
        let other_offer = !relay.offer.is_empty() && relay.offer != row.offer;
        let sealed = match (relay.side, row.answer) {
            (LinkSide::New, answer) if !other_offer => answer.unwrap_or_default(),
            (LinkSide::Old, None) => row.offer,
            _ => return Err(AuthError::LinkCodeInvalid),
        };
        Ok(Relayed { sealed, expires_at_ms: row.expires_at_ms })
    }
}

fn offer(call: &Call<'_>, relay: &LinkRelay) -> Result<Relayed, AuthError> {
    if relay.side != LinkSide::New || relay.offer.is_empty() {
        return Err(AuthError::LinkCodeInvalid);
    }
    if links::count(call.tx, call.now_ms)? >= LINKS_MAX {
        return Err(AuthError::TooManyLinks);
    }
    let expires_at_ms = call.now_ms.saturating_add(LINK_CODE_MS);
    links::insert(call.tx, relay, expires_at_ms)?;
    Ok(Relayed { sealed: Bytes::new(), expires_at_ms })
}
