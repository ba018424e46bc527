//! How far each table may grow, and why: no table is without a word here. What has a life by design
//! is bounded by that, nothing by what was measured.

use std::collections::BTreeMap;

use crate::tables::{Early, Watched};

const DAY_MS: u64 = 24 * 3_600_000;
/// The server sweeps at each step, and every client has looked after its own when it is judged; the
/// first of them to be there may have been found late.
const LATE_DAYS: u64 = 1;

/// A row that is written over may get as much more by time: a certificate, 32 keys to resume by.
const FILLS_UP: u64 = 1_024;
/// A row takes no more than a page of its own, with its part of the indexes.
const PAGE: u64 = 4_096;

/// How far a table may grow.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// A row stands for somebody or something that is here: never more than in the first weeks.
    Fixed,
    /// At rest it is empty.
    Empty,
    /// No row is older than so many days.
    Days(u64),
    /// As above, but for one row for each of another table.
    DaysBut(u64, &'static str),
    /// No row is more than so many days older than the newest of its channel.
    Span(u64),
    /// At most so many rows for each of another table.
    Each(u64, &'static str),
    /// It grows, for this reason.
    Grows(&'static str),
    /// It would grow for this reason, if such a thing happened here.
    Never(&'static str),
}

use Bound::{Days, DaysBut, Each, Empty, Fixed, Grows, Never, Span};

/// The server keeps an entry so long, and its id twice as long.
const RETENTION: u64 = 7;
/// The server answers a retry of any other change for a day more than it keeps entries.
const ANSWERS: u64 = RETENTION + 1;
/// Nobody is away for longer, but where everybody is.
const AWAY: u64 = 7;
/// Voters are accounts.
const ACCOUNTS: u64 = 3;
/// A device speaks in each of its channels once in a week and half a day: by its new keys.
const SPEAKS: u64 = 8;
/// A device names the Commit in force when it speaks, which was as old at most.
const NAMED: u64 = 2 * SPEAKS + AWAY;
/// A KeyPackage's Lifetime: a day back, 30 in the directory, 30 unread, one more.
const KEY_PACKAGE: u64 = 62;
/// Clients forget what ended after this; they note its end when they come by the next time.
const ENDED: u64 = 30 + AWAY;
/// Ids that were sealed so long before the last that the server is known to have taken are
/// forgotten; it is known at the visit after the one at which it was sent.
const SEALED: u64 = 30 + SPEAKS + AWAY;

const SERVER: &[(&str, Bound)] = &[
    ("accepted_ids", DaysBut(2 * RETENTION, "channels")),
    ("accepted_upto", Fixed),
    ("account_keys", Fixed),
    ("accounts", Fixed),
    ("answers", Days(ANSWERS)),
    ("auth_migrations", Fixed),
    ("channels", Fixed),
    ("commits", Days(NAMED)),
    ("deletions", Empty),
    ("delivery_migrations", Fixed),
    ("device_lists", Grows("one for each list that was signed: a proof of who was who")),
    ("devices", Fixed),
    ("direct_pairs", Fixed),
    ("invites", Empty),
    ("key_packages", Days(KEY_PACKAGE)),
    ("leaves", Empty),
    ("links", Days(1)),
    ("log", DaysBut(2 * RETENTION, "channels")),
    ("members", Fixed),
    ("payloads", Days(RETENTION)),
    ("posted_lists", Fixed),
    ("rejoins", Empty),
    ("revoked", Never("a revoked device's id must never come back")),
    ("rosters", Each(1, "commits")),
    ("server_meta", Fixed),
    ("server_migrations", Fixed),
    ("spent", Never("what an erased account was known by must never come back")),
    ("storage_meta", Fixed),
    ("tokens", Days(60)),
    ("verdicts", Days(RETENTION)),
    ("welcomes", Days(30)),
];

const CLIENT: &[(&str, Bound)] = &[
    ("attempt", Empty),
    ("channel", Fixed),
    ("client_migrations", Fixed),
    ("contact", Fixed),
    ("contact_device", Fixed),
    ("ended", Never("a closed channel's line names the one that took its place")),
    ("head", Each(1_000, "channel")),
    ("heard", Fixed),
    ("intent", Days(ENDED)),
    ("intent_account", Days(ENDED)),
    ("intent_context", Days(ENDED)),
    ("intent_device", Days(ENDED)),
    ("intent_key_package", Days(ENDED)),
    ("kept_entry", Never("what could not be read may be read by a later version")),
    ("key_package", Days(KEY_PACKAGE)),
    ("link_offer", Empty),
    ("loss", Never("the ledger of losses is the user's")),
    ("lost_branch", Empty),
    ("message", Grows("the history is the user's")),
    ("mls_encryption_key_pair", Fixed),
    ("mls_epoch_key_pairs", Fixed),
    ("mls_group", Fixed),
    ("mls_key_package", Days(KEY_PACKAGE)),
    ("mls_message_secrets", Fixed),
    ("mls_migrations", Fixed),
    ("mls_own_leaf_node", Empty),
    ("mls_proposal", Empty),
    ("mls_psk", Empty),
    ("mls_signature_key_pair", Fixed),
    ("notice", Never("what the server told of the account is the user's")),
    ("outbox", Empty),
    ("profile", Fixed),
    ("rejoin", Each(1, "channel")),
    ("renewal", Each(1, "profile")),
    ("renewed", Each(1, "profile")),
    ("run", Fixed),
    ("sealed_commit", Empty),
    ("sealed_id", Span(SEALED)),
    ("standing_rejoin", Empty),
    ("standing_statement", Empty),
    ("storage_meta", Fixed),
    ("takes_place", Empty),
    ("upkeep", Each(1, "channel")),
    ("upload", Empty),
    ("verdict", Span(1)),
    ("verdict_vote", Each(ACCOUNTS, "verdict")),
    ("voucher", Empty),
];

impl Bound {
    fn words(self) -> String {
        match self {
            Fixed => "as many as at first".to_owned(),
            Empty => "none at rest".to_owned(),
            Days(days) => format!("{days} days"),
            DaysBut(days, but) => format!("{days} days, but one for each of {but}"),
            Span(days) => format!("{days} days from the first to the last of a channel"),
            Each(most, of) => format!("{most} for each of {of}"),
            Grows(why) => format!("grows: {why}"),
            Never(why) => format!("not here: {why}"),
        }
    }
}

fn bounds(database: usize) -> BTreeMap<&'static str, Bound> {
    let list = if database == 0 { SERVER } else { CLIENT };
    list.iter().copied().collect()
}

/// All databases are within their bounds; `early` is the most that each table had at first.
pub(crate) fn check(now_ms: u64, all: &[Watched], early: &[Early]) {
    for (database, watched) in all.iter().enumerate() {
        let bounds = bounds(database);
        for (table, size) in &watched.sizes {
            let bound = bounds.get(table.as_str());
            let bound = bound.unwrap_or_else(|| panic!("nothing is said of {table}"));
            let early = early[database].sizes.get(table).copied().unwrap_or_default();
            let fits = fits((watched, now_ms), (table, *bound), early.rows);
            assert!(fits, "database {database} has too much in {table}: {size:?}, {bound:?}");
            let fills_up = size.bytes <= early.bytes + size.rows * FILLS_UP;
            let grows = matches!(bound, Fixed) && !fills_up;
            assert!(!grows, "rows of {table} in database {database}: {size:?}, first {early:?}");
        }
        // What once was full of rows that have gone may not be given back.
        let more = watched.most_rows().saturating_sub(early[database].rows());
        let most = early[database].used + more * PAGE;
        assert!(watched.used <= most, "database {database}: {} of {most} bytes", watched.used);
        for table in bounds.keys() {
            assert!(watched.sizes.contains_key(*table), "there is no {table}");
        }
    }
}

fn fits((watched, now_ms): (&Watched, u64), (table, bound): (&str, Bound), early: u64) -> bool {
    let rows = |table: &str| watched.sizes.get(table).map_or(0, |size| size.rows);
    let older =
        |days: u64| watched.older(table, now_ms.saturating_sub((days + LATE_DAYS) * DAY_MS));
    match bound {
        Fixed => rows(table) <= early,
        Empty | Never(_) => rows(table) == 0,
        Days(days) => older(days) == 0,
        DaysBut(days, but) => older(days) <= rows(but),
        Span(days) => watched.spans_ms[table] <= (days + LATE_DAYS) * DAY_MS,
        Each(most, of) => rows(table) <= most * rows(of),
        Grows(_) => true,
    }
}

/// What the server and the first client had at first, and have now.
pub(crate) fn tell(all: &[Watched], early: &[Early]) {
    for (database, name) in [(0, "server"), (1, "client")] {
        let watched = &all[database];
        println!("{name}: {} KiB used, {} KiB file", watched.used / 1_024, watched.file / 1_024);
        println!("  {:24} {:>9} {:>7} {:>9}  bound", "table", "4 weeks", "rows", "bytes");
        let bounds = bounds(database);
        for (table, size) in watched.sizes.iter().filter(|(_, size)| size.rows > 0) {
            let early = early[database].sizes.get(table).copied().unwrap_or_default().rows;
            let bound = bounds.get(table.as_str());
            let bound = bound.map(|bound| bound.words()).unwrap_or_default();
            println!("  {table:24} {early:9} {:7} {:9}  {bound}", size.rows, size.bytes);
        }
    }
}
