//! How a home comes to an account that exists: by another device, or by the recovery phrase. What
//! is signed and kept is `link.rs`'s and `recover.rs`'s; here are the home and the connection.

use std::time::Duration;

use qpc_proto::message::{Request, Response};
use qpc_proto::{ErrorCode, RequestId, Token};
use qpc_storage::Store;
use qpc_transport::{ClientLimits, Connection, LinkUrl, ServerUrl, TransportError, connect};
use rand_core::{OsRng, RngCore as _};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::clock::now_ms;
use crate::driver::{asks_to_wait, call};
use crate::error::ClientError;
use crate::home::{Home, Protection};
use crate::link::{LinkCode, Linking};
use crate::phrase::Phrase;
use crate::recover::{Recovered, Recovery};

/// How often a device that waits to be linked looks for its answer.
const POLL: Duration = Duration::from_millis(1_500);
/// How often a recovery asks again after a lost answer.
const RECOVER_TRIES: u32 = 3;

/// A home that waits to be linked.
#[derive(Debug)]
pub struct Joining {
    store: Store,
    linking: Linking,
    server: ServerUrl,
}

impl Joining {
    /// Makes the home if need be, and an offer in it. `at` is the server's address, or the one of a
    /// link that the primary device shows.
    ///
    /// # Errors
    /// [`ClientError::AccountExists`] or [`ClientError::Usage`] when the home is in use.
    pub fn begin(
        home: &Home,
        at: &str,
        (protection, code): (&Protection, Option<LinkCode>),
    ) -> Result<Self, ClientError> {
        let (server, code) = match at.parse::<LinkUrl>() {
            Ok(link) => (link.server, Some(LinkCode::of(link.code))),
            Err(_) => (ServerUrl { invite: None, ..at.parse()? }, code),
        };
        let mut store = home.open_new(protection)?;
        let (now, kept) = (now_ms(), server.to_string());
        let linking = Linking::prepare(&mut store, (&kept, code), (now, &mut OsRng))?;
        Ok(Self { store, linking, server })
    }

    /// The code, for a person to carry to the primary device.
    pub fn code(&self) -> &LinkCode {
        self.linking.code()
    }

    /// The address of the link, for the same purpose.
    pub fn url(&self) -> Zeroizing<String> {
        let (server, code) = (self.server.clone(), self.linking.code().bytes().clone());
        Zeroizing::new(LinkUrl { server, code }.to_string())
    }

    /// What the primary device must show before it links this one.
    pub fn fingerprint(&self) -> String {
        self.linking.fingerprint()
    }

    /// Leaves the offer and waits for the answer until the code ends; then the client runs.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the code does not count any more; [`ClientError::Failed`] when
    /// it ends unanswered; [`ClientError::Alarm`] for an answer that is not for this device.
    pub async fn wait(mut self) -> Result<Client, ClientError> {
        // An address where nobody is would be waited for in vain.
        let mut connection = Some(connect(&self.server, &ClientLimits::default()).await?);
        while now_ms() < self.linking.ends_at_ms() {
            let wait = match self.look(&mut connection).await {
                Ok(Some(sealed)) => {
                    self.linking.finish(&mut self.store, (&sealed, &mut OsRng))?;
                    return Client::of_store(self.store);
                }
                Ok(None) => POLL,
                Err(ClientError::Refused(body)) => match asks_to_wait(&body) {
                    Some(wait) => wait.max(POLL),
                    None => return Err(ClientError::Refused(body)),
                },
                // The network may come back before the code ends.
                Err(ClientError::Network(error)) if is_passing(&error) => {
                    tracing::info!(%error, "looking for the answer again");
                    connection = None;
                    POLL
                }
                Err(error) => return Err(error),
            };
            sleep(wait).await;
        }
        Err(ClientError::Failed("the code has ended unused: begin again".to_owned()))
    }

