//! A wall clock that steps while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qpc_proto::ChannelId;
use qpc_proto::message::{KeyPackageStatus, Request, Response, UploadKeyPackages};
use qpc_server::clock::{Clock, Steady};
use qpc_server::{Limits, Node, Policy, Settings};
use qpc_storage::{Outcome, Store, sql};
use rand_core::OsRng;

use crate::members::key_package;
use crate::support::{Device, LoggedIn, Rig, START_MS, store};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const DAY: u64 = 24 * 3_600 * 1_000;

/// The system's clocks, as tests set them.
struct Clocks {
    wall: Arc<AtomicU64>,
    elapsed: Arc<AtomicU64>,
}

impl Clocks {
    fn new() -> Self {
        let [wall, elapsed] = [START_MS, 0].map(|ms| Arc::new(AtomicU64::new(ms)));
        Self { wall, elapsed }
    }

    fn steady(&self) -> Steady {
        let read = |cell: &Arc<AtomicU64>| -> Clock {
            let cell = Arc::clone(cell);
            Arc::new(move || cell.load(Ordering::SeqCst))
        };
        Steady::new(read(&self.wall), read(&self.elapsed))
    }

    fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.wall.fetch_add(ms, Ordering::SeqCst);
        self.elapsed.fetch_add(ms, Ordering::SeqCst);
    }
}

async fn available(one: &LoggedIn) -> u32 {
    match one.call(&Request::KeyPackageStatus).await.unwrap() {
        Response::KeyPackageStatus(KeyPackageStatus { available, .. }) => available,
        other => panic!("{other:?}"),
    }
}

/// Sweeps until nothing is left to; returns how many rows of any kind went.
fn swept(store: &mut Store, now_ms: u64) -> u64 {
    let before = rows(store);
    let node = Node::open(store, Policy::default(), &mut OsRng).unwrap();
    while node.sweep_once(store, (now_ms, &mut OsRng), &[]).unwrap().1 {}
    before - rows(store)
}

fn rows(store: &mut Store) -> u64 {
    let counted = store.transact(|tx| {
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table'";
        let mut names = tx.prepare(names)?;
        let names = names.query_map([], |row| row.get::<_, String>(0))?;
        let mut rows = 0;
        for name in names {
            let count = format!("SELECT count(*) FROM \"{}\"", name?);
            rows += tx.query_row(&count, [], |row| row.get::<_, u32>(0)).map(u64::from)?;
        }
        Ok::<_, sql::Error>(rows)
    });
    match counted.unwrap() {
        Outcome::Done(rows) => rows,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn case_071_a_step_of_the_wall_clock_expires_nothing_in_a_mass() {
    for (step, ends_at) in [(8 * DAY, u64::MAX), (0, START_MS - 8 * DAY)] {
        let clocks = Clocks::new();
        let steady = clocks.steady();
        let clock = steady.clock();
        let mut rig = Rig::start_with(Limits::default(), |settings| Settings { clock, ..settings });
        let device = Device::new(1);
        let one = rig.join(&device).await;
        one.create_channel(CHANNEL).await;
        one.enqueue(CHANNEL, 1).await;
        let key_packages = vec![key_package(&device, 1)];
        let upload = UploadKeyPackages { key_packages, last_resort: None };
        one.call(&Request::UploadKeyPackages(upload)).await.unwrap();
        let wall = (clocks.wall.load(Ordering::SeqCst) + step).min(ends_at);
        clocks.wall.store(wall, Ordering::SeqCst);
        clocks.pass(Duration::from_secs(60));

        // Its token, its KeyPackage and its log are those of a minute ago.
        assert_eq!(available(&one).await, 1);
        assert_eq!(one.enqueue(CHANNEL, 2).await.seq, 3);
        assert_eq!(one.seqs(CHANNEL).await, [1, 2, 3]);
        assert_eq!(steady.jumps(), 1);
        rig.server.stop().await.unwrap();
        let mut store = store(rig.dir.path());
        assert_eq!(swept(&mut store, steady.now_ms()), 0);
        // By the wall clock a sweep would have taken it all.
        assert_eq!(swept(&mut store, wall) > 0, step > 0);
    }
}

#[tokio::test]
async fn case_071_what_is_due_still_expires_while_the_wall_clock_is_wrong() {
    for wall in [START_MS + 8 * DAY, START_MS - 8 * DAY] {
        let clocks = Clocks::new();
        let clock = clocks.steady().clock();
        let mut rig = Rig::start_with(Limits::default(), |settings| Settings { clock, ..settings });
        let one = rig.join(&Device::new(1)).await;
        clocks.wall.store(wall, Ordering::SeqCst);
        // The slew makes a quarter of an hour a tenth shorter or longer.
        clocks.pass(Duration::from_secs(13 * 60));
        assert!(one.call(&Request::ListChannels).await.is_ok());
        clocks.pass(Duration::from_secs(4 * 60));
        let expired = one.call(&Request::ListChannels).await.unwrap_err();
        assert_eq!(expired.code, qpc_proto::ErrorCode::TokenExpired);
    }
}
