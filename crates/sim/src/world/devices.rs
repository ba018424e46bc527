//! Accounts with several devices: linking, revoking, recovering, ending, as the programs do it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use qpc_client::Core;
use qpc_client::link::{LinkCode, Linking, open_offer};
use qpc_client::recover::Recovery;
use qpc_proto::message::{Identity, LinkDevice, LinkRelay, LinkSide, Request, Response};
use qpc_proto::{DeviceId, RequestId};
use qpc_server::Peer;
use qpc_storage::Store;
use rand_core::RngCore as _;

use super::World;
use super::client::{POOL, SimClient, options};
use super::raw::Raw;

/// What all clients know their server by.
pub(crate) const SERVER: &str = "qpc://sim:1/#00";

impl World {
    /// Links a further device to a client's account; the client must be its primary and connected.
    /// Returns the number of the client over it, offline.
    ///
    /// # Errors
    /// When either side or the server refuses.
    pub fn link(&mut self, primary: usize) -> Result<usize> {
        let (index, path) = self.next_client();
        let name = self.client(primary)?.name.clone();
        let mut store = Store::open(&path, &options())?;
        let clock = (self.now_ms, &mut self.rng);
        let linking = Linking::prepare(&mut store, (SERVER, None), clock)?;
        let peer = Peer { binding: self.binding(), device: None, address: None };
        self.ask_as(peer, (RequestId::ZERO, &linking.request()))?;
        self.answer_link(primary, linking.code())?;
        let Response::Relayed(relayed) =
            self.ask_as(peer, (RequestId::ZERO, &linking.request()))?
        else {
            bail!("no answer to the offer")
        };
        linking.finish(&mut store, (&relayed.sealed, &mut self.rng))?;
        self.devices_changed = self.devices_changed.saturating_add(1);
        self.trace.note(format!("{primary} links {index}"));
        self.clients.push(SimClient::over((name, path), Core::open(store, POOL)?));
        Ok(index)
    }

    fn answer_link(&mut self, primary: usize, code: &LinkCode) -> Result<()> {
        let rendezvous = code.rendezvous();
        let relay = LinkRelay { rendezvous, side: LinkSide::Old, offer: bytes::Bytes::new() };
        let Response::Relayed(relayed) = self.ask(primary, &Request::LinkRelay(relay))? else {
            bail!("no offer")
        };
        let offered = open_offer(code, &relayed.sealed)?;
        let newest = self.newest(primary)?;
        let answer = self.user(primary, |m, s| m.link_answer(s, &newest, (code, &offered)))?;
        let (device_list, answer) = (answer.device_list, answer.sealed);
        let link = LinkDevice { device_list: device_list.clone(), rendezvous, answer };
        self.ask(primary, &Request::LinkDevice(link))?;
        self.user(primary, |m, s| m.published(s, &device_list))
    }

    /// Revokes devices of a client's account; the client must be its primary and connected.
    ///
    /// # Errors
    /// When the client or the server refuses.
    pub fn revoke(&mut self, primary: usize, gone: &[usize]) -> Result<()> {
        let mut ids = Vec::new();
        for index in gone {
            ids.push(self.device(*index)?.to_string());
        }
        let newest = self.newest(primary)?;
        let list = self.user(primary, |m, s| m.revocation(s, &newest, &ids))?;
        self.devices_changed = self.devices_changed.saturating_add(1);
        self.trace.note(format!("{primary} revokes {gone:?}"));
        self.ask(primary, &Request::RevokeDevice(list.clone()))?;
        self.user(primary, |m, s| m.published(s, &list))
    }

    /// Recovers the account of a client with its phrase on a fresh device; every other device is
    /// revoked. Returns the number of the client over it, offline.
    ///
    /// # Errors
    /// When the client's phrase was forgotten, or the server refuses.
    pub fn recover(&mut self, lost: usize) -> Result<usize> {
        self.recover_keeping(lost, &[])
    }

