//! The server, the clients behind their proxies, the rooms they share, and their processes.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;

use crate::ledger::{Ledger, Written};
use crate::life::{Kind, Life};
use crate::person::{Person, text};
use crate::process::{LINES_MAX, Process, now};
use crate::proxy::Proxy;
use crate::server::Server;
use crate::weather::Weather;

/// Those who can take part; the first makes the group.
const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
pub(crate) const CLIENTS_MAX: usize = NAMES.len();
const GROUP: &str = "Hikers";
/// What ending in order may take a client.
const END_MAX: Duration = Duration::from_secs(600);

/// A line of a process's output; `None` at its end.
type Heard = (usize, u64, Option<String>);

/// Somebody, and what stands between them and the server.
pub(crate) struct Client {
    pub(crate) person: Person,
    pub(crate) proxy: Proxy,
    pub(crate) life: Option<Life>,
    /// Stopped by SIGSTOP until then.
    pub(crate) asleep_until: Option<Instant>,
    /// Under a weather until then.
    pub(crate) calm_at: Option<Instant>,
}

/// A channel, and what each member calls it on the command line.
pub(crate) struct Room {
    pub(crate) id: String,
    pub(crate) members: Vec<(usize, String)>,
}

impl Room {
    /// What a client calls it; `None` for who is not in it.
    pub(crate) fn target(&self, client: usize) -> Option<&str> {
        let member = self.members.iter().find(|(member, _)| *member == client);
        member.map(|(_, target)| target.as_str())
    }
}

/// Everybody.
pub(crate) struct Party {
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) ledger: Ledger,
    lives: u64,
    heard: Receiver<Heard>,
    to: SyncSender<Heard>,
    /// The proxies run in it.
    _runtime: Runtime,
}

