//! Making an account: keys are on disk before the server hears of them, so that a lost answer is
//! asked for again with the same request.

use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{Login, ProofOfWork, Register, Request, Response};
use qpc_proto::{AccountId, DeviceId, ErrorCode, ErrorDetail, RequestId, Token};
use qpc_storage::{Outcome, Store};
use qpc_transport::{ClientLimits, Connection, ServerUrl, connect};
use rand_core::{CryptoRng, OsRng, RngCore};

use crate::clock::now_ms;
use crate::core::done;
use crate::driver::{asks_to_wait, call};
use crate::error::ClientError;
use crate::home::{Home, Protection};
use crate::keys::Keys;
use crate::machine::{Db, Profile};

/// What an account is made of.
#[derive(Debug)]
pub struct Registration {
    /// The wished name.
    pub name: String,
    /// `qpc://HOST:PORT/#FINGERPRINT`, or an invite.
    pub server: String,
    /// How the database key is kept.
    pub protection: Protection,
}

/// An account in a database, registered or about to be.
#[derive(Debug)]
pub struct Account {
    profile: Profile,
}

impl Account {
    /// The account in a database; makes its keys if there is none. `server` is kept for later
    /// connections; an earlier attempt of the same name is taken up again.
    ///
    /// # Errors
    /// [`ClientError::AccountExists`] when another is there, or the database.
    pub fn prepare<R: RngCore + CryptoRng + Send>(
        store: &mut Store,
        (name, server): (&str, &str),
        (now_ms, rng): (u64, &mut R),
    ) -> Result<Self, ClientError> {
        let name = name.trim().to_lowercase();
        let outcome: Outcome<Profile, ClientError> = store.transact(|tx| {
            let db = Db(tx);
            if let Some(mut profile) = db.profile()? {
                if profile.registered {
                    return Err(ClientError::AccountExists);
                }
                if profile.keys.root.is_none() {
                    return Err(ClientError::Usage(format!(
                        "the recovery of {} is not finished here: run `qpc recover` again, or \
                         delete it with `qpc logout --wipe`",
                        profile.name
                    )));
                }
                if profile.name != name {
                    // Its keys may be an account's whose answer was lost: never deleted unasked.
                    return Err(ClientError::Usage(format!(
                        "the registration of {} is not finished here: run it again, or delete it \
                         with `qpc logout --wipe`",
                        profile.name
                    )));
                }
                // The earlier attempt may have failed because its address was wrong.
                db.set_server(server)?;
                server.clone_into(&mut profile.server);
                return Ok(profile);
            }
            let keys = Keys::generate(rng);
            let (mut device, mut request) = ([0; 16], [0; 16]);
            rng.fill_bytes(&mut device);
            rng.fill_bytes(&mut request);
            let identity = keys.identity(&name, DeviceId(device), now_ms);
            let profile = Profile {
                identity: identity.ok_or(ClientError::Internal("fresh keys are incomplete"))?,
                name,
                server: server.to_owned(),
                keys,
                register_request: RequestId(request),
                registered: false,
                incarnation: None,
            };
            db.insert_profile(&profile)?;
            Ok(profile)
        })?;
        Ok(Self { profile: done(outcome)? })
    }

    /// The request, bound to one connection; a retry has the same request id.
    pub fn request(
        &self,
        binding: &ChannelBinding,
        invite: Option<[u8; 16]>,
    ) -> (RequestId, Request) {
        self.request_with_proof(binding, (invite, None))
    }

    /// The same with the answer to the server's proof of work.
    pub fn request_with_proof(
        &self,
        binding: &ChannelBinding,
        (invite, proof_of_work): (Option<[u8; 16]>, Option<[u8; 8]>),
    ) -> (RequestId, Request) {
        let identity = &self.profile.identity;
        let register = Register {
            name: self.profile.name.clone(),
            account_key: identity.account_key.clone().into(),
            device_list: identity.device_list.clone().into(),
            device: identity.device.device,
            proof: self.profile.keys.prove(binding, &identity.device, Purpose::Register),
            invite: invite.map(|code| code.to_vec().into()).unwrap_or_default(),
            proof_of_work,
        };
        (self.profile.register_request, Request::Register(register))
    }

    /// Asks whether the account is there already: a retry on another connection has another proof,
    /// which the server refuses under the same request id.
    pub fn login(&self, binding: &ChannelBinding) -> Request {
        let device = self.profile.identity.device;
        let proof = self.profile.keys.prove(binding, &device, Purpose::Login);
        Request::Login(Login { device, proof })
    }

    /// Notes that the server took it.
    ///
    /// # Errors
    /// The database.
    pub fn registered(&self, store: &mut Store) -> Result<(), ClientError> {
        done(store.transact(|tx| Ok(Db(tx).set_registered()?))?)
    }
}