    async fn look(
        &self,
        connection: &mut Option<Connection>,
    ) -> Result<Option<bytes::Bytes>, ClientError> {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(connect(&self.server, &ClientLimits::default()).await?),
        };
        let nobody = (&Token::NONE, RequestId::ZERO);
        let answer = call(open, nobody, &self.linking.request()).await?;
        let Response::Relayed(relayed) = answer else {
            return Err(ClientError::Alarm("it answered the offer oddly".to_owned()));
        };
        Ok(Some(relayed.sealed).filter(|sealed| !sealed.is_empty()))
    }
}

/// Whether another try may find the server there.
fn is_passing(error: &TransportError) -> bool {
    matches!(
        error,
        TransportError::Timeout
            | TransportError::Closed(_)
            | TransportError::Resolve { .. }
            | TransportError::Frame(_)
            | TransportError::Reset(_)
    )
}

impl Client {
    /// Makes this home the primary device of the account whose phrase it is; all other devices are
    /// revoked, but those whose ids begin as `keep` says.
    ///
    /// # Errors
    /// [`ClientError::Refused`], with `ACCOUNT_NOT_FOUND` when the server has none of this phrase;
    /// [`ClientError::AccountExists`]; [`ClientError::NotFound`] for a device to keep.
    pub async fn recover(
        home: &Home,
        server: &str,
        (protection, phrase, keep): (&Protection, Phrase, &[String]),
    ) -> Result<(Self, Recovered), ClientError> {
        let url = ServerUrl { invite: None, ..server.parse()? };
        let fresh = !home.exists();
        let mut store = home.open_new(protection)?;
        let from = (url.to_string(), phrase);
        let recovery = Recovery::begin(&mut store, (&from.0, from.1), &mut OsRng);
        let (recovered, prepared) = match recovery {
            Ok(mut recovery) => {
                let recovered = recover(&url, &mut store, (&mut recovery, keep)).await;
                (recovered, recovery.is_prepared())
            }
            Err(error) => (Err(error), false),
        };
        match recovered {
            Ok(recovered) => Ok((Self::of_store(store)?, recovered)),
            Err(error) => {
                // Nothing was published: another attempt makes keys of its own. After that, only
                // the server knows whether it took them, and another attempt asks it.
                if fresh && !prepared {
                    store.close()?;
                    home.clone().wipe()?;
                }
                Err(error)
            }
        }
    }
}

/// A lost answer is asked for again: what was published is seen then.
async fn recover(
    url: &ServerUrl,
    store: &mut Store,
    (recovery, keep): (&mut Recovery, &[String]),
) -> Result<Recovered, ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match recover_once(url, store, (recovery, keep)).await {
            Err(ClientError::Network(error)) if tries < RECOVER_TRIES && is_passing(&error) => {}
            Err(ClientError::Refused(body)) if tries < RECOVER_TRIES => match asks_to_wait(&body) {
                Some(wait) => sleep(wait).await,
                None if body.code == ErrorCode::DeviceListStale => {}
                None => return Err(ClientError::Refused(body)),
            },
            result => return result,
        }
    }
}

async fn recover_once(
    url: &ServerUrl,
    store: &mut Store,
    (recovery, keep): (&mut Recovery, &[String]),
) -> Result<Recovered, ClientError> {
    let connection = connect(url, &ClientLimits::default()).await?;
    let binding = connection.binding();
    // An id of its own each time: answers are remembered by it.
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    let question = recovery.question(&binding);
    let newest = identity(&connection, (RequestId(id), &question)).await?;
    let (outcome, request) = recovery.publish(store, (&newest, keep), (&binding, now_ms()))?;
    if let Some((id, request)) = request {
        identity(&connection, (id, &request)).await?;
    }
    recovery.finish(store)?;
    connection.close(0, "");
    Ok(outcome)
}

async fn identity(
    connection: &Connection,
    (id, request): (RequestId, &Request),
) -> Result<qpc_proto::message::Identity, ClientError> {
    let answer = call(connection, (&Token::NONE, id), request).await?;
    let Response::Identity(identity) = answer else {
        return Err(ClientError::Alarm("it answered the recovery oddly".to_owned()));
    };
    Ok(identity)
}