    /// The same; the devices of these clients stay.
    ///
    /// # Errors
    /// When the client's phrase was forgotten, or the server refuses.
    pub fn recover_keeping(&mut self, lost: usize, keep: &[usize]) -> Result<usize> {
        let keep: Vec<String> =
            keep.iter().map(|kept| Ok(self.device(*kept)?.to_string())).collect::<Result<_>>()?;
        let (index, path) = self.next_client();
        let name = self.client(lost)?.name.clone();
        let phrase = self.user(lost, |m, _| Ok(m.phrase()))?.context("the phrase is gone")?;
        let mut store = Store::open(&path, &options())?;
        let mut recovery = Recovery::begin(&mut store, (SERVER, phrase), &mut self.rng)?;
        let peer = Peer { binding: self.binding(), device: None, address: None };
        let question = recovery.question(&peer.binding);
        let mut id = RequestId::ZERO;
        self.rng.fill_bytes(&mut id.0);
        let Response::Identity(newest) = self.ask_as(peer, (id, &question))? else {
            bail!("no identity")
        };
        let now = (&peer.binding, self.now_ms);
        let (_, request) = recovery.publish(&mut store, (&newest, &keep), now)?;
        let (id, request) = request.context("nothing to publish")?;
        self.ask_as(peer, (id, &request))?;
        recovery.finish(&mut store)?;
        self.devices_changed = self.devices_changed.saturating_add(1);
        self.trace.note(format!("{index} recovers the account of {lost}"));
        self.clients.push(SimClient::over((name, path), Core::open(store, POOL)?));
        Ok(index)
    }

    /// Asks for the deletion of a client's account; returns when it happens, Unix milliseconds.
    ///
    /// # Errors
    /// When the client or the server refuses.
    pub fn delete(&mut self, primary: usize) -> Result<u64> {
        let newest = self.newest(primary)?;
        let list = self.user(primary, |m, s| m.deletion(s, &newest))?;
        let answer = self.ask(primary, &Request::DeleteAccount(list))?;
        let Response::DeleteAt(at_ms) = answer else { bail!("asked to delete: {answer:?}") };
        Ok(at_ms)
    }

    /// Lets time pass with everybody offline: tokens would not last.
    ///
    /// # Errors
    /// What a client's step returned.
    pub fn sleep_until(&mut self, now_ms: u64) -> Result<()> {
        for index in 0..self.clients.len() {
            self.disconnect(index)?;
        }
        self.now_ms = now_ms;
        Ok(())
    }

    /// Has the server end what is due, deleted accounts among it.
    ///
    /// # Errors
    /// The server's database.
    pub fn sweep(&mut self) -> Result<()> {
        let wakes = self.server.expire(self.now_ms)?;
        self.wake(&wakes.into_iter().collect())
    }

    /// Everybody goes, and the server ends what is due after so long; the clocks stay, because
    /// OpenMLS reads this machine's.
    ///
    /// # Errors
    /// The server's database.
    pub fn expire_after(&mut self, passed_ms: u64) -> Result<()> {
        for index in 0..self.clients.len() {
            self.disconnect(index)?;
        }
        self.server.expire(self.now_ms.saturating_add(passed_ms)).map(drop)
    }

    /// A further client with an account of its own; returns its number.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn register_as(&mut self, name: &str) -> Result<usize> {
        let (index, path) = self.next_client();
        self.register((name, path))?;
        Ok(index)
    }

    /// The newest identity of a client's account, as the server has it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn newest(&mut self, index: usize) -> Result<Identity> {
        let account = self.account(index)?;
        let answer = self.ask(index, &Request::DeviceList(account))?;
        let Response::Devices(devices) = answer else { bail!("asked who: {answer:?}") };
        Ok(devices.identity)
    }

    /// The device of a client.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn device(&mut self, index: usize) -> Result<DeviceId> {
        let who = self.client(index)?.core.as_ref().context("down")?.machine().whoami();
        Ok(DeviceId::from_hex(&who.device)?)
    }

    /// Asks the server on a connection that no device has opened.
    fn ask_as(
        &mut self,
        peer: Peer,
        (request_id, request): (RequestId, &Request),
    ) -> Result<Response> {
        let mut raw = Raw::over(peer);
        let answer = self.ask_raw(&mut raw, (request_id, request))?;
        answer.map_err(|refusal| anyhow::anyhow!("refused: {refusal}"))
    }

    fn next_client(&self) -> (usize, PathBuf) {
        let index = self.clients.len();
        (index, self.dir.path().join(format!("client{index}.db")))
    }
}