/// What a registration does that takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Works for the server's proof: `2^bits` hashes on average.
    ProofOfWork {
        /// Leading zero bits.
        bits: u8,
    },
}

/// How often a registration may be told to work more, or to wait.
const TRIES: u32 = 5;

/// Registers at a server and leaves the store ready for a client.
pub(crate) async fn register(
    home: &Home,
    registration: &Registration,
    tell: impl FnMut(Progress),
) -> Result<Store, ClientError> {
    let url: ServerUrl = registration.server.parse()?;
    let fresh = !home.exists();
    let mut store = home.open_new(&registration.protection)?;
    let kept = ServerUrl { invite: None, ..url.clone() }.to_string();
    let name = registration.name.as_str();
    let account = Account::prepare(&mut store, (name, &kept), (now_ms(), &mut OsRng))?;
    match ask(&account, &url, tell).await {
        Ok(()) => account.registered(&mut store).map(|()| store),
        Err(error) => {
            // A refusal for good leaves nothing behind; after a lost answer the same keys try
            // again.
            let refused = matches!(&error, ClientError::Refused(body) if !body.code.retryable());
            if fresh && refused {
                store.close()?;
                home.clone().wipe()?;
            }
            Err(error)
        }
    }
}

/// Registers; an account that is there already is this one if its device can log in: then an
/// earlier answer was lost.
async fn ask(
    account: &Account,
    url: &ServerUrl,
    tell: impl FnMut(Progress),
) -> Result<(), ClientError> {
    let limits = ClientLimits::default();
    ask_over(async || Ok(connect(url, &limits).await?), (account, url), tell).await
}

/// Each question has a connection of its own: no server keeps one open for a stranger who works or
/// waits for long.
async fn ask_over(
    dial: impl AsyncFn() -> Result<Connection, ClientError>,
    (account, url): (&Account, &ServerUrl),
    mut tell: impl FnMut(Progress),
) -> Result<(), ClientError> {
    let connection = dial().await?;
    let terms = proof_of_work(&connection).await;
    connection.close(0, "");
    let mut asked = terms?;
    let mut tries = 0;
    loop {
        let solved = match asked {
            Some(work) => {
                tell(Progress::ProofOfWork { bits: work.bits });
                Some(solve(work, account.profile.identity.device.account).await?)
            }
            None => None,
        };
        tries += 1;
        let connection = dial().await?;
        let answered = ask_once(account, &connection, (url, solved)).await;
        connection.close(0, "");
        match answered {
            Err(ClientError::Refused(body)) if tries < TRIES => {
                match (&body.detail, asks_to_wait(&body)) {
                    (Some(ErrorDetail::ProofOfWork(more)), _) => asked = Some(*more),
                    (_, Some(wait)) => tokio::time::sleep(wait).await,
                    _ => return Err(ClientError::Refused(body)),
                }
            }
            result => return result,
        }
    }
}

async fn ask_once(
    account: &Account,
    connection: &Connection,
    (url, solved): (&ServerUrl, Option<[u8; 8]>),
) -> Result<(), ClientError> {
    let invite = url.invite.as_ref().map(|code| **code);
    let (id, request) = account.request_with_proof(&connection.binding(), (invite, solved));
    match call(connection, (&Token::NONE, id), &request).await {
        Ok(Response::Registered(id)) if id == account.profile.identity.device.account => Ok(()),
        Ok(_) => Err(ClientError::Alarm("it answered the registration oddly".into())),
        Err(ClientError::Refused(body)) if is_repeated(body.code) => {
            let login = account.login(&connection.binding());
            match call(connection, (&Token::NONE, RequestId::ZERO), &login).await {
                Ok(Response::Tokens(_)) => Ok(()),
                Ok(_) | Err(_) => Err(ClientError::Refused(body)),
            }
        }
        Err(error) => Err(error),
    }
}

/// What the server wants proven of whoever registers.
async fn proof_of_work(connection: &Connection) -> Result<Option<ProofOfWork>, ClientError> {
    let nobody = (&Token::NONE, RequestId::ZERO);
    let Response::ServerInfo(info) = call(connection, nobody, &Request::ServerInfo).await? else {
        return Err(ClientError::Alarm("it answered the question for its terms oddly".into()));
    };
    Ok(info.proof_of_work)
}

async fn solve(work: ProofOfWork, account: AccountId) -> Result<[u8; 8], ClientError> {
    let solved = tokio::task::spawn_blocking(move || work.solve(&account)).await;
    solved.map_err(|_| ClientError::Internal("the proof of work"))
}

/// Refusals that an account gets which registered before.
fn is_repeated(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DuplicateKey | ErrorCode::RequestIdConflict | ErrorCode::NameTaken)
}

