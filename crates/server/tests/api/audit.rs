//! The audit log: its chain, what tampering leaves behind, restarts, retention, and floods.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use qpc_proto::message::{Cursor, DeviceRef, Request};
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest, ErrorCode, Token};
use qpc_server::audit::{AdminAction, Audit, AuditEvent, Head, Keeping, QUEUE_MAX, verify};
use qpc_server::{Limits, Settings, clock};
use serde_json::Value;

use crate::support::{Device, Rig, START_MS};

/// Small files, so that a few lines make several.
const KEEPING: Keeping = Keeping { file_bytes: 1_000, keep_ms: 10 * 86_400_000 };

fn device(n: u8) -> DeviceRef {
    DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) }
}

fn still() -> clock::Clock {
    Arc::new(|| START_MS)
}

/// Records so many logins, each on disk before the next.
fn record(audit: &Audit, count: u8) {
    for n in 0..count {
        audit.record(AuditEvent::LoggedIn { device: device(n) }, Some([203, 0, 113, n].into()));
        audit.flush();
    }
}

/// A log of several files in `dir`, and its end.
fn log(dir: &Path) -> Head {
    let audit = Audit::start(dir, KEEPING, None, still()).unwrap();
    record(&audit, 12);
    audit.stop();
    audit.head().unwrap()
}

fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.jsonl"))
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn put(path: &Path, lines: &[String]) {
    fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn files(dir: &Path) -> BTreeSet<String> {
    let name = |file: fs::DirEntry| file.file_name().into_string().unwrap();
    fs::read_dir(dir).unwrap().map(|file| name(file.unwrap())).collect()
}

/// Every line of every file, in order.
fn all(dir: &Path) -> Vec<Value> {
    let files = files(dir).into_iter().filter(|name| name.ends_with(".jsonl"));
    files
        .flat_map(|name| lines(&dir.join(name)))
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

fn events(dir: &Path) -> Vec<String> {
    all(dir).iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
}

/// File and line of the first break.
fn broken(dir: &Path, known: Option<Head>) -> Option<(String, u64)> {
    verify(dir, known, false).unwrap().broken.map(|at| (at.file, at.line))
}

fn at(file: u64, line: u64) -> Option<(String, u64)> {
    Some((format!("{file:08}.jsonl"), line))
}

#[test]
fn lines_are_chained_across_files_that_only_their_owner_reads() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let head = log(&dir);
    assert_eq!(head.seq, 12);
    assert!(files(&dir).len() > 2);
    let report = verify(&dir, Some(head), false).unwrap();
    assert_eq!((report.lines, report.broken), (12, None));
    assert_eq!((report.first_ms, report.last_ms), (Some(START_MS), Some(START_MS)));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&file(&dir, 1))), (0o700, 0o600));
    let first = &all(&dir)[0];
    assert_eq!(first["seq"], 1);
    assert_eq!(first["event"], "logged_in");
    assert_eq!(first["network"], "203.0.113.0/24", "no address");
    assert_eq!(first["device"], DeviceId([0; 16]).to_string());
    assert_eq!(first["prev"], "0".repeat(64));
}

