//! Three accounts, one with a linked device, that share groups and direct channels: what they do
//! from step to step, with everything that ages meanwhile. The same each time.

use qpc_client::view::ChannelStatus;
use qpc_faultvfs::WallClock;
use qpc_proto::ChannelId;
use qpc_proto::message::Method;
use qpc_sim::World;

use crate::bounds;
use crate::tables::{Early, Watched};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const WEEK_MS: u64 = 7 * DAY_MS;
const YEAR_MS: u64 = 365 * DAY_MS;
/// What everybody has who is here is there by the end of the fourth week.
const EARLY_MS: u64 = 29 * DAY_MS;
/// Clients 0 to 2 have an account each; client 3 is a device that client 0 has linked.
const ALL: [usize; 4] = [0, 1, 2, 3];
/// A client may wait before it reads a channel on, commits there, and sends there.
const CHANNEL_PAUSES: usize = 3;
/// And once each with its inbox, list, KeyPackages, device list, acknowledgements.
const OTHER_PAUSES: usize = 7;
/// An access token counts for less.
const TOKEN_MS: u64 = 16 * 60_000;

/// How time is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) step_hours: u64,
    pub(crate) days: u64,
    /// After these, all come by each so many days.
    pub(crate) later_days: u64,
}

/// A world, everybody's clock, and what was found in it.
pub(crate) struct Life {
    world: World,
    clock: WallClock,
    pace: Pace,
    began_ms: u64,
    /// Everybody is in it, always.
    group: ChannelId,
    /// Client 2 comes and goes.
    guests: ChannelId,
    /// Of clients 0 and 1, and of 1 and 2.
    direct: [ChannelId; 2],
    said: u64,
    /// How often somebody came by.
    turns: usize,
    watched: Vec<Watched>,
    early: Vec<Early>,
}

impl Life {
    pub(crate) fn begin(pace: Pace) -> Self {
        let mut world = World::new(11, 3).unwrap();
        let clock = WallClock::at(world.now_ms);
        world.settle().unwrap();
        assert_eq!(world.link(0).unwrap(), 3);
        world.settle().unwrap();
        let accounts: Vec<_> = (0..3).map(|index| world.account(index).unwrap()).collect();
        let mut made = Vec::new();
        for title in ["Everybody", "Guests"] {
            let group = world.user(0, |m, s| m.create_group_channel(s, title)).unwrap();
            made.push(group.channel);
        }
        for (index, peer) in [(0, &accounts[1]), (1, &accounts[2])] {
            made.push(world.user(index, |m, s| m.direct(s, peer)).unwrap().channel);
        }
        world.settle().unwrap();
        world.user(0, |m, s| m.change_members(s, &made[0], (true, &accounts[1..]))).unwrap();
        world.user(0, |m, s| m.change_members(s, &made[1], (true, &accounts[1..2]))).unwrap();
        world.settle().unwrap();
        let (began_ms, watched) = (world.now_ms, ALL.iter().map(|_| Watched::default()));
        let watched: Vec<_> = watched.chain([Watched::default()]).collect();
        let early = vec![Early::default(); watched.len()];
        let (group, guests, direct) = (made[0], made[1], [made[2], made[3]]);
        Self {
            world,
            clock,
            pace,
            began_ms,
            group,
            guests,
            direct,
            said: 0,
            turns: 0,
            watched,
            early,
        }
    }

    /// What everybody does, and what each week leaves behind.
    pub(crate) fn weeks(&mut self) {
        let until = self.began_ms + self.pace.days * DAY_MS;
        let mut weeks = 0;
        while self.world.now_ms < until {
            let passed = self.passed() / (self.pace.step_hours * HOUR_MS);
            self.step(passed);
            if self.passed() >= (weeks + 1) * WEEK_MS {
                weeks += 1;
                self.guest(weeks % 2 == 1);
                self.look();
            }
        }
        self.tell();
    }

    /// All come by each so many days, until all certificates were renewed in all channels.
    pub(crate) fn until_renewal(&mut self) {
        let before = self.ends();
        let first = *before.iter().min().unwrap();
        let near_ms = first - 20 * DAY_MS;
        while self.world.now_ms < near_ms {
            self.visit(near_ms.min(self.world.now_ms + self.pace.later_days * DAY_MS));
        }
        // A linked device asks once a day, and each puts its own in force within another. Then
        // weeks pass as before, for what is judged by them: who came by once a week would put off
        // new keys that are due half a day later to the next.
        for days in [1; 3].into_iter().chain([3; 12]) {
            self.visit(self.world.now_ms + days * DAY_MS);
        }
        let after = self.ends();
        assert!(after.iter().all(|end| *end > first + YEAR_MS), "{before:?} {after:?}");
        self.look();
        self.tell();
    }

    fn visit(&mut self, next_ms: u64) {
        self.sleep_until(next_ms);
        self.say(&ALL);
        self.world.settle().unwrap();
        self.watch();
    }

