//! Device lists of contacts that were spoken of: asked for at the server, and compared with what it
//! answers, so that it can neither hide a list nor show two. Never takes a list by itself.

use std::collections::BTreeSet;

use qpc_proto::chain::sha256;
use qpc_proto::content::DeviceListDigest;
use qpc_proto::message::Identity;
use qpc_proto::{AccountId, RequestId};

use super::contacts::{ListNumber, number_of};
use super::store::ContactRow;
use super::{Machine, Step};
use crate::error::ClientError;

/// A list of which somebody spoke.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spoken {
    pub(super) number: ListNumber,
    /// The number that was spoken of when the server was asked: an answer may be older than what
    /// was spoken of since.
    pub(super) asked: ListNumber,
}

impl Machine {
    /// Somebody spoke of a list of a contact: one newer than what is known is asked for.
    pub(super) fn heard_of(&mut self, contact: &ContactRow, number: ListNumber) {
        if number > contact.newest {
            self.ask_for_list(contact.account, number);
        }
    }

    pub(super) fn ask_for_list(&mut self, account: AccountId, number: ListNumber) {
        let spoken = self.spoken_of.entry(account).or_default();
        spoken.number = spoken.number.max(number);
    }

    /// Contacts of whom no list was seen yet: the server is asked who they are.
    pub(super) fn ask_for_lists(&mut self, step: &Step<'_>) -> Result<(), ClientError> {
        for (account, number) in step.db.contacts_without_list()? {
            self.ask_for_list(account, number);
        }
        Ok(())
    }

    /// Compares the list that a sender knows of its own account with the one known here: a server
    /// may hide a list, or show two.
    pub(super) fn compare_lists(
        &mut self,
        step: &mut Step<'_>,
        account: &AccountId,
        digest: &DeviceListDigest,
    ) -> Result<(), ClientError> {
        let number = (digest.generation, digest.version);
        let own = *account == self.profile.identity.device.account;
        let known = if own {
            self.own_due |= number > number_of(&self.own.list);
            Some((number_of(&self.own.list), self.own.digest().hash))
        } else {
            let contact = step.db.contact(account)?;
            if let Some(contact) = &contact {
                self.heard_of(contact, number);
            }
            let list = step.db.identity(account)?.map(|identity| sha256(&identity.device_list));
            contact.zip(list).map(|(contact, hash)| (contact.newest, hash))
        };
        match known {
            Some((same, hash)) if same == number && hash != digest.hash => {
                let name = self.name_of(step, account)?;
                let text = format!("there are two device lists of {name} with one number");
                self.alarm(step, None, text)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The server's answer about a contact's newest list.
    pub(super) fn devices_answer(
        &mut self,
        step: &mut Step<'_>,
        (account, excused): (&AccountId, &BTreeSet<AccountId>),
        shown: &Identity,
    ) -> Result<(), ClientError> {
        let excused = excused.contains(account);
        let spoken = self.spoken_of.remove(account).unwrap_or_default();
        let name = self.name_of(step, account)?;
        match self.check_identity(step, (account, excused), shown) {
            Ok(newest) if number_of(&newest.list) < spoken.asked => {
                let text = format!(
                    "{name} has a newer device list than the server shows: the server hides it"
                );
                self.alarm(step, None, text)
            }
            Ok(newest) => {
                if number_of(&newest.list) < spoken.number {
                    self.ask_for_list(*account, spoken.number);
                }
                Ok(())
            }
            Err(ClientError::Alarm(text)) => self.alarm(step, None, text),
            Err(error) => Err(error),
        }
    }

    /// What is on its way was asked before the newest list of an account was known; and the server
    /// would repeat the answer to a claim that it had before.
    pub(super) fn excuse(
        &mut self,
        step: &mut Step<'_>,
        account: &AccountId,
    ) -> Result<(), ClientError> {
        let asked = self.in_flight.iter().map(|work| (work.clone(), *account));
        self.excused.extend(asked);
        for intent in step.db.claims_of(account)? {
            let request_id = RequestId(step.random());
            step.db.renew_claim(intent, (account, &request_id))?;
        }
        Ok(())
    }
}
