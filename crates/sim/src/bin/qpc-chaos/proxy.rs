//! A UDP proxy between one client and the server, which treats datagrams as its weather says.
//! Knows nothing of QUIC. A rebinding gives every client behind it another source port, as a NAT
//! does that has forgotten it.

use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::weather::{Fate, Tally, Way, Weather};

/// The longest datagram.
const DATAGRAM_MAX: usize = 65_536;
/// Datagrams of the server that the proxy has not taken yet; more are lost.
const QUEUED_MAX: usize = 4_096;
/// A client that said nothing for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(180);

#[derive(Debug)]
struct State {
    weather: Weather,
    /// How often the ports were changed.
    rebindings: u64,
    tally: Tally,
}

/// A running proxy; it ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `server` on a free port. The seed decides what befalls its n-th datagram
    /// in a given weather.
    ///
    /// # Errors
    /// When there is no port.
    pub(crate) fn start(runtime: &Handle, server: SocketAddr, seed: u64) -> Result<Self> {
        let listen = bind(runtime)?;
        let address = listen.local_addr()?;
        let state = State { weather: Weather::Calm, rebindings: 0, tally: Tally::default() };
        let state = Arc::new(Mutex::new(state));
        let (to, from_server) = mpsc::channel(QUEUED_MAX);
        let at_work = AtWork {
            listen: Arc::new(listen),
            server,
            state: Arc::clone(&state),
            rng: ChaCha8Rng::seed_from_u64(seed),
            sessions: BTreeMap::new(),
            readers: JoinSet::new(),
            to,
            held: BinaryHeap::new(),
            count: 0,
            rebindings: 0,
        };
        let task = runtime.spawn(at_work.run(from_server));
        Ok(Self { address, state, task })
    }

    /// Where the client finds it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        lock(&self.state).weather = weather;
    }

    /// Gives every client another port towards the server from its next datagram on.
    pub(crate) fn rebind(&self) {
        let mut state = lock(&self.state);
        state.rebindings = state.rebindings.saturating_add(1);
    }

    pub(crate) fn tally(&self) -> Tally {
        lock(&self.state).tally
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bind(runtime: &Handle) -> Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("binding a port")?;
    socket.set_nonblocking(true)?;
    let _entered = runtime.enter();
    Ok(UdpSocket::from_std(socket)?)
}

/// The port that stands for a client towards the server.
struct Session {
    upstream: Arc<UdpSocket>,
    reader: AbortHandle,
    used: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A datagram that waits, the earliest first.
#[derive(PartialEq, Eq)]
struct Held {
    due: Instant,
    number: u64,
    way: Way,
    client: SocketAddr,
    bytes: Vec<u8>,
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct AtWork {
    listen: Arc<UdpSocket>,
    server: SocketAddr,
    state: Arc<Mutex<State>>,
    rng: ChaCha8Rng,
    sessions: BTreeMap<SocketAddr, Session>,
    readers: JoinSet<()>,
    to: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    held: BinaryHeap<Held>,
    count: u64,
    /// How many rebindings have been made.
    rebindings: u64,
}

impl AtWork {
    async fn run(mut self, mut from_server: mpsc::Receiver<(SocketAddr, Vec<u8>)>) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let listen = Arc::clone(&self.listen);
        loop {
            let due = self.held.peek().map(|held| held.due);
            tokio::select! {
                received = listen.recv_from(&mut buffer) => {
                    // A port that nobody listens on any more makes errors, as a network does.
                    let Ok((len, client)) = received else { continue };
                    let bytes = buffer.get(..len).unwrap_or_default().to_vec();
                    self.take(Way::Up, client, bytes).await;
                }
                Some((client, bytes)) = from_server.recv() => {
                    self.take(Way::Down, client, bytes).await;
                }
                () = sleep_until(due) => self.release().await,
            }
        }
    }

    /// Decides about a datagram.
    async fn take(&mut self, way: Way, client: SocketAddr, mut bytes: Vec<u8>) {
        let fate = self.fate(way, bytes.len());
        if fate.lost.is_some() {
            return;
        }
        if let Some((at, by)) = fate.changed
            && let Some(byte) = bytes.get_mut(at)
        {
            *byte ^= by;
        }
        for _ in 0..=usize::from(fate.twice) {
            if fate.late.is_zero() {
                self.send(way, client, &bytes).await;
                continue;
            }
            self.count = self.count.wrapping_add(1);
            let (due, number) = (Instant::now() + fate.late, self.count);
            self.held.push(Held { due, number, way, client, bytes: bytes.clone() });
        }
    }

    fn fate(&mut self, way: Way, len: usize) -> Fate {
        let mut state = lock(&self.state);
        let fate = state.weather.fate(&mut self.rng, (way, len));
        state.tally.note(&fate);
        fate
    }

    async fn release(&mut self) {
        let now = Instant::now();
        while self.held.peek().is_some_and(|held| held.due <= now) {
            if let Some(held) = self.held.pop() {
                self.send(held.way, held.client, &held.bytes).await;
            }
        }
    }

