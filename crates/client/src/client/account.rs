//! What a program may ask about the own account: its devices, its end, its phrase, what the server
//! told of it. Signs through the machine, asks through the connection.

use qpc_proto::message::{Identity, LinkDevice, LinkRelay, LinkSide, Request, Response};
use qpc_proto::{ErrorCode, RequestId};
use qpc_transport::{LinkUrl, ServerUrl};
use rand_core::{OsRng, RngCore as _};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::Client;
use crate::driver::{Ask, asks_to_wait};
use crate::error::ClientError;
use crate::link::{LinkCode, OfferedDevice, open_offer};
use crate::phrase::Phrase;
use crate::view;

impl Client {
    /// The recovery phrase, as long as it was not shown; [`Client::forget_root`] then deletes it.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn phrase(&self) -> Result<Option<Phrase>, ClientError> {
        self.host.run(|machine, _| Ok(machine.phrase())).await
    }

    /// Deletes the root here: from now on only the phrase has it.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn forget_root(&self) -> Result<(), ClientError> {
        self.host.run(|machine, step| machine.forget_root(step)).await
    }

    /// The devices of this account, by the newest list that is known here.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn devices(&self) -> Result<Vec<view::Device>, ClientError> {
        self.host.run(|machine, _| Ok(machine.list_devices())).await
    }

    /// A code for a new device to take.
    pub fn link_code(&self) -> LinkCode {
        LinkCode::generate(&mut OsRng)
    }

    /// The address that a new device takes a code at.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn link_url(&self, code: &LinkCode) -> Result<Zeroizing<String>, ClientError> {
        let server: ServerUrl = self.whoami().await?.server.parse()?;
        let url = LinkUrl { server, code: code.bytes().clone() };
        Ok(Zeroizing::new(url.to_string()))
    }

    /// What a new device offers under a code; `None` while there is nothing.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`] on a device that cannot link; [`ClientError::Alarm`] for an
    /// offer that was not sealed under the code.
    pub async fn offered(&self, code: &LinkCode) -> Result<Option<OfferedDevice>, ClientError> {
        let primary = self.host.run(|machine, _| Ok(machine.is_primary())).await?;
        if !primary {
            return Err(ClientError::NotPrimary);
        }
        let (rendezvous, side) = (code.rendezvous(), LinkSide::Old);
        let look = LinkRelay { rendezvous, side, offer: bytes::Bytes::new() };
        match self.ask(Request::LinkRelay(look)).await {
            Ok(Response::Relayed(relayed)) if relayed.sealed.is_empty() => Ok(None),
            Ok(Response::Relayed(relayed)) => open_offer(code, &relayed.sealed).map(Some),
            Ok(_) => Err(odd()),
            Err(ClientError::Refused(body)) if body.code == ErrorCode::LinkCodeInvalid => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Links an offered device, whose fingerprint a person has compared.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`]; [`ClientError::Refused`] with the server's reason.
    pub async fn link_device(
        &self,
        code: &LinkCode,
        offered: OfferedDevice,
    ) -> Result<(), ClientError> {
        let newest = self.newest().await?;
        let sealing = code.clone();
        let answer = self
            .host
            .run(move |machine, step| machine.link_answer(step, &newest, (&sealing, &offered)))
            .await?;
        let (rendezvous, device_list) = (code.rendezvous(), answer.device_list.clone());
        let link = LinkDevice { device_list, rendezvous, answer: answer.sealed };
        self.done(Request::LinkDevice(link)).await?;
        self.host.run(move |machine, step| machine.published(step, &answer.device_list)).await
    }

    /// Revokes devices, named by the beginnings of their ids; the devices that are left.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`]; [`ClientError::NotFound`]; [`ClientError::Refused`].
    pub async fn revoke_devices(
        &self,
        prefixes: Vec<String>,
    ) -> Result<Vec<view::Device>, ClientError> {
        let newest = self.newest().await?;
        let list = self
            .host
            .run(move |machine, step| machine.revocation(step, &newest, &prefixes))
            .await?;
        self.done(Request::RevokeDevice(list.clone())).await?;
        self.host.run(move |machine, step| machine.published(step, &list)).await?;
        self.devices().await
    }

    /// All that the server holds about this account, as JSON.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn export(&self) -> Result<bytes::Bytes, ClientError> {
        let answer = self.ask(Request::ExportAccount).await?;
        if let Response::Exported(json) = answer { Ok(json) } else { Err(odd()) }
    }

    /// Asks for the end of the account after the server's grace; when that is, Unix milliseconds.
    ///
    /// # Errors
    /// [`ClientError::NotPrimary`]; [`ClientError::Refused`].
    pub async fn delete_account(&self) -> Result<u64, ClientError> {
        let newest = self.newest().await?;
        let list = self.host.run(move |machine, step| machine.deletion(step, &newest)).await?;
        let answer = self.ask(Request::DeleteAccount(list)).await?;
        if let Response::DeleteAt(at_ms) = answer { Ok(at_ms) } else { Err(odd()) }
    }

    /// Takes the deletion back while the grace lasts.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn cancel_deletion(&self) -> Result<(), ClientError> {
        self.done(Request::CancelDeletion).await
    }

    /// Accepts the account that a name belongs to, after it was another's.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] when nobody of that name is held.
    pub async fn accept(&self, name: &str) -> Result<view::Contact, ClientError> {
        let name = name.to_owned();
        self.host.run(move |machine, step| machine.accept_contact(step, &name)).await
    }

    /// What the server told of this account, oldest first.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn notices(&self, unseen_only: bool) -> Result<Vec<view::Notice>, ClientError> {
        self.host.run(move |machine, step| machine.notices(step, unseen_only)).await
    }

    /// Notices up to a number were shown to the user.
    ///
    /// # Errors
    /// The database, or [`ClientError::Closed`].
    pub async fn mark_notices_seen(&self, up_to: u64) -> Result<(), ClientError> {
        self.host.run(move |machine, step| machine.mark_notices_seen(step, up_to)).await
    }

    /// The own identity, as the server shows it now.
    async fn newest(&self) -> Result<Identity, ClientError> {
        let account = self.host.run(|machine, _| Ok(machine.own_identity().account())).await?;
        let answer = self.ask(Request::DeviceList(account)).await?;
        if let Response::Devices(newest) = answer { Ok(newest.identity) } else { Err(odd()) }
    }

    async fn done(&self, request: Request) -> Result<(), ClientError> {
        let answer = self.ask(request).await?;
        if let Response::Done = answer { Ok(()) } else { Err(odd()) }
    }

    /// Asks the server, on this connection or a later one: a lost answer is asked for again with
    /// the same request id.
    pub(super) async fn ask(&self, request: Request) -> Result<Response, ClientError> {
        let mut id = [0; 16];
        OsRng.fill_bytes(&mut id);
        loop {
            let (answer, answered) = oneshot::channel();
            let ask = Ask { request: request.clone(), request_id: RequestId(id), answer };
            if self.asks.send(ask).await.is_err() {
                return Err(self.why_ended().await);
            }
            match answered.await {
                Ok(Err(ClientError::Refused(body))) => match asks_to_wait(&body) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(ClientError::Refused(body)),
                },
                Ok(answered) => return answered,
                Err(_) => {}
            }
        }
    }

    async fn why_ended(&self) -> ClientError {
        let stopped = self.host.run(|machine, _| Ok(machine.stopped_by())).await;
        match stopped {
            Ok(Some(code)) => crate::driver::stopped(code),
            Ok(None) => ClientError::Closed,
            Err(error) => error,
        }
    }
}

fn odd() -> ClientError {
    ClientError::Alarm("it answered something else than was asked".to_owned())
}
