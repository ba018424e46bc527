//! Rows of links under way, by where their code leads.

use bytes::Bytes;
use qpc_proto::Digest;
use qpc_proto::message::{LinkDevice, LinkRelay};
use qpc_storage::{Number, Tx, sql};
use sql::OptionalExtension as _;

/// A link whose code has not expired.
pub(crate) struct LinkRow {
    pub(crate) offer: Bytes,
    /// Once the code was used.
    pub(crate) answer: Option<Bytes>,
    pub(crate) expires_at_ms: u64,
}

pub(crate) fn find(tx: &Tx<'_>, at: &Digest, now_ms: u64) -> sql::Result<Option<LinkRow>> {
    tx.prepare_cached(
        "SELECT offer, answer, expires_at_ms FROM links
         WHERE rendezvous = ?1 AND expires_at_ms > ?2",
    )?
    .query_row((at.as_bytes(), Number(now_ms)), |row| {
        Ok(LinkRow {
            offer: Bytes::from(row.get::<_, Vec<u8>>(0)?),
            answer: row.get::<_, Option<Vec<u8>>>(1)?.map(Bytes::from),
            expires_at_ms: row.get::<_, Number>(2)?.0,
        })
    })
    .optional()
}

/// Links whose code has not expired.
pub(crate) fn count(tx: &Tx<'_>, now_ms: u64) -> sql::Result<u64> {
    tx.prepare_cached("SELECT COUNT(*) FROM links WHERE expires_at_ms > ?1")?
        .query_row([Number(now_ms)], |row| row.get::<_, Number>(0).map(|count| count.0))
}

/// Keeps an offer; an expired link of the same code, not yet swept, gives way.
pub(crate) fn insert(tx: &Tx<'_>, relay: &LinkRelay, expires_at_ms: u64) -> sql::Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO links (rendezvous, offer, expires_at_ms) VALUES (?1, ?2, ?3)",
    )?
    .execute((relay.rendezvous.as_bytes(), relay.offer.as_ref(), Number(expires_at_ms)))
    .map(drop)
}

/// Leaves the answer to an offer; whether there was one that has not expired and had none.
pub(crate) fn answer(tx: &Tx<'_>, link: &LinkDevice, now_ms: u64) -> sql::Result<bool> {
    tx.prepare_cached(
        "UPDATE links SET answer = ?2
         WHERE rendezvous = ?1 AND answer IS NULL AND expires_at_ms > ?3",
    )?
    .execute((link.rendezvous.as_bytes(), link.answer.as_ref(), Number(now_ms)))
    .map(|answered| answered == 1)
}