#[cfg(test)]
mod tests {
    use qpc_proto::frame::Frame;
    use qpc_proto::message::{Method, RegistrationMode, ServerInfo};
    use qpc_proto::{ErrorBody, Incarnation};
    use zeroize::Zeroizing;

    use super::*;
    use crate::home::Unlock;

    fn registration(name: &str, protection: Protection) -> Registration {
        // Nothing ever answers at the discard port of this machine.
        let server = format!("qpc://127.0.0.1:9/#{}", "ab".repeat(32));
        Registration { name: name.to_owned(), server, protection }
    }

    fn account(store: &mut Store, name: &str) -> Result<Account, ClientError> {
        Account::prepare(store, (name, "qpc://h:1/#00"), (1, &mut OsRng))
    }

    #[test]
    fn another_name_is_told_of_the_unfinished_registration() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        home.create(&Protection::KeyFile).unwrap();
        let mut store = home.open(&Unlock::Automatic).unwrap();
        account(&mut store, "pual").unwrap();
        let error = account(&mut store, "paul").unwrap_err();
        assert_eq!(error.code(), "USAGE");
        assert!(error.to_string().contains("pual"), "{error}");
        account(&mut store, "pual").unwrap().registered(&mut store).unwrap();
        assert_eq!(account(&mut store, "paul").unwrap_err().code(), "ACCOUNT_EXISTS");
    }

    fn work(bits: u8) -> ProofOfWork {
        ProofOfWork { seed: [bits; 32], bits }
    }

    /// A server that asks for a proof of 3 bits, then one of 6, and takes that. It answers one
    /// request a connection, as if the next came after its patience with strangers.
    async fn open_server(connection: Connection, account: AccountId) {
        let (mut sender, mut receiver) = connection.accept_stream().await.unwrap().unwrap();
        let Some(Frame::Request(frame)) = receiver.next().await.unwrap() else { panic!() };
        let method = Method::from_u16(frame.method).unwrap();
        let request = Request::decode(method, frame.body).unwrap();
        let answer = if let Request::Register(register) = request {
            let proof = register.proof_of_work.unwrap();
            if work(6).accepts(&account, proof) {
                Frame::Reply(Response::Registered(account).encode())
            } else {
                assert!(work(3).accepts(&account, proof));
                let body = ErrorBody::new(ErrorCode::ProofOfWorkRequired, "more");
                Frame::refusal(&body.with_detail(ErrorDetail::ProofOfWork(work(6))))
            }
        } else {
            Frame::Reply(info(work(3)).encode())
        };
        sender.send(&answer).await.unwrap();
        let next = connection.accept_stream().await;
        assert!(matches!(next, Ok(None) | Err(_)), "one request a connection");
    }

    fn info(work: ProofOfWork) -> Response {
        Response::ServerInfo(ServerInfo {
            versions: (1, 1),
            incarnation: Incarnation([1; 16]),
            now_ms: 1,
            registration: RegistrationMode::Open,
            payload_bytes_max: 1,
            frame_bytes_max: 1,
            retention_ms: 1,
            proof_of_work: Some(work),
        })
    }

    #[tokio::test]
    async fn an_open_server_gets_the_proof_that_it_asks_for_also_when_it_asks_for_more() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let mut store = home.open_new(&Protection::KeyFile).unwrap();
        let account = account(&mut store, "paul").unwrap();
        let url: ServerUrl = registration("paul", Protection::KeyFile).server.parse().unwrap();
        let id = account.profile.identity.device.account;
        let servers = std::cell::RefCell::new(tokio::task::JoinSet::new());
        let dial = async || {
            let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
            let (connection, peer) = qpc_transport::memory::pair(binding);
            servers.borrow_mut().spawn(open_server(peer, id));
            Ok(connection)
        };
        let mut told = Vec::new();
        ask_over(dial, (&account, &url), |progress| told.push(progress)).await.unwrap();
        assert_eq!(servers.into_inner().join_all().await.len(), 3);
        let bits = [3, 6].map(|bits| Progress::ProofOfWork { bits });
        assert_eq!(told, bits);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_retry_keeps_the_key_as_it_is_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let passphrase = Zeroizing::new("correct horse".to_owned());
        for protection in [Protection::KeyFile, Protection::Passphrase(passphrase.clone())] {
            let registration = registration("paul", protection);
            // Dropped at the network: all before it is done at the first poll.
            let attempt = register(&home, &registration, |_| ());
            tokio::select! {
                biased;
                result = attempt => assert!(result.is_err()),
                () = std::future::ready(()) => {}
            }
        }
        assert!(home.needs_passphrase().unwrap());
        home.open(&Unlock::Passphrase(passphrase)).unwrap().close().unwrap();
    }
}
