//! What the Delivery Service holds about an account, for its owner to read. Only reads; shows no
//! ciphertext, whose keys the owner has, and nothing of other accounts but their ids.

use qpc_proto::AccountId;
use qpc_proto::message::{ChannelKind, DeviceRef, EntryKind, Notice, WelcomePointer};
use qpc_storage::Tx;
use serde_json::{Value, json};

use super::Delivery;
use crate::DeliveryError;
use crate::store::account::{self, Delivered, Place};
use crate::store::channels::Channel;
use crate::store::members::{self, Member};
use crate::store::{channels, revoked, standing};

impl Delivery {
    /// All that the tables of this crate say of an account, as a JSON object. Times are Unix
    /// milliseconds; sequence numbers are joined to ranges ("3-7 9").
    ///
    /// # Errors
    /// [`DeliveryError::Store`].
    pub fn export(&self, tx: &Tx<'_>, account: &AccountId) -> Result<Value, DeliveryError> {
        let (inboxes, places): (Vec<_>, Vec<_>) = account::places(tx, account, u32::MAX)?
            .into_iter()
            .partition(|place| place.channel.kind == ChannelKind::Inbox);
        let channels = places.iter().map(|p| membership(tx, p)).collect::<Result<Vec<_>, _>>()?;
        let inboxes = inboxes.iter().map(|p| inbox(tx, p)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({
            "channels": channels,
            "inboxes": inboxes,
            "direct_channels": pairs(tx, account)?,
            "key_packages": packages(tx, account)?,
            "revoked_devices": strings(revoked::of_account(tx, account)?),
        }))
    }
}

/// One device's place in a channel, and what it and its account have posted there.
fn membership(tx: &Tx<'_>, place: &Place) -> Result<Value, DeliveryError> {
    let (channel, account) = (&place.channel, &place.device.account);
    let of_account = |all: Vec<(AccountId, u64)>| {
        all.into_iter().find(|(other, _)| other == account).map(|(_, seq)| seq)
    };
    Ok(json!({
        "channel": channel.id.to_string(),
        "kind": match channel.kind {
            ChannelKind::Direct => "direct",
            ChannelKind::Group => "group",
            ChannelKind::Inbox => "inbox",
        },
        "device": place.device.device.to_string(),
        "place": cursor(tx, (channel, &place.device))?,
        "posted": ranges(&account::posted_by(tx, channel.no, &place.device.device)?),
        "commits_of_account": ranges(&account::commits_of(tx, channel.no, account)?),
        "leave_of_account": leave(tx, place)?,
        "rejoin": rejoin(tx, place)?,
        "verdicts_on": ranges(&standing::verdicts_of(tx, channel.no, &place.device.device)?),
        "device_list_of_account": of_account(revoked::lists(tx, channel.no)?),
    }))
}

fn leave(tx: &Tx<'_>, place: &Place) -> Result<Option<u64>, DeliveryError> {
    let leaves = channels::leaves(tx, place.channel.no)?;
    let own = leaves.iter().find(|leave| leave.account == place.device.account);
    Ok(own.map(|leave| leave.seq))
}

fn rejoin(tx: &Tx<'_>, place: &Place) -> Result<Option<Value>, DeliveryError> {
    let rejoin = standing::rejoin_of(tx, (place.channel.no, &place.device))?;
    Ok(rejoin.map(|rejoin| {
        json!({
            "seq": rejoin.seq,
            "at_ms": rejoin.accepted_at_ms,
            "join_seq": rejoin.join_seq,
        })
    }))
}

fn cursor(tx: &Tx<'_>, (channel, device): (&Channel, &DeviceRef)) -> Result<Value, DeliveryError> {
    let Some(member) = members::find(tx, channel.no, device)? else { return Ok(Value::Null) };
    let Member { join_seq, read_from, acked_seq, last_base, last_message_id, removal, .. } = member;
    let Member { held, pace, .. } = member;
    Ok(json!({
        "join_seq": join_seq,
        "read_from": read_from,
        "acked_seq": acked_seq,
        "last_base": last_base,
        "last_message_id": last_message_id.map(|id| id.to_string()),
        "last_seq": member.last_seq,
        "messages_on_last_base": member.base_entries,
        "bytes_held": json!({
            "messages": held.application, "commits": held.commits, "statements": held.statements,
        }),
        "commits": json!({
            "last_seq": pace.seq,
            "turns_taken": pace.turns.taken,
            "turns_since_ms": pace.turns.since_ms,
            "wait_ms": pace.wait_ms,
            "reserved_at_ms": pace.reserved_at_ms,
        }),
        "removal": removal.map(|removal| json!({
            "seq": removal.seq, "at_ms": removal.at_ms, "confirmed": removal.confirmed,
        })),
    }))
}

fn inbox(tx: &Tx<'_>, place: &Place) -> Result<Value, DeliveryError> {
    let entries: Vec<_> = account::inbox(tx, place.channel.no)?.iter().map(delivered).collect();
    Ok(json!({
        "device": place.device.device.to_string(),
        "place": cursor(tx, (&place.channel, &place.device))?,
        "entries": entries,
    }))
}

fn delivered(entry: &Delivered) -> Value {
    let says = match entry.kind {
        EntryKind::Welcome => WelcomePointer::decode(&entry.payload).ok().map(|pointer| {
            json!({
                "invitation_to": pointer.channel.to_string(),
                "inviter": pointer.inviter.to_string(),
            })
        }),
        EntryKind::Notice => Notice::decode(&entry.payload).ok().map(|notice| {
            json!({ "notice": format!("{:?}", notice.kind), "device": notice.device.to_string() })
        }),
        EntryKind::Application | EntryKind::Commit | EntryKind::Statement => None,
    };
    json!({ "seq": entry.seq, "accepted_at_ms": entry.accepted_at_ms, "says": says })
}

fn pairs(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, DeliveryError> {
    let mut pairs = Vec::new();
    for (channel, other) in account::pairs(tx, account)? {
        pairs.push(json!({ "channel": channel.to_string(), "with": other.to_string() }));
    }
    Ok(pairs)
}

fn packages(tx: &Tx<'_>, account: &AccountId) -> Result<Vec<Value>, DeliveryError> {
    let of_device = |held: account::Packages| {
        json!({
            "device": held.device.to_string(),
            "waiting": held.waiting,
            "spent": held.spent,
            "last_upload_ms": held.last_upload_ms,
        })
    };
    Ok(account::packages(tx, account)?.into_iter().map(of_device).collect())
}

fn strings(ids: Vec<impl ToString>) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Ascending numbers as ranges, so that many messages in a row take little room.
fn ranges(seqs: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for seq in seqs {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*seq) => *last = *seq,
            Some(_) | None => runs.push((*seq, *seq)),
        }
    }
    let run = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_are_one_range() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1-3 5 7-8");
    }
}
