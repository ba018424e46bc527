//! What sessions ask of a node beside requests: who is calling, a page for a follower, and that an
//! acknowledgement is written.

use qpc_auth::Grant;
use qpc_delivery::DeliveryError;
use qpc_proto::ChannelId;
use qpc_proto::message::{Cursor, DeviceRef, Fetch, Page};
use qpc_storage::Tx;

use super::{Call, Node, auth_call};
use crate::refusal::Refusal;
use crate::router;

impl Node {
    /// One page, under the token and binding of `call`.
    pub(crate) fn page(&self, tx: &Tx<'_>, call: &Call, fetch: &Fetch) -> Result<Page, Refusal> {
        let caller = self.authorize(tx, call)?;
        router::page(self, &router::delivery_call(tx, caller, call.now_ms), fetch)
    }

    /// As [`Node::page`], with the time at which the token ends (Unix milliseconds) if the device
    /// has all rights in the channel.
    pub(crate) fn followed(
        &self,
        tx: &Tx<'_>,
        call: &Call,
        fetch: &Fetch,
    ) -> Result<(Page, Option<u64>), Refusal> {
        let grant = self.grant(tx, call)?;
        let delivery = router::delivery_call(tx, grant.device, call.now_ms);
        let page = router::page(self, &delivery, fetch)?;
        match self.delivery.head_of_member(&delivery, &fetch.channel) {
            Ok(_) => Ok((page, Some(grant.expires_at_ms))),
            Err(DeliveryError::Store(error)) => Err(error.into()),
            Err(_) => Ok((page, None)),
        }
    }

    /// Notes how far a device has read; returns in which channels. Those that it was never in count
    /// for nothing, whether there are such or not.
    pub(crate) fn acknowledge(
        &self,
        (tx, now_ms): (&Tx<'_>, u64),
        device: DeviceRef,
        cursors: &[Cursor],
    ) -> Result<Vec<ChannelId>, Refusal> {
        let call = router::delivery_call(tx, device, now_ms);
        let mut counted = Vec::with_capacity(cursors.len());
        for cursor in cursors {
            match self.delivery.ack(&call, std::slice::from_ref(cursor)) {
                Ok(()) => counted.push(cursor.channel),
                Err(DeliveryError::ChannelNotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(counted)
    }

    /// The device whose token `call` carries, if the connection is bound to it.
    pub(crate) fn authorize(&self, tx: &Tx<'_>, call: &Call) -> Result<DeviceRef, Refusal> {
        self.grant(tx, call).map(|grant| grant.device)
    }

    /// As [`Node::authorize`], with the time at which the token ends.
    pub(crate) fn grant(&self, tx: &Tx<'_>, call: &Call) -> Result<Grant, Refusal> {
        Ok(self.auth.grant(&auth_call(tx, call), &call.frame.token)?)
    }
}
