//! All SQL of the client. Rows in, rows out; no decisions.

mod channel;
mod claim;
mod contact;
mod heard;
mod intent;
mod link;
mod loss;
mod message;
mod notice;
mod profile;
mod rejoin;
mod renewal;
mod reset;
mod upkeep;
mod upload;
mod verdict;

pub(crate) use channel::{ChannelRow, KeptEntry, Status};
pub(crate) use contact::ContactRow;
pub(crate) use intent::{IntentKind, IntentRow, IntentState, SealedCommitRow};
pub(crate) use link::LinkRow;
pub(crate) use loss::LossRow;
pub(crate) use message::{MessageRow, OutboxRow, State};
pub(crate) use profile::Profile;
pub(crate) use rejoin::{RejoinRow, StandingRejoin};
pub(crate) use renewal::RenewalRow;
pub(crate) use reset::{EndedRow, TakesPlaceRow};
pub(crate) use upkeep::{ContextChange, OwnKeyPackage, UpkeepRow};
pub(crate) use upload::UploadRow;
pub(crate) use verdict::{Made, VerdictRow};

use qpc_storage::{Migration, Schema};

/// The client's tables.
pub(crate) fn schema() -> Schema {
    const MIGRATIONS: &[Migration] = &[
        Migration { name: "client", sql: include_str!("../../migrations/0001_client.sql") },
        Migration { name: "devices", sql: include_str!("../../migrations/0002_devices.sql") },
        Migration { name: "claims", sql: include_str!("../../migrations/0003_claims.sql") },
        Migration { name: "rejoin", sql: include_str!("../../migrations/0004_rejoin.sql") },
        Migration { name: "verdicts", sql: include_str!("../../migrations/0005_verdicts.sql") },
        Migration { name: "upkeep", sql: include_str!("../../migrations/0006_upkeep.sql") },
        Migration { name: "ledger", sql: include_str!("../../migrations/0007_ledger.sql") },
        Migration { name: "reset", sql: include_str!("../../migrations/0009_reset.sql") },
        Migration { name: "renewal", sql: include_str!("../../migrations/0010_renewal.sql") },
        Migration { name: "heard", sql: include_str!("../../migrations/0011_heard.sql") },
        Migration { name: "retention", sql: include_str!("../../migrations/0012_retention.sql") },
        Migration { name: "voucher", sql: include_str!("../../migrations/0013_voucher.sql") },
        Migration {
            name: "takes_place",
            sql: include_str!("../../migrations/0014_takes_place.sql"),
        },
        Migration { name: "sealed_at", sql: include_str!("../../migrations/0015_sealed_at.sql") },
        Migration { name: "ended", sql: include_str!("../../migrations/0016_ended.sql") },
    ];
    Schema { name: "client", migrations: MIGRATIONS, oldest_reader: 1 }
}

/// A database of the client on the caller's transaction.
#[derive(Clone, Copy)]
pub(crate) struct Db<'t>(pub(crate) &'t qpc_storage::Tx<'t>);

/// Byte strings in one column: a count and each with its length.
fn pack(items: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    items
        .iter()
        .fold(qpc_proto::codec::Writer::default().u32(count), |writer, item| writer.var(item))
        .finish()
}

fn unpack(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = qpc_proto::codec::Reader::new(bytes);
    let count = reader.u32().unwrap_or(0);
    (0..count).map_while(|_| reader.var(usize::MAX).ok().map(<[u8]>::to_vec)).collect()
}
