//! Making an account: keys are on disk before the server hears of them, so that a lost answer is
//! asked for again with the same request.

use qpc_proto::binding::Purpose;
use qpc_proto::message::{Login, Register, Request, Response};
use qpc_proto::{DeviceId, ErrorCode, RequestId, Token};
use qpc_storage::{Outcome, Store};
use qpc_transport::{ClientLimits, Connection, ServerUrl, connect};
use rand_core::{CryptoRng, OsRng, RngCore};

use crate::clock::now_ms;
use crate::core::done;
use crate::driver::call;
use crate::error::ClientError;
use crate::home::{Home, Protection, Unlock};
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
        binding: &qpc_proto::binding::ChannelBinding,
        invite: Option<[u8; 16]>,
    ) -> (RequestId, Request) {
        let identity = &self.profile.identity;
        let register = Register {
            name: self.profile.name.clone(),
            account_key: identity.account_key.clone().into(),
            device_list: identity.device_list.clone().into(),
            device: identity.device.device,
            proof: self.profile.keys.prove(binding, &identity.device, Purpose::Register),
            invite: invite.map(|code| code.to_vec().into()).unwrap_or_default(),
            proof_of_work: None,
        };
        (self.profile.register_request, Request::Register(register))
    }

    fn login(&self, connection: &Connection) -> Request {
        let device = self.profile.identity.device;
        let proof = self.profile.keys.prove(&connection.binding(), &device, Purpose::Login);
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

/// Registers at a server and leaves the store ready for a client.
pub(crate) async fn register(
    home: &Home,
    registration: &Registration,
) -> Result<Store, ClientError> {
    let url: ServerUrl = registration.server.parse()?;
    let fresh = !home.exists();
    home.create(&registration.protection)?;
    let unlock = match &registration.protection {
        Protection::Passphrase(passphrase) => Unlock::Passphrase(passphrase.clone()),
        Protection::KeyFile | Protection::Keyring => Unlock::Automatic,
    };
    let mut store = home.open(&unlock)?;
    let kept = ServerUrl { invite: None, ..url.clone() }.to_string();
    let name = registration.name.as_str();
    let account = Account::prepare(&mut store, (name, &kept), (now_ms(), &mut OsRng))?;
    // An earlier attempt may have kept the key another way.
    home.keep_only(&unlock, &registration.protection)?;
    match ask(&account, &url).await {
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
/// earlier answer was lost (a retry on another connection has another proof, so the server cannot
/// tell).
async fn ask(account: &Account, url: &ServerUrl) -> Result<(), ClientError> {
    let connection: Connection = connect(url, &ClientLimits::default()).await?;
    let (id, request) =
        account.request(&connection.binding(), url.invite.as_ref().map(|code| **code));
    let answer = call(&connection, (&Token::NONE, id), &request).await;
    let taken = match answer {
        Ok(Response::Registered(id)) if id == account.profile.identity.device.account => Ok(()),
        Ok(_) => Err(ClientError::Alarm("it answered the registration oddly".into())),
        Err(ClientError::Refused(body)) if is_repeated(body.code) => {
            let login = account.login(&connection);
            match call(&connection, (&Token::NONE, RequestId::ZERO), &login).await {
                Ok(Response::Tokens(_)) => Ok(()),
                Ok(_) | Err(_) => Err(ClientError::Refused(body)),
            }
        }
        Err(error) => Err(error),
    };
    connection.close(0, "");
    taken
}

/// Refusals that an account gets which registered before.
fn is_repeated(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::DuplicateKey | ErrorCode::RequestIdConflict | ErrorCode::NameTaken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

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

    #[tokio::test(flavor = "current_thread")]
    async fn a_retry_keeps_the_key_as_it_is_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("home"));
        let passphrase = Zeroizing::new("correct horse".to_owned());
        for protection in [Protection::KeyFile, Protection::Passphrase(passphrase.clone())] {
            let registration = registration("paul", protection);
            // Dropped at the network: all before it is done at the first poll.
            let attempt = register(&home, &registration);
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