impl Party {
    /// A server and so many registered clients, all in one group, and by twos in direct channels.
    ///
    /// # Errors
    /// When a program fails.
    pub(crate) fn new(folder: &Path, (clients, seed): (usize, u64)) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let server = Server::start(folder)?;
        let (to, heard) = sync_channel(LINES_MAX);
        let mut all = Vec::new();
        for (number, name) in (0_u64..).zip(NAMES).take(clients) {
            let seed = seed.wrapping_mul(1_000).wrapping_add(number);
            let proxy = Proxy::start(runtime.handle(), server.address(), seed)?;
            let person = Person::new(folder, name);
            person.ok(&["register", name, "--server", &server.url(proxy.address())])?;
            all.push(Client { person, proxy, life: None, asleep_until: None, calm_at: None });
        }
        let (ledger, lives) = (Ledger::default(), 0);
        let mut party = Self {
            server,
            clients: all,
            rooms: Vec::new(),
            ledger,
            lives,
            heard,
            to,
            _runtime: runtime,
        };
        party.furnish()?;
        Ok(party)
    }

    /// Makes the rooms; everybody has joined when it returns.
    fn furnish(&mut self) -> Result<()> {
        let people: Vec<Person> = self.clients.iter().map(|client| client.person.clone()).collect();
        let (first, others) = people.split_first().context("nobody is there")?;
        let made = first.ok(&["group", "create", GROUP])?;
        let id = text(made.first().context("no channel")?, "channel")?.to_owned();
        let names: Vec<&str> = others.iter().map(|person| person.name).collect();
        first.ok(&[&["group", "add", GROUP], &names[..]].concat())?;
        for name in &names {
            first.ok(&["group", "promote", GROUP, name])?;
        }
        let members = (0..people.len()).map(|client| (client, GROUP.to_owned())).collect();
        self.rooms.push(Room { id, members });
        for (at, pair) in people.chunks_exact(2).enumerate() {
            let [one, other] = pair else { continue };
            let made = one.ok(&["dm", other.name])?;
            let id = text(made.first().context("no channel")?, "channel")?.to_owned();
            let at = at.saturating_mul(2);
            let members =
                vec![(at, other.name.to_owned()), (at.saturating_add(1), one.name.to_owned())];
            self.rooms.push(Room { id, members });
        }
        for (client, person) in people.iter().enumerate() {
            person.ok(&["recv"])?;
            let channels = person.channels()?;
            for room in self.rooms.iter().filter(|room| room.target(client).is_some()) {
                let joined = channels.iter().any(|channel| channel.id == room.id);
                ensure!(joined, "{} has not joined {}", person.name, room.id);
            }
        }
        Ok(())
    }

    /// Rooms that a client is in.
    pub(crate) fn rooms_of(&self, client: usize) -> Vec<usize> {
        let mine = self.rooms.iter().enumerate();
        mine.filter(|(_, room)| room.target(client).is_some()).map(|(at, _)| at).collect()
    }

    /// Starts a process of a client that has none.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start(&mut self, at: usize, (kind, words): (Kind, &[&str])) -> Result<()> {
        let client = self.clients.get_mut(at).context("no such client")?;
        ensure!(client.life.is_none(), "{} runs", client.person.name);
        self.lives = self.lives.saturating_add(1);
        let number = self.lives;
        let mut command = client.person.command(words)?;
        let log = client.person.log();
        let hear = move |line| (at, number, line);
        let process = Process::start(&mut command, &log, self.to.clone(), hear)?;
        client.life = Some(Life { number, kind, process, ending: false });
        if let Kind::Chat(room) = kind {
            let written = Written { client: at, room, texts: Vec::new(), killed: false };
            self.ledger.written.insert(number, written);
        }
        Ok(())
    }

    /// Starts a chat of a client in a room.
    ///
    /// # Errors
    /// When it does not start, or the client is not in the room.
    pub(crate) fn chat(&mut self, at: usize, room: usize) -> Result<()> {
        let target = self.rooms.get(room).and_then(|room| room.target(at));
        let target = target.context("not a member")?.to_owned();
        self.start(at, (Kind::Chat(room), &["chat", "--plain", &target]))
    }

    /// Gives a chat its next line, unless so many are open; whether it took one.
    pub(crate) fn feed(&mut self, at: usize, window: usize) -> bool {
        let Some(client) = self.clients.get_mut(at) else { return false };
        let Some(life) = client.life.as_mut() else { return false };
        let is_chat = matches!(life.kind, Kind::Chat(_));
        if !is_chat || life.ending || self.ledger.open(life.number) >= window {
            return false;
        }
        let line = self.ledger.line(client.person.name);
        let taken = life.process.feed(&line);
        if taken {
            self.ledger.note_given(life.number, line);
        }
        taken
    }

    /// Takes what programs say until then.
    ///
    /// # Errors
    /// When a line is not JSON as documented.
    pub(crate) fn listen(&mut self, until: Instant) -> Result<()> {
        while let Ok((client, life, line)) =
            self.heard.recv_timeout(until.saturating_duration_since(now()))
        {
            if let Some(line) = line {
                self.ledger.hear((client, life), &line)?;
            }
        }
        Ok(())
    }

    /// Forgets processes that have ended by themselves.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn reap(&mut self) -> Result<()> {
        for client in &mut self.clients {
            let Some(life) = client.life.as_mut() else { continue };
            let Some(status) = life.process.ended()? else { continue };
            if let Some(complaint) = life.complaint(status) {
                self.ledger.broken.push(format!("{}: {complaint}", client.person.name));
            }
            client.life = None;
        }
        Ok(())
    }

    /// SIGKILL for a client's process; whether there was one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn kill(&mut self, at: usize) -> Result<bool> {
        self.reap()?;
        let client = self.clients.get_mut(at).context("no such client")?;
        client.asleep_until = None;
        let Some(mut life) = client.life.take() else { return Ok(false) };
        life.process.kill()?;
        if let Some(written) = self.ledger.written.get_mut(&life.number) {
            written.killed = true;
        }
        Ok(true)
    }

    /// Asks a client's process to end.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn ask_to_end(&mut self, at: usize) -> Result<()> {
        self.reap()?;
        let client = self.clients.get_mut(at).context("no such client")?;
        let Some(life) = client.life.as_mut() else { return Ok(()) };
        life.ending = true;
        match life.kind {
            Kind::Chat(_) => life.process.end_input(),
            Kind::Receive => life.process.signal("TERM")?,
            Kind::Command => {}
        }
        Ok(())
    }

    /// Ends all faults of the network and wakes who sleeps.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn calm(&mut self) -> Result<()> {
        for client in &mut self.clients {
            client.proxy.set(Weather::Calm);
            client.calm_at = None;
            if client.asleep_until.take().is_some()
                && let Some(life) = &client.life
            {
                life.process.signal("CONT")?;
            }
        }
        Ok(())
    }

    /// Ends all processes of clients in order.
    ///
    /// # Errors
    /// When one does not end.
    pub(crate) fn end_all(&mut self) -> Result<()> {
        for at in 0..self.clients.len() {
            self.ask_to_end(at)?;
        }
        let until = now() + END_MAX;
        while self.clients.iter().any(|client| client.life.is_some()) {
            ensure!(now() < until, "a client does not end");
            self.listen(now() + Duration::from_millis(20))?;
            self.reap()?;
        }
        self.listen(now() + Duration::from_millis(200))
    }
}
