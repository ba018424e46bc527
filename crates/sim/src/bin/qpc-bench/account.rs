//! The clients of a measurement: accounts with one device each, and what they ask over the wire.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{AccountKey, DeviceEntry, DeviceList, account_id};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, Register, Request, Response};
use qpc_proto::{DeviceId, PublicKey, RequestId, Signature, Token, chain};
use qpc_transport::{ClientLimits, Connection, ServerUrl, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::RngCore as _;

/// An account's keys, and its first device.
pub(crate) struct Account {
    root: SigningKey,
    account: SigningKey,
    device_key: SigningKey,
    device: DeviceRef,
    name: String,
}

impl Account {
    /// Fresh keys under the name `bench{number}`.
    pub(crate) fn new(number: usize, rng: &mut ChaCha8Rng) -> Self {
        let (root, account, device_key) = (key(rng), key(rng), key(rng));
        let mut device = DeviceId([0; 16]);
        rng.fill_bytes(&mut device.0);
        Self {
            device: DeviceRef { account: account_id(&public(&root)), device },
            root,
            account,
            device_key,
            name: format!("bench{number}"),
        }
    }

    /// Makes the account at a server.
    ///
    /// # Errors
    /// When there is no connection or the server refuses.
    pub(crate) async fn register(&self, url: &ServerUrl, invite: Bytes) -> Result<()> {
        let connection = connect(url, &ClientLimits::default()).await?;
        let request = self.registration(&connection.binding(), invite);
        let answer = call(&connection, &request).await?;
        connection.close(0, "");
        let odd = "an odd answer to a registration";
        ensure!(matches!(answer, Response::Registered(id) if id == self.device.account), odd);
        Ok(())
    }

    /// Connects, logs in, checks the answer and hangs up.
    ///
    /// # Errors
    /// When there is no connection, or no fresh tokens come.
    pub(crate) async fn log_in(&self, url: &ServerUrl) -> Result<()> {
        let connection = connect(url, &ClientLimits::default()).await?;
        let proof = self.prove(&connection.binding(), Purpose::Login);
        let request = Request::Login(Login { device: self.device, proof });
        let answer = call(&connection, &request).await?;
        connection.close(0, "");
        let Response::Tokens(tokens) = answer else { bail!("an odd answer to a login") };
        check(&tokens)
    }

    fn registration(&self, binding: &ChannelBinding, invite: Bytes) -> Request {
        let account_key =
            AccountKey { root: public(&self.root), generation: 1, key: public(&self.account) };
        let entry = DeviceEntry {
            device: self.device.device,
            key: public(&self.device_key),
            not_after_ms: u64::MAX,
        };
        let list = DeviceList {
            account: self.device.account,
            generation: 1,
            version: 1,
            name: self.name.clone(),
            devices: vec![entry],
        };
        Request::Register(Register {
            name: self.name.clone(),
            account_key: account_key.sign(|tbs| sign(&self.root, tbs)),
            device_list: list.sign(|tbs| sign(&self.account, tbs)),
            device: self.device.device,
            proof: self.prove(binding, Purpose::Register),
            invite,
            proof_of_work: None,
        })
    }

    fn prove(&self, binding: &ChannelBinding, purpose: Purpose) -> Signature {
        sign(&self.device_key, &binding.to_be_signed(&self.device, purpose))
    }
}

fn check(tokens: &LoginAnswer) -> Result<()> {
    let (access, refresh) = (&tokens.access_token, &tokens.refresh_token);
    if access.as_bytes() == Token::NONE.as_bytes() || access.as_bytes() == refresh.as_bytes() {
        bail!("a login without fresh tokens");
    }
    if tokens.access_expires_at_ms <= tokens.now_ms {
        bail!("a login with tokens that have ended");
    }
    Ok(())
}

/// One request before any login, on a stream of its own.
async fn call(connection: &Connection, request: &Request) -> Result<Response> {
    let body = request.encode();
    let mut request_id = RequestId::ZERO;
    if request.method().takes_request_id() {
        request_id.0 = chain::sha256(&body).short();
    }
    let method = request.method();
    let frame = RequestFrame { method: method.as_u16(), token: Token::NONE, request_id, body };
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.send(&Frame::Request(frame)).await?;
    sender.finish().await?;
    match receiver.next().await?.context("the stream ended without an answer")? {
        Frame::Reply(body) => Ok(Response::decode(method, body)?),
        Frame::Error(code, _) => bail!("the server refuses {} with {code}", method.as_str()),
        Frame::Request(_) | Frame::Item(_) | Frame::End => bail!("a frame that is no answer"),
    }
}

fn key(rng: &mut ChaCha8Rng) -> SigningKey {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    SigningKey::from_bytes(&seed)
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(key.sign(message).to_bytes())
}
