//! Other accounts: trusted on first use, their newest device lists, and what the user is told and
//! asked when keys change. A list never goes back.

use qpc_credential::{Certificate, DeviceEntry, DeviceList, PublicIdentity};
use qpc_mls::MlsError;
use qpc_proto::message::{ChannelKind, DeviceRef, Identity};
use qpc_proto::{AccountId, DeviceId, PublicKey};

use super::store::{ChannelRow, ContactRow};
use super::{Machine, Step};
use crate::error::ClientError;
use crate::view;

/// Generation and version of a device list.
pub(super) type ListNumber = (u32, u64);

pub(super) fn number_of(list: &DeviceList) -> ListNumber {
    (list.generation, list.version)
}

impl Machine {
    /// Verifies an identity that the server showed and returns the newest known: a list never goes
    /// back, unless it is excused by having been asked for before the newest came.
    pub(super) fn check_identity(
        &mut self,
        step: &mut Step<'_>,
        (account, excused): (&AccountId, bool),
        shown: &Identity,
    ) -> Result<PublicIdentity, ClientError> {
        let identity = PublicIdentity::verify(shown)
            .map_err(|_| ClientError::Alarm("an identity that does not verify".into()))?;
        if identity.account() != *account {
            return Err(ClientError::Alarm("the identity of another account".into()));
        }
        if *account == self.profile.identity.device.account {
            return self.see_own(step, (identity, excused));
        }
        let root = identity.account_key.root;
        self.meet_account(step, account, (&identity.list.name, &root))?;
        self.correct_name(step, account, &identity.list.name)?;
        self.see_list(step, (identity, excused))
    }

    /// Compares a list with the newest seen of its account, keeps it if it is newer, and returns
    /// the newest.
    pub(super) fn see_list(
        &mut self,
        step: &mut Step<'_>,
        (identity, excused): (PublicIdentity, bool),
    ) -> Result<PublicIdentity, ClientError> {
        let account = identity.account();
        let Some(known) = step.db.contact(&account)? else { return Ok(identity) };
        let number = number_of(&identity.list);
        let newest = step.db.identity(&account)?;
        let forked = number == known.newest
            && newest.as_ref().is_some_and(|newest| newest.device_list != identity.list_bytes);
        if forked || (number < known.newest && !excused) {
            let text = format!("the server shows an old or second device list of {}", known.name);
            return Err(ClientError::Alarm(text));
        }
        let unknown = newest.is_none() && number == known.newest;
        if number > known.newest || unknown {
            self.supersede(step, (&known, newest.as_ref()), &identity)?;
            return Ok(identity);
        }
        match newest.map(|newest| PublicIdentity::verify(&newest)) {
            Some(Ok(newest)) if number < known.newest => Ok(newest),
            Some(_) | None => Ok(identity),
        }
    }

    /// A newer list of a contact: kept, and what it changes is told.
    fn supersede(
        &mut self,
        step: &mut Step<'_>,
        (known, before): (&ContactRow, Option<&Identity>),
        identity: &PublicIdentity,
    ) -> Result<(), ClientError> {
        step.db.set_identity(identity)?;
        self.surveyed.clear();
        self.excuse(step, &known.account)?;
        let mut linked = false;
        for entry in &identity.list.devices {
            linked |= step.db.note_device(&known.account, &entry.device)?;
        }
        // The first list ever seen is what others are compared with.
        if known.newest == (0, 0) || known.newest == number_of(&identity.list) {
            return Ok(());
        }
        let gone =
            before.and_then(|before| PublicIdentity::verify(before).ok()).map_or(0, |before| {
                // Its end may be another: it was renewed.
                let stays = |entry: &&DeviceEntry| {
                    let held = identity.list.get(&entry.device);
                    held.is_some_and(|held| held.key == entry.key)
                };
                before.list.devices.iter().filter(|entry| !stays(entry)).count()
            });
        let name = &known.name;
        if identity.list.devices.is_empty() {
            return self.tell_of(step, known, (&format!("{name} deleted the account"), false));
        }
        if identity.list.generation > known.newest.0 {
            let text = format!(
                "{name} recovered the account: a new account key; {}",
                sameness(known.verified)
            );
            self.tell_of(step, known, (&text, true))?;
        }
        if linked {
            self.tell_of(step, known, (&linked_text(known), true))?;
        }
        if gone > 0 {
            self.tell_of(step, known, (&format!("a device of {name} was revoked"), false))?;
        }
        Ok(())
    }