#[test]
fn every_event_stands_in_the_operators_page() {
    let page = include_str!("../../../../docs/operate/audit.md");
    let table = page.split("| Event |").nth(1).unwrap().split("\n\n").next().unwrap();
    let named: BTreeSet<_> =
        table.lines().skip(2).filter_map(|row| row.split('`').nth(1)).collect();
    let (device, linked) = (device(1), DeviceId([2; 16]));
    let account = device.account;
    let code = "UNAUTHENTICATED";
    let events = [
        AuditEvent::Started { version: "1" },
        AuditEvent::Stopped,
        AuditEvent::Registered { device },
        AuditEvent::LoggedIn { device },
        AuditEvent::Refreshed { device },
        AuditEvent::RefreshReused { device },
        AuditEvent::LoggedOut { device },
        AuditEvent::AuthFailed { method: "Login", code, device: Some(device) },
        AuditEvent::LimitHit { limit: "login" },
        AuditEvent::DeviceLinked { device, linked },
        AuditEvent::DeviceRevoked { device, revoked: linked },
        AuditEvent::DevicesRenewed { device, count: 2 },
        AuditEvent::Recovered { device },
        AuditEvent::KeyPackagesUploaded { device, count: 3 },
        AuditEvent::Exported { device },
        AuditEvent::DeletionRequested { device, delete_at_ms: 1 },
        AuditEvent::DeletionCancelled { device },
        AuditEvent::AccountDeleted { account },
        AuditEvent::AccountErased { account },
        AuditEvent::Admin { action: AdminAction::Suspend, target: None, uid: Some(7) },
        AuditEvent::Lost { lines: 1 },
        AuditEvent::LeftOut { of: "auth_failed", lines: 1 },
        AuditEvent::Altered { from_seq: 1, to_seq: 2 },
        AuditEvent::Torn { file: 1, bytes: 2 },
        AuditEvent::Expired { file: 1, last_seq: 2, last_hash: Digest([3; 32]) },
    ];
    let lines: Vec<_> = events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    let known: BTreeSet<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(named, known);
    for line in &lines {
        for field in line.as_object().unwrap().keys() {
            let row = table.lines().find(|row| row.contains(line["event"].as_str().unwrap()));
            assert!(field == "event" || row.unwrap().contains(&format!("`{field}`")), "{line}");
        }
    }
}

#[test]
fn case_198_whatever_is_done_to_the_log_is_found_with_file_and_line() {
    let parent = tempfile::tempdir().unwrap();
    let tampered = |name: &str, tamper: &dyn Fn(&Path)| {
        let dir = parent.path().join(name);
        let head = log(&dir);
        assert_eq!(broken(&dir, Some(head)), None, "{name}");
        tamper(&dir);
        broken(&dir, Some(head))
    };
    let edited = |dir: &Path, change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines(&file(dir, 2));
        assert!(lines.len() >= 3);
        change(&mut lines);
        put(&file(dir, 2), &lines);
    };
    // One byte of a value: the line after it does not follow any more.
    let byte = |lines: &mut Vec<String>| lines[1] = lines[1].replace("203", "204");
    assert_eq!(tampered("byte", &|dir| edited(dir, &byte)), at(2, 3));
    let no_json = |lines: &mut Vec<String>| lines[1].insert(0, 'x');
    assert_eq!(tampered("no json", &|dir| edited(dir, &no_json)), at(2, 2));
    let last_byte = |dir: &Path| edited(dir, &|lines| *lines.last_mut().unwrap() = byte_of(lines));
    assert_eq!(tampered("last of a file", &last_byte), at(3, 1));
    let delete = |lines: &mut Vec<String>| drop(lines.remove(1));
    assert_eq!(tampered("delete", &|dir| edited(dir, &delete)), at(2, 2));
    let swap = |lines: &mut Vec<String>| lines.swap(0, 1);
    assert_eq!(tampered("swap", &|dir| edited(dir, &swap)), at(2, 1));
    let insert = |lines: &mut Vec<String>| lines.insert(1, lines[0].clone());
    assert_eq!(tampered("insert", &|dir| edited(dir, &insert)), at(2, 2));
    assert_eq!(tampered("middle", &|dir| fs::remove_file(file(dir, 2)).unwrap()), at(3, 1));
    assert_eq!(tampered("oldest", &|dir| fs::remove_file(file(dir, 1)).unwrap()), at(2, 1));
    let last = u64::try_from(files(&parent.path().join("byte")).len()).unwrap();
    let cut = |dir: &Path| {
        let mut lines = lines(&file(dir, last));
        lines.pop();
        put(&file(dir, last), &lines);
    };
    let left = u64::try_from(lines(&file(&parent.path().join("byte"), last)).len()).unwrap();
    assert_eq!(tampered("tail", &cut), at(last, left));
    let newest = tampered("newest", &|dir| fs::remove_file(file(dir, last)).unwrap()).unwrap();
    assert_eq!(newest.0, file(Path::new(""), last - 1).display().to_string());
    let forged = |dir: &Path| {
        let mut lines = lines(&file(dir, last));
        *lines.last_mut().unwrap() = byte_of(&lines);
        put(&file(dir, last), &lines);
    };
    assert_eq!(tampered("very last", &forged), at(last, left));
}