    fn passed(&self) -> u64 {
        self.world.now_ms.saturating_sub(self.began_ms)
    }

    /// One step: some are away, everybody writes, those who are there come to rest.
    fn step(&mut self, number: u64) {
        self.sleep_until(self.world.now_ms + self.pace.step_hours * HOUR_MS);
        let day = usize::try_from(self.passed() / DAY_MS).unwrap();
        // Each in turn is away for a day and a half; the linked device for three days a week.
        let away = |index: usize| match index {
            3 => day % 7 < 3,
            _ => day % 4 == index,
        };
        let here: Vec<usize> = ALL.into_iter().filter(|index| !away(*index)).collect();
        self.say(&here);
        self.world.settle_among(&here).unwrap();
        if number.is_multiple_of(4) {
            self.outlive_tokens(here[0]);
        }
        self.watch();
    }

    fn sleep_until(&mut self, next_ms: u64) {
        self.world.sleep_until(next_ms).unwrap();
        self.clock.set(next_ms);
        self.world.sweep().unwrap();
        // The numbers of rows that have gone may be given again.
        self.watch();
    }

    /// Who is away writes, too: it waits in the outbox.
    fn say(&mut self, here: &[usize]) {
        self.turns += 1;
        let turn = self.turns;
        let writer = turn % ALL.len();
        let [one, other] = self.direct;
        let pair = if turn.is_multiple_of(2) { (0, one) } else { (1, other) };
        let mut lines = vec![(writer, self.group), pair, (here[0], self.group)];
        lines.push((turn / 2 % 2, self.guests));
        for (index, channel) in lines {
            self.said += 1;
            let text = format!("{} by {index}", self.said);
            self.world.write(index, (&channel, &text)).unwrap();
        }
    }

    /// A token ends on an open connection: it is refreshed there.
    fn outlive_tokens(&mut self, index: usize) {
        let before = self.token(index);
        self.world.now_ms += TOKEN_MS;
        let text = format!("{} under an old token", self.said);
        self.world.write(index, (&self.group, &text)).unwrap();
        assert!(self.world.deliver(index, (Method::Enqueue, false)).unwrap());
        while self.token(index) == before {
            assert!(self.world.deliver_down(index).unwrap(), "{index} keeps its tokens");
        }
        assert!(self.world.deliver(index, (Method::Enqueue, false)).unwrap());
        while self.world.deliver_down(index).unwrap() {}
    }

    /// The access token that a connected client has.
    fn token(&mut self, index: usize) -> [u8; 32] {
        *self.world.tokens(index).unwrap()[0].as_bytes()
    }

    /// Client 2 comes into the second group, or goes.
    fn guest(&mut self, comes: bool) {
        let account = self.world.account(2).unwrap();
        self.world.settle().unwrap();
        let guests = self.guests;
        self.world.user(0, |m, s| m.change_members(s, &guests, (comes, &[account]))).unwrap();
        self.world.settle().unwrap();
        let seen = self.world.user(2, |m, s| m.channel(s, &guests)).unwrap();
        assert_eq!(seen.status == ChannelStatus::Left, !comes, "{seen:?}");
    }

    /// All come to rest; what must hold then holds.
    fn look(&mut self) {
        qpc_sim::check(&mut self.world).unwrap();
        self.watch();
        if self.passed() < EARLY_MS {
            for (early, watched) in self.early.iter_mut().zip(&self.watched) {
                early.note(watched);
            }
        }
        for index in ALL {
            let gauges = self.world.user(index, |m, _| Ok(m.gauges())).unwrap();
            let channels = self.world.user(index, |m, s| m.channels(s)).unwrap().len();
            let most = OTHER_PAUSES + channels * CHANNEL_PAUSES;
            assert!(gauges.pauses <= most, "client {index}: {gauges:?}");
        }
        bounds::check(self.world.now_ms, &self.watched, &self.early);
    }

    fn tell(&self) {
        println!("after {} days and {} messages", self.passed() / DAY_MS, self.said);
        bounds::tell(&self.watched, &self.early);
    }

    fn watch(&mut self) {
        let now_ms = self.world.now_ms;
        let paths = self.world.databases();
        for (number, (watched, path)) in self.watched.iter_mut().zip(paths).enumerate() {
            let reader = match number.checked_sub(1) {
                None => self.world.server_reader(),
                Some(client) => self.world.reader(client),
            };
            watched.look((&mut reader.unwrap(), &path), now_ms);
        }
    }

    /// When the certificates of all devices in all channels end, as client 0 sees it.
    fn ends(&mut self) -> Vec<u64> {
        let mut ends = Vec::new();
        for channel in [self.group, self.guests, self.direct[0]] {
            ends.extend(self.world.user(0, |m, s| m.leaf_ends(s, &channel)).unwrap().values());
        }
        ends
    }
}