    /// Errors are the network's: whoever sent it notices by itself.
    async fn send(&mut self, way: Way, client: SocketAddr, bytes: &[u8]) {
        match way {
            Way::Down => drop(self.listen.send_to(bytes, client).await),
            Way::Up => {
                if let Some(upstream) = self.upstream(client).await {
                    drop(upstream.send(bytes).await);
                }
            }
        }
    }

    /// The port of a client towards the server, a new one after a rebinding.
    async fn upstream(&mut self, client: SocketAddr) -> Option<Arc<UdpSocket>> {
        let asked = lock(&self.state).rebindings;
        if asked != self.rebindings {
            self.rebindings = asked;
            let mut state = lock(&self.state);
            let moved = u64::try_from(self.sessions.len()).unwrap_or(0);
            state.tally.rebindings = state.tally.rebindings.saturating_add(moved);
            self.sessions.clear();
        }
        let now = Instant::now();
        if let Some(session) = self.sessions.get_mut(&client) {
            session.used = now;
            return Some(Arc::clone(&session.upstream));
        }
        self.sessions.retain(|_, session| now.duration_since(session.used) < FORGET_AFTER);
        let upstream = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
        upstream.connect(self.server).await.ok()?;
        while self.readers.try_join_next().is_some() {}
        let reader = self.readers.spawn(read(Arc::clone(&upstream), client, self.to.clone()));
        let session = Session { upstream: Arc::clone(&upstream), reader, used: now };
        self.sessions.insert(client, session);
        Some(upstream)
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Reads what the server answers to one port.
async fn read(
    upstream: Arc<UdpSocket>,
    client: SocketAddr,
    to: mpsc::Sender<(SocketAddr, Vec<u8>)>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        // An error says that nobody listened a moment ago: the server is down.
        let Ok(len) = upstream.recv(&mut buffer).await else { continue };
        let bytes = buffer.get(..len).unwrap_or_default().to_vec();
        if to.try_send((client, bytes)).is_err() && to.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's socket, a proxy and a server's socket.
    async fn through(seed: u64) -> (UdpSocket, Proxy, UdpSocket) {
        let any = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (client, server) = (any().await.unwrap(), any().await.unwrap());
        let address = server.local_addr().unwrap();
        let proxy = Proxy::start(&Handle::current(), address, seed).unwrap();
        client.connect(proxy.address()).await.unwrap();
        (client, proxy, server)
    }

    async fn arrives(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let (len, from) = server.recv_from(&mut buffer).await.unwrap();
        (buffer[..len].to_vec(), from)
    }

    #[tokio::test]
    async fn in_calm_every_datagram_goes_both_ways() {
        let (client, proxy, server) = through(1).await;
        client.send(b"up").await.unwrap();
        let (bytes, from) = arrives(&server).await;
        assert_eq!(bytes, b"up");
        server.send_to(b"down", from).await.unwrap();
        assert_eq!(arrives(&client).await, (b"down".to_vec(), proxy.address()));
        assert_eq!(proxy.tally(), Tally { seen: 2, ..Tally::default() });
    }

    #[tokio::test]
    async fn after_a_rebinding_the_server_sees_another_port_and_answers_still_arrive() {
        let (client, proxy, server) = through(1).await;
        client.send(b"one").await.unwrap();
        let (_, before) = arrives(&server).await;
        proxy.rebind();
        client.send(b"two").await.unwrap();
        let (bytes, after) = arrives(&server).await;
        assert_eq!(bytes, b"two");
        assert_ne!(before, after);
        server.send_to(b"back", after).await.unwrap();
        assert_eq!(arrives(&client).await.0, b"back");
        assert_eq!(proxy.tally().rebindings, 1);
    }

    #[tokio::test]
    async fn a_blackhole_swallows_one_way_alone() {
        let (client, proxy, server) = through(1).await;
        client.send(b"hello").await.unwrap();
        let (_, from) = arrives(&server).await;
        proxy.set(Weather::Blackhole { up: false, down: true });
        server.send_to(b"swallowed", from).await.unwrap();
        client.send(b"heard").await.unwrap();
        assert_eq!(arrives(&server).await.0, b"heard");
        while proxy.tally().swallowed == 0 {
            tokio::task::yield_now().await;
        }
        proxy.set(Weather::Calm);
        server.send_to(b"back", from).await.unwrap();
        assert_eq!(arrives(&client).await.0, b"back");
    }

    #[tokio::test]
    async fn delayed_datagrams_keep_their_order_and_doubled_ones_come_twice() {
        let (client, proxy, server) = through(1).await;
        proxy.set(Weather::Delay(5));
        for text in [b"one", b"two"] {
            client.send(text).await.unwrap();
        }
        assert_eq!(arrives(&server).await.0, b"one");
        assert_eq!(arrives(&server).await.0, b"two");
        proxy.set(Weather::Duplication(100));
        client.send(b"twin").await.unwrap();
        assert_eq!(arrives(&server).await.0, b"twin");
        assert_eq!(arrives(&server).await.0, b"twin");
    }
}
