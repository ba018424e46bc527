//! One channel with many real members: devices with KeyPackages of their own, which its first
//! Commit adds. Each device has some sessions, and a connection for each. The floor, which knows no
//! members, gets as many connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use qpc_mls::context::{ChannelContext, POLICY_VERSION};
use qpc_mls::engine::{CommitPlan, Place, SealedCommit};
use qpc_mls::{Engine, MlsError};
use qpc_proto::message::{
    ChannelKind, CommitBundle, CreateChannel, Request, Response, UploadKeyPackages,
};
use qpc_proto::{ChannelId, Digest, MessageId};
use qpc_server::clock;
use qpc_storage::{Key, Options, Outcome, Store};
use qpc_transport::{ClientLimits, Connection, Dialer, ServerUrl, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use crate::account::{Account, call};
use crate::content::{Maker, Taker};
use crate::messages::follower::Follower;
use crate::messages::poster::Poster;
use crate::messages::round::STALL;
use crate::mls::FIRST_COMMIT;
use crate::wire::Wire;

/// Connections from one socket: with more of them its buffer overflows, and what is measured is how
/// often the server sends a packet again; with fewer a thousand need too many files.
const CONNECTIONS_PER_SOCKET: u32 = 2;
const CHANNEL: ChannelId = ChannelId([1; 16]);
const GROUP: [u8; 32] = [7; 32];
/// Number of the sender's messages.
const PAIR: u32 = 0;

/// Who may write to and read the one channel of a server.
pub(super) enum Group {
    /// Anybody.
    Floor,
    /// Its members.
    Full(Box<Members>),
}

/// The accounts of a channel, each with one device.
pub(super) struct Members {
    founder: Account,
    members: Vec<Account>,
    /// Of each member.
    sessions: u32,
}

impl Group {
    /// Registers an account for each invite, and makes a channel of them all.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    pub(super) async fn found(url: &ServerUrl, invites: &[Bytes], sessions: u32) -> Result<Self> {
        let (dir, mut rng) = (tempfile::tempdir()?, ChaCha8Rng::seed_from_u64(4));
        let options = Options::new(Key::from_bytes([7; 32]), vec![qpc_mls::schema()]);
        let mut keys = Store::open(&dir.path().join("keys.db"), &options)?;
        let mut members = Vec::new();
        let mut packages = Vec::new();
        for (number, invite) in invites.iter().enumerate() {
            let account = Account::new(number, &mut rng);
            account.register(url, invite.clone()).await.context("registering")?;
            if number > 0 {
                packages.push(publish(&account, url, &mut keys).await?);
            }
            members.push(account);
        }
        ensure!(!members.is_empty(), "an invite is missing");
        let founder = members.remove(0);
        let sealed = seal(&founder, packages, &mut keys)?;
        let (connection, token) = founder.open(url).await?;
        let create = create_channel(sealed);
        let Response::Accepted(accepted) = call(&connection, &token, &create).await? else {
            bail!("an odd answer to a channel")
        };
        ensure!(accepted.seq == FIRST_COMMIT, "a channel that is not empty");
        connection.close(0, "");
        Ok(Self::Full(Box::new(Members { founder, members, sessions })))
    }

    /// The one who sends.
    ///
    /// # Errors
    /// When there is no connection, or no session.
    pub(super) async fn poster(&self, url: &ServerUrl) -> Result<Poster> {
        let connection = connect(url, &ClientLimits::default()).await?;
        let wire = match self {
            Self::Floor => Wire::Floor { channel: PAIR },
            Self::Full(members) => wire_of(&members.founder, &connection).await?,
        };
        let (sender, receiver) = connection.open_stream().await?;
        let maker = Maker::new(PAIR);
        Ok(Poster { pair: PAIR, wire, _connection: connection, sender, receiver, maker })
    }

    /// Subscribers with these numbers, from message `next` on.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    pub(super) async fn subscribe(
        &self,
        url: &ServerUrl,
        (numbers, next): (Range<u32>, u64),
    ) -> Result<Vec<Follower>> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut dialer = Dialer::bind(any)?;
        let mut followers = Vec::new();
        for number in numbers {
            if number % CONNECTIONS_PER_SOCKET == 0 {
                dialer = Dialer::bind(any)?;
            }
            let connection = dialer.connect(url, &ClientLimits::default()).await?;
            let wire = match self {
                Self::Floor => Wire::Floor { channel: PAIR },
                Self::Full(members) => wire_of(members.at(number)?, &connection).await?,
            };
            followers.push(subscribe(wire, connection, next).await?);
        }
        Ok(followers)
    }
}