/// The last line with another address.
fn byte_of(lines: &[String]) -> String {
    lines.last().unwrap().replace("203", "204")
}

#[test]
fn case_198_a_cut_while_the_server_stood_is_told_for_ever() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let known = log(&dir);
    let last = u64::try_from(files(&dir).len()).unwrap();
    fs::remove_file(file(&dir, last)).unwrap();
    let audit = Audit::start(&dir, KEEPING, Some(known), still()).unwrap();
    record(&audit, 3);
    audit.stop();
    let altered = all(&dir).into_iter().find(|line| line["event"] == "altered").unwrap();
    assert_eq!((&altered["to_seq"], &altered["seq"]), (&known.seq.into(), &(known.seq + 1).into()));
    assert!(broken(&dir, audit.head()).is_some());
    assert!(broken(&dir, None).is_some(), "without the database, too");
}

#[test]
fn case_198_a_line_edited_and_chained_anew_is_told_at_the_next_start() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, other) = (parent.path().join("audit"), parent.path().join("other"));
    let known = log(&dir);
    let audit = Audit::start(&other, KEEPING, None, still()).unwrap();
    for n in 20..40 {
        audit.record(AuditEvent::LoggedIn { device: device(n) }, None);
        audit.flush();
    }
    audit.stop();
    // A whole log, and a longer one, but not the one that the database knows.
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&other, &dir).unwrap();
    assert!(broken(&dir, None).is_none() && broken(&dir, Some(known)).is_some());
    let audit = Audit::start(&dir, KEEPING, Some(known), still()).unwrap();
    audit.stop();
    assert_eq!(events(&dir).last().unwrap(), "altered");
    assert!(broken(&dir, audit.head()).is_some());
}

#[test]
fn a_restart_goes_on_with_the_chain_and_sets_a_torn_end_aside() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let known = log(&dir);
    let last = u64::try_from(files(&dir).len()).unwrap();
    let whole = fs::read(file(&dir, last)).unwrap();
    fs::write(file(&dir, last), [&whole[..], b"{\"seq\":13,\"at"].concat()).unwrap();
    assert!(broken(&dir, Some(known)).is_some());
    assert_eq!(verify(&dir, Some(known), true).unwrap().broken, None, "a server is writing it");
    let audit = Audit::start(&dir, KEEPING, Some(known), still()).unwrap();
    record(&audit, 1);
    audit.stop();
    assert_eq!(audit.head().unwrap().seq, 14);
    assert_eq!(broken(&dir, audit.head()), None);
    assert_eq!(events(&dir)[12..], ["torn", "logged_in"]);
    let aside = file(&dir, last).with_extension("torn");
    assert_eq!(fs::read(aside).unwrap(), b"{\"seq\":13,\"at");
}

#[test]
fn old_files_go_after_a_line_that_says_so_and_only_then() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let now = Arc::new(AtomicU64::new(START_MS));
    let read = Arc::clone(&now);
    let audit =
        Audit::start(&dir, KEEPING, None, Arc::new(move || read.load(Ordering::SeqCst))).unwrap();
    record(&audit, 12);
    now.fetch_add(KEEPING.keep_ms + 86_400_001, Ordering::SeqCst);
    record(&audit, 6);
    audit.stop();
    let left = files(&dir);
    assert!(!left.contains("00000001.jsonl"), "{left:?}");
    assert_eq!(broken(&dir, audit.head()), None);
    assert!(events(&dir).contains(&"expired".to_owned()));
    // Another one by hand is no expiry.
    fs::remove_file(dir.join(left.first().unwrap())).unwrap();
    let next = left.iter().nth(1).unwrap().clone();
    assert_eq!(broken(&dir, audit.head()), Some((next, 1)));
}

