//! A device that waits to be linked, as its database has it: the offer is on disk before anybody
//! hears of it, and the answer makes the database that of a device of the account.

use bytes::Bytes;
use qpc_proto::RequestId;
use qpc_proto::limits::LINK_CODE_MS;
use qpc_proto::message::{LinkRelay, LinkSide, Request};
use qpc_storage::{Outcome, Store};
use rand_core::{CryptoRng, RngCore};

use super::{LinkCode, Offer, open_answer};
use crate::core::done;
use crate::error::ClientError;
use crate::keys::Keys;
use crate::machine::{Db, LinkRow, Profile};

/// A device that waits to be linked, as its database has it.
#[derive(Debug, Clone)]
pub struct Linking {
    code: LinkCode,
    offer: Offer,
    sealed: Bytes,
    server: String,
    made_at_ms: u64,
}

impl Linking {
    /// Makes an offer and keeps it; an earlier one to the same server goes on while its code lives,
    /// unless another code is given. A code comes from the primary device, or is made here.
    ///
    /// # Errors
    /// [`ClientError::AccountExists`] when the database has an account, or the database.
    pub fn prepare<R: RngCore + CryptoRng + Send>(
        store: &mut Store,
        (server, code): (&str, Option<LinkCode>),
        (now_ms, rng): (u64, &mut R),
    ) -> Result<Self, ClientError> {
        let outcome: Outcome<Self, ClientError> = store.transact(|tx| {
            let db = Db(tx);
            refuse_account(&db)?;
            if let Some(row) = db.link_offer()?
                && row.server == server
                && now_ms < row.made_at_ms.saturating_add(LINK_CODE_MS)
                && code.as_ref().is_none_or(|code| code.0 == row.code)
            {
                return Ok(Self::of(row));
            }
            let offer = Offer::new(rng);
            let code = code.unwrap_or_else(|| LinkCode::generate(rng));
            let row = LinkRow {
                server: server.to_owned(),
                code: code.0.clone(),
                device: offer.device,
                seed: offer.seed.clone(),
                sealed: offer.seal(&code, rng)?,
                made_at_ms: now_ms,
            };
            db.put_link_offer(&row)?;
            Ok(Self::of(row))
        })?;
        done(outcome)
    }

    fn of(row: LinkRow) -> Self {
        Self {
            code: LinkCode(row.code),
            offer: Offer { device: row.device, seed: row.seed },
            sealed: row.sealed.into(),
            server: row.server,
            made_at_ms: row.made_at_ms,
        }
    }

    /// The code to be carried to the primary device.
    pub fn code(&self) -> &LinkCode {
        &self.code
    }

    /// What the primary device must show before it links this one.
    pub fn fingerprint(&self) -> String {
        self.offer.offered().fingerprint()
    }

    /// When the code ends, Unix milliseconds.
    pub fn ends_at_ms(&self) -> u64 {
        self.made_at_ms.saturating_add(LINK_CODE_MS)
    }

    /// Leaves the offer; asks for the answer.
    pub fn request(&self) -> Request {
        Request::LinkRelay(LinkRelay {
            rendezvous: self.code.rendezvous(),
            side: LinkSide::New,
            offer: self.sealed.clone(),
        })
    }

    /// Takes the answer: from here on the database is that of a device of the account.
    ///
    /// # Errors
    /// [`ClientError::Alarm`] when the answer is not for this device, or the database.
    pub fn finish<R: RngCore + CryptoRng + Send>(
        &self,
        store: &mut Store,
        (sealed, rng): (&[u8], &mut R),
    ) -> Result<(), ClientError> {
        let linked = open_answer(&self.code, &self.offer, sealed)?;
        let mut request = [0; 16];
        rng.fill_bytes(&mut request);
        let profile = Profile {
            name: linked.name,
            server: self.server.clone(),
            keys: Keys::linked(self.offer.seed.clone()),
            identity: linked.identity,
            register_request: RequestId(request),
            registered: true,
            incarnation: None,
        };
        let outcome: Outcome<(), ClientError> = store.transact(|tx| {
            refuse_account(&Db(tx))?;
            Db(tx).insert_linked(&profile)?;
            Ok(Db(tx).delete_link_offer()?)
        })?;
        done(outcome)
    }
}

fn refuse_account(db: &Db<'_>) -> Result<(), ClientError> {
    match db.profile()? {
        None => Ok(()),
        Some(profile) if profile.registered => Err(ClientError::AccountExists),
        Some(profile) => Err(ClientError::Usage(format!(
            "the registration of {} is not finished here: delete it with `qpc logout --wipe`, or \
             use another --home",
            profile.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use rand_core::OsRng;

    use super::super::tests::{NOW, answered};
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let home = crate::Home::new(dir.path().join("home"));
        let store = home.open_new(&crate::Protection::KeyFile).unwrap();
        (dir, store)
    }

    #[test]
    fn an_offer_goes_on_while_its_code_lives_and_then_begins_again() {
        let (_dir, mut store) = store();
        let server = "qpc://h:1/#00";
        let mut begin = |at: (&str, Option<LinkCode>), now: u64| {
            Linking::prepare(&mut store, at, (now, &mut OsRng)).unwrap()
        };
        let first = begin((server, None), NOW);
        assert!(!format!("{first:?}").contains(&*first.code.text()));
        let again = begin((server, None), NOW + LINK_CODE_MS - 1);
        assert_eq!((&again.sealed, again.ends_at_ms()), (&first.sealed, first.ends_at_ms()));
        for other in [
            begin(("qpc://other:1/#00", None), NOW),
            begin((server, Some(LinkCode::generate(&mut OsRng))), NOW),
            begin((server, None), NOW + LINK_CODE_MS),
        ] {
            assert_ne!(other.fingerprint(), first.fingerprint());
        }
    }

    #[test]
    fn a_linked_home_has_an_account_and_links_no_more() {
        let (_dir, mut store) = store();
        let linking =
            Linking::prepare(&mut store, ("qpc://h:1/#00", None), (NOW, &mut OsRng)).unwrap();
        let offered = linking.offer.offered();
        let answer = answered(&linking.code, &offered);
        linking.finish(&mut store, (&answer.sealed, &mut OsRng)).unwrap();
        let refused =
            Linking::prepare(&mut store, ("qpc://h:1/#00", None), (NOW, &mut OsRng)).unwrap_err();
        assert_eq!(refused.code(), "ACCOUNT_EXISTS");
        let core = crate::Core::open(store, crate::machine::Pool::default()).unwrap();
        let devices = core.machine().list_devices();
        let this: Vec<_> = devices.iter().filter(|device| device.this).collect();
        assert_eq!((devices.len(), this.len()), (2, 1));
        assert_eq!((this[0].primary, core.machine().is_primary()), (Some(false), false));
        assert!(core.machine().phrase().is_none());
    }
}