    /// Tells in every channel with an account; `warns` says it once more before the next message.
    pub(super) fn tell_of(
        &self,
        step: &mut Step<'_>,
        contact: &ContactRow,
        (text, warns): (&str, bool),
    ) -> Result<(), ClientError> {
        let about = DeviceRef { account: contact.account, device: DeviceId::ZERO };
        for row in step.db.channels()? {
            if row.status.reads() && self.has_account(step, &row, &contact.account)? {
                self.notice(step, &row, (about, row.cursor, text.to_owned()))?;
            }
        }
        if warns { self.warn(step, &contact.account, text) } else { Ok(()) }
    }

    /// Notes what the user is told before the next message to an account.
    fn warn(&self, step: &Step<'_>, account: &AccountId, text: &str) -> Result<(), ClientError> {
        let before = step.db.contact(account)?.and_then(|contact| contact.changed);
        let all = before.map_or_else(|| text.to_owned(), |before| format!("{before}\n{text}"));
        Ok(step.db.set_changed(account, Some(&all))?)
    }

    fn has_account(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        account: &AccountId,
    ) -> Result<bool, ClientError> {
        if row.kind == ChannelKind::Inbox {
            return Ok(false);
        }
        match self.engine.view(step.db.0, &row.group) {
            Ok(view) => Ok(view.members.iter().any(|m| m.certificate.device().account == *account)),
            Err(MlsError::UnknownGroup) => Ok(row.peer == Some(*account)),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves that a Commit added, or that were there at the join: devices never seen of an account
    /// that was known before are told.
    pub(super) fn meet_leaves(
        &mut self,
        step: &mut Step<'_>,
        certificates: &[&Certificate],
    ) -> Result<(), ClientError> {
        let own = self.profile.identity.device.account;
        let mut known = Vec::new();
        for certificate in certificates {
            let account = certificate.device().account;
            known.push(step.db.contact(&account)?);
        }
        for (certificate, known) in certificates.iter().zip(known) {
            let DeviceRef { account, device } = certificate.device();
            if account == own {
                continue;
            }
            let root = certificate.account_key.root;
            self.meet_account(step, &account, (&certificate.name, &root))?;
            let unseen = step.db.note_device(&account, &device)?;
            let number = certificate.list_number();
            step.db.note_number(&account, number)?;
            if let Some(known) = known.as_ref().filter(|_| unseen) {
                self.tell_of(step, known, (&linked_text(known), true))?;
            }
            // What a certificate calls an account nobody knew is that account's word alone.
            if known.is_none_or(|known| number > known.newest) {
                self.excuse(step, &account)?;
                self.ask_for_list(account, number);
            }
        }
        Ok(())
    }

    /// An account that came by its own certificate may have called itself anything; the list that
    /// the server published has its name. Who lied is held under the true one.
    fn correct_name(
        &self,
        step: &mut Step<'_>,
        account: &AccountId,
        name: &str,
    ) -> Result<(), ClientError> {
        let Some(contact) = step.db.contact(account)?.filter(|contact| contact.name != name) else {
            return Ok(());
        };
        step.db.rename(account, name)?;
        step.db.set_held(account, true)?;
        for mut row in step.db.channels()? {
            if row.peer == Some(*account) {
                name.clone_into(&mut row.title);
                row.held_by = Some(*account);
                step.db.put_channel(&row)?;
            }
        }
        let text = format!(
            "who called itself {} is {name} at the server: trust nothing it wrote under that name; \
             `qpc accept {name}` lets you write to it",
            contact.name
        );
        self.tell_of(step, &contact, (&format!("ALARM: {text}"), false))?;
        self.alarm(step, None, text)
    }

    /// Notes an account at first sight. One whose name another account has is held until the user
    /// accepts it.
    pub(super) fn meet_account(
        &self,
        step: &mut Step<'_>,
        account: &AccountId,
        (name, root): (&str, &PublicKey),
    ) -> Result<(), ClientError> {
        if *account == self.profile.identity.device.account {
            return Ok(());
        }
        let namesakes = step.db.contacts_named(name)?;
        let changed = namesakes.iter().any(|other| other.account != *account);
        if step.db.meet(account, (name, root))? && changed {
            step.db.set_held(account, true)?;
            self.alarm(step, None, key_changed(name))?;
        }
        Ok(())
    }

    /// Refuses what is about an account that the user has not accepted.
    pub(super) fn refuse_held(
        &self,
        step: &Step<'_>,
        account: &AccountId,
    ) -> Result<(), ClientError> {
        match step.db.contact(account)? {
            Some(contact) if contact.held => {
                Err(ClientError::KeyChanged(key_changed(&contact.name)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Accepts the account that a name belongs to: from here on the name is its alone.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] when no account of that name waits to be accepted;
    /// [`ClientError::Usage`] when more than one does.
    pub fn accept_contact(
        &mut self,
        step: &mut Step<'_>,
        name: &str,
    ) -> Result<view::Contact, ClientError> {
        let named = step.db.contacts_named(&name.to_lowercase())?;
        let held: Vec<_> = named.into_iter().filter(|contact| contact.held).collect();
        match held.as_slice() {
            [] => Err(ClientError::NotFound(format!("nobody called {name} waits to be accepted"))),
            [contact] => {
                self.accept(step, &contact.account)?;
                let contact = step.db.contact(&contact.account)?.map(super::queries::contact_view);
                contact.ok_or(ClientError::Internal("a contact is gone"))
            }
            _ => Err(ClientError::Usage(format!(
                "more than one new account is called {name}: trust none before you asked them; \
                 `qpc contacts` shows their accounts"
            ))),
        }
    }

    pub(super) fn accept(
        &mut self,
        step: &mut Step<'_>,
        account: &AccountId,
    ) -> Result<(), ClientError> {
        let Some(contact) = step.db.contact(account)?.filter(|contact| contact.held) else {
            return Ok(());
        };
        step.db.set_held(account, false)?;
        step.db.give_name(&contact.name, account)?;
        Ok(())
    }

    /// What the user is to know before the next message in a channel: said once.
    ///
    /// # Errors
    /// The database.
    pub fn warnings(
        &self,
        step: &mut Step<'_>,
        channel: &qpc_proto::ChannelId,
    ) -> Result<Vec<String>, ClientError> {
        let changed = step.db.changed_contacts()?;
        let Some(row) = step.db.channel(channel)?.filter(|_| !changed.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for contact in changed {
            if self.has_account(step, &row, &contact.account)? {
                all.extend(contact.changed.iter().flat_map(|text| text.lines()).map(str::to_owned));
                step.db.set_changed(&contact.account, None)?;
            }
        }
        Ok(all)
    }

    /// The name of an account, or the start of its id.
    pub(super) fn name_of(
        &self,
        step: &Step<'_>,
        account: &AccountId,
    ) -> Result<String, ClientError> {
        let own = &self.profile.identity.device.account;
        if account == own {
            return Ok(self.profile.name.clone());
        }
        let contact = step.db.contact(account)?;
        Ok(contact.map_or_else(|| account.to_string(), |contact| contact.name))
    }
}

fn linked_text(contact: &ContactRow) -> String {
    format!("{} linked a new device; {}", contact.name, sameness(contact.verified))
}

fn sameness(verified: bool) -> &'static str {
    if verified {
        "the safety number that you compared is the same"
    } else {
        "the safety number is the same"
    }
}

pub(super) fn key_changed(name: &str) -> String {
    format!(
        "the name {name} now belongs to another key: compare the safety number with `qpc verify \
         {name}`, or accept it with `qpc accept {name}`, before you write"
    )
}
