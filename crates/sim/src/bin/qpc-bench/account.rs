//! The clients of a measurement: accounts with one device each, and what they ask over the wire.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use qpc_credential::{
    AccountKey, Certificate, CertificateBody, DeviceEntry, DeviceList, account_id,
};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, Method, Register, Request, Response};
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
        let answer = call(&connection, &Token::NONE, &request).await?;
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
        let (connection, _) = self.open(url).await?;
        connection.close(0, "");
        Ok(())
    }

    /// Connects and logs in; returns the connection with its access token.
    ///
    /// # Errors
    /// As [`Account::log_in`].
    pub(crate) async fn open(&self, url: &ServerUrl) -> Result<(Connection, Token)> {
        let connection = connect(url, &ClientLimits::default()).await?;
        let token = self.log_in_on(&connection).await?;
        Ok((connection, token))
    }

    /// Logs in on a connection; returns the access token.
    ///
    /// # Errors
    /// As [`Account::log_in`].
    pub(crate) async fn log_in_on(&self, connection: &Connection) -> Result<Token> {
        let proof = self.prove(&connection.binding(), Purpose::Login);
        let request = Request::Login(Login { device: self.device, proof });
        let Response::Tokens(tokens) = call(connection, &Token::NONE, &request).await? else {
            bail!("an odd answer to a login")
        };
        check(&tokens)?;
        Ok(tokens.access_token.clone())
    }

    /// The device as groups know it.
    pub(crate) fn mls_device(&self) -> qpc_mls::Device {
        let body =
            CertificateBody { list_version: 1, entry: self.entry(), name: self.name.clone() };
        let certificate =
            Certificate::sign(&self.account_key(), &body, |tbs| sign(&self.account, tbs));
        qpc_mls::Device::new(self.device, certificate.to_vec(), self.device_key.clone())
    }

    fn account_key(&self) -> Bytes {
        let account_key =
            AccountKey { root: public(&self.root), generation: 1, key: public(&self.account) };
        account_key.sign(|tbs| sign(&self.root, tbs))
    }

    fn entry(&self) -> DeviceEntry {
        DeviceEntry {
            device: self.device.device,
            key: public(&self.device_key),
            not_after_ms: u64::MAX,
        }
    }

    fn registration(&self, binding: &ChannelBinding, invite: Bytes) -> Request {
        let list = DeviceList {
            account: self.device.account,
            generation: 1,
            version: 1,
            name: self.name.clone(),
            devices: vec![self.entry()],
        };
        Request::Register(Register {
            name: self.name.clone(),
            account_key: self.account_key(),
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

/// One request on a stream of its own.
///
/// # Errors
/// When the connection fails or the server refuses.
pub(crate) async fn call(
    connection: &Connection,
    token: &Token,
    request: &Request,
) -> Result<Response> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.send(&frame(token, request)).await?;
    sender.finish().await?;
    let answer = receiver.next().await?.context("the stream ended without an answer")?;
    read(request.method(), answer)
}

/// A request's frame, under a request id made of its bytes where it needs one.
pub(crate) fn frame(token: &Token, request: &Request) -> Frame {
    let (method, body) = (request.method(), request.encode());
    let mut request_id = RequestId::ZERO;
    if method.takes_request_id() {
        request_id.0 = chain::sha256(&body).short();
    }
    let token = token.clone();
    Frame::Request(RequestFrame { method: method.as_u16(), token, request_id, body })
}

/// What a frame answers.
///
/// # Errors
/// When it refuses, or is no answer.
pub(crate) fn read(method: Method, frame: Frame) -> Result<Response> {
    match frame {
        Frame::Reply(body) | Frame::Item(body) => Ok(Response::decode(method, body)?),
        Frame::Error(code, _) => bail!("the server refuses {} with {code}", method.as_str()),
        Frame::Request(_) | Frame::End => bail!("a frame that is no answer"),
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
