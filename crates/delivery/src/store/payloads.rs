//! Payloads of entries: alone in a row, or with those that were posted one behind the other in the
//! same channel. Knows nothing of what they say.

use std::fmt;

use bytes::{Buf as _, Bytes};
use qpc_proto::Malformed;
use qpc_storage::{Tx, sql};
use sql::OptionalExtension as _;

use super::column::decoded;

/// Payloads in one row of several, and their bytes with their lengths: whoever reads one reads the
/// row, and a row goes with its last entry. A larger payload is the only one in its row.
const PLACES_MAX: u32 = 64;
const RUN_BYTES: usize = 64 * 1_024;
/// What stands before a payload in a row of several.
const LENGTH_BYTES: usize = 4;

/// A row that is being filled.
struct Run {
    no: i64,
    /// Of the entry in the first place.
    id: i64,
    places: u32,
    bytes: Vec<u8>,
}

/// Puts payloads in. What it has not written yet is lost with it.
pub(super) struct Puts<'a> {
    insert: sql::CachedStatement<'a>,
    run: Option<Run>,
    /// Whether payloads share rows.
    shared: bool,
}

impl fmt::Debug for Puts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Puts")
    }
}

impl<'a> Puts<'a> {
    /// `shared`: payloads share rows until [`Puts::finish`]; else each has its own, at once.
    pub(super) fn new(tx: &'a Tx<'a>, shared: bool) -> sql::Result<Self> {
        let insert = tx.prepare_cached("INSERT INTO payloads (id, payload) VALUES (?1, ?2)")?;
        Ok(Self { insert, run: None, shared })
    }

    /// The place that a payload of `len` bytes gets, of a channel's next entry; none: a row of its
    /// own.
    pub(super) fn place(&mut self, no: i64, len: usize) -> sql::Result<Option<u32>> {
        if !self.shared {
            return Ok(None);
        }
        let fits = |run: &Run| {
            let bytes = run.bytes.len().saturating_add(LENGTH_BYTES).saturating_add(len);
            run.no == no && run.places < PLACES_MAX && bytes <= RUN_BYTES
        };
        match &self.run {
            Some(run) if fits(run) => Ok(Some(run.places)),
            Some(_) | None => self.finish().map(|()| Some(0)),
        }
    }

    /// Puts in the payload of the entry of row `id`, in the place that it was given.
    pub(super) fn put(
        &mut self,
        (no, id): (i64, i64),
        place: Option<u32>,
        payload: &[u8],
    ) -> sql::Result<()> {
        let Some(place) = place else {
            return self.insert.execute((id, payload)).map(drop);
        };
        let bytes = || Vec::with_capacity(RUN_BYTES / 4);
        let run = self.run.get_or_insert_with(|| Run { no, id, places: 0, bytes: bytes() });
        // Rows of the log are numbered one by one within a transaction that only appends.
        if place != run.places || run.id.checked_add(place.into()) != Some(id) {
            return decoded(0, Err(Malformed("numbers of the log")));
        }
        let len = decoded(1, u32::try_from(payload.len()).map_err(|_| Malformed("a payload")))?;
        run.bytes.extend_from_slice(&len.to_be_bytes());
        run.bytes.extend_from_slice(payload);
        run.places = run.places.saturating_add(1);
        Ok(())
    }

    /// Writes what has been put in.
    pub(super) fn finish(&mut self) -> sql::Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.insert.execute((run.id, run.bytes)).map(drop)
    }
}

/// Reads payloads of a channel's entries in their order: a row of several once.
pub(super) struct Takes<'a> {
    select: sql::CachedStatement<'a>,
    last: Option<Row>,
}

struct Row {
    id: i64,
    /// What comes from this place on.
    place: u32,
    rest: Bytes,
}

impl<'a> Takes<'a> {
    pub(super) fn new(tx: &'a Tx<'a>) -> sql::Result<Self> {
        let select = tx.prepare_cached("SELECT payload FROM payloads WHERE id = ?1")?;
        Ok(Self { select, last: None })
    }

    /// The payload of the entry of row `id` in this place; none where it has gone.
    pub(super) fn take(&mut self, id: i64, place: Option<u32>) -> sql::Result<Option<Bytes>> {
        let Some(place) = place else { return self.row(id) };
        let id = id.saturating_sub(place.into());
        let mut row = match self.last.take().filter(|row| row.id == id && row.place <= place) {
            Some(row) => row,
            None => match self.row(id)? {
                Some(rest) => Row { id, place: 0, rest },
                None => return Ok(None),
            },
        };
        loop {
            let payload = decoded(0, next(&mut row.rest))?;
            let found = row.place == place;
            row.place = row.place.saturating_add(1);
            if found {
                self.last = Some(row);
                return Ok(Some(payload));
            }
        }
    }

    fn row(&mut self, id: i64) -> sql::Result<Option<Bytes>> {
        let payload = self.select.query_row([id], |row| row.get::<_, Vec<u8>>(0)).optional()?;
        Ok(payload.map(Bytes::from))
    }
}

/// The next payload of a row of several.
fn next(rest: &mut Bytes) -> Result<Bytes, Malformed> {
    let malformed = Malformed("payloads in a row");
    let len = rest.try_get_u32().ok().and_then(|len| usize::try_from(len).ok());
    let len = len.filter(|len| *len <= rest.len()).ok_or(malformed)?;
    Ok(rest.split_to(len))
}