#[test]
fn a_full_queue_loses_lines_counts_them_and_delays_nobody() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let disk = Arc::new(Mutex::new(()));
    let slow = Arc::clone(&disk);
    // The log's own thread asks for the time before it writes, and there it hangs.
    let clock = Arc::new(move || {
        if std::thread::current().name() == Some("qpc-audit") {
            drop(slow.lock().unwrap());
        }
        START_MS
    });
    let audit = Audit::start(&dir, Keeping::default(), None, clock).unwrap();
    let hanging = disk.lock().unwrap();
    let recorded = QUEUE_MAX + 1_000;
    for _ in 0..recorded {
        audit.record(AuditEvent::LoggedIn { device: device(1) }, None);
    }
    assert!(audit.lost() > 0);
    drop(hanging);
    audit.stop();
    let lines = all(&dir);
    let told: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    assert_eq!(told, audit.lost());
    let written = lines.iter().filter(|line| line["event"] == "logged_in").count();
    assert_eq!(written + usize::try_from(told).unwrap(), recorded);
    assert_eq!(broken(&dir, audit.head()), None);
}

#[tokio::test]
async fn a_wrong_token_is_told_whatever_it_came_with() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let audit = Audit::start(&dir, Keeping::default(), None, still()).unwrap();
    let mut rig = Rig::start_with(Limits::default(), |settings| Settings { audit, ..settings });
    let alice = rig.join(&Device::new(1)).await;
    let stranger = rig.connect();
    let cursor = Cursor { channel: ChannelId([5; 16]), seq: 1 };
    let requests = [Request::Ack(vec![cursor]), Request::ListChannels, Request::KeyPackageStatus];
    for request in &requests {
        for client in [&alice.client, &stranger] {
            let refused = client.call(&Token([7; 32]), request).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::Unauthenticated);
        }
    }
    rig.server.stop().await.unwrap();
    let told = all(&dir);
    let failed = told.iter().filter(|line| line["event"] == "auth_failed");
    let methods: Vec<_> = failed.map(|line| line["method"].as_str().unwrap()).collect();
    let expected = requests.iter().flat_map(|request| [request.method().as_str(); 2]);
    assert_eq!(methods, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_tells_who_came_and_who_failed_and_no_secret() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("audit");
    let audit = Audit::start(&dir, Keeping::default(), None, still()).unwrap();
    let log = audit.clone();
    let mut rig = Rig::start_with(Limits::default(), |settings| Settings { audit, ..settings });
    let alice = rig.join(&Device::new(1)).await;
    let stranger = rig.connect_from("2001:db8:1:2::9");
    let login = Device::new(2).login(&stranger.connection.binding());
    stranger.call(&Token::NONE, &login).await.unwrap_err();
    alice.call(&Request::Logout).await.unwrap();
    rig.server.stop().await.unwrap();
    assert_eq!(
        events(&dir),
        ["started", "registered", "logged_in", "auth_failed", "logged_out", "stopped"]
    );
    let failed = &all(&dir)[3];
    assert_eq!(failed["method"], "Login");
    assert_eq!(failed["network"], "2001:db8:1:2::/64");
    assert_eq!(broken(&dir, log.head()), None);
    let text: String = all(&dir).iter().map(ToString::to_string).collect();
    let hex = |byte: &u8| format!("{byte:02x}");
    let token: String = alice.tokens.access_token.as_bytes()[..4].iter().map(hex).collect();
    assert!(!text.contains(&token) && !text.contains("device-1"));
}