impl Members {
    /// Whose session a subscriber has.
    fn at(&self, subscriber: u32) -> Result<&Account> {
        let member = subscriber.checked_div(self.sessions).context("no sessions")?;
        self.members.get(usize::try_from(member)?).context("no such member")
    }
}

async fn wire_of(account: &Account, connection: &Connection) -> Result<Wire> {
    let token = account.log_in_on(connection).await?;
    Ok(Wire::Full { channel: CHANNEL, token })
}

/// A subscription that has begun. It acknowledges nothing: that is written for each member.
async fn subscribe(wire: Wire, connection: Connection, next: u64) -> Result<Follower> {
    let items = connection.open_stream().await?;
    let taker = Taker::at(PAIR, next);
    let mut follower = Follower { pair: PAIR, wire, connection, items, acks: None, taker };
    follower.ask().await?;
    let first = tokio::time::timeout(STALL, follower.items.1.next()).await;
    let first = first.context("nothing is followed")??.context("a subscription ended")?;
    ensure!(follower.wire.delivered(next, first)?.is_empty(), "a message that nobody posted");
    Ok(follower)
}

/// Makes a KeyPackage of an account's device and uploads it.
async fn publish(account: &Account, url: &ServerUrl, keys: &mut Store) -> Result<Vec<u8>> {
    let (engine, now_ms) = (Engine::new(account.mls_device()), clock::system()());
    let made = keys.transact(|tx| engine.key_package(tx, false, now_ms))?;
    let package = done(made)?.bytes;
    let (connection, token) = account.open(url).await?;
    let upload =
        UploadKeyPackages { key_packages: vec![package.clone().into()], last_resort: None };
    call(&connection, &token, &Request::UploadKeyPackages(upload)).await?;
    call(&connection, &token, &Request::Logout).await?;
    connection.close(0, "");
    Ok(package)
}

/// The Commit that makes the group of its founder and all others.
fn seal(founder: &Account, adds: Vec<Vec<u8>>, keys: &mut Store) -> Result<SealedCommit> {
    let (engine, now_ms) = (Engine::new(founder.mls_device()), clock::system()());
    let context = ChannelContext {
        channel: CHANNEL,
        kind: ChannelKind::Group,
        title: String::new(),
        admins: [engine.device().id.account].into(),
        description: String::new(),
        replaces: None,
        policy_version: POLICY_VERSION,
    };
    let place = Place { channel: CHANNEL, base_commit: 0, head_seq: 0, head: Digest::ZERO };
    let plan = CommitPlan { adds, ..CommitPlan::default() };
    let sealed = keys.transact(|tx| {
        engine.create(tx, &GROUP, (&context, now_ms))?;
        engine.commit(tx, &GROUP, (&place, &plan))
    })?;
    done(sealed)
}

fn create_channel(sealed: SealedCommit) -> Request {
    Request::CreateChannel(CreateChannel {
        channel: CHANNEL,
        retention_ms: 0,
        reset: None,
        kind: ChannelKind::Group,
        bundle: CommitBundle {
            message_id: MessageId([u8::MAX; 16]),
            after_commit: 0,
            payload: sealed.payload.into(),
            roster_change: sealed.change.encode().into(),
            welcome: sealed.welcome.map(Bytes::from),
            statements: Vec::new(),
        },
    })
}

fn done<T>(outcome: Outcome<T, MlsError>) -> Result<T> {
    match outcome {
        Outcome::Done(value) => Ok(value),
        Outcome::Refused(error) => Err(error.into()),
        Outcome::Panicked => bail!("MLS panicked"),
    }
}
