//! Administration: over files alone, by role, with a trace in the audit log.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qpc_proto::message::Request;
use qpc_proto::{ErrorCode, Token};
use qpc_server::admin::{self, Answer, Question};
use qpc_server::{DataDir, ServerError};
use qpc_transport::{ClientLimits, CloseReason, connect};
use serde_json::Value;

use crate::program::{Serving, run, serve, text};
use crate::support::{Client, Device, LoggedIn};

const DEV: [&str; 3] = ["--dev", "--listen", "127.0.0.1:0"];

async fn join(serving: &Serving, seed: u8) -> LoggedIn {
    let connection = connect(&serving.url, &ClientLimits::default()).await.unwrap();
    let client = Client { connection };
    client.register(&Device::new(seed)).await.unwrap();
    client.log_in(&Device::new(seed)).await
}

/// Asks beside the test's own connections, which need their thread.
async fn ask(dir: &Path, question: Question) -> Result<Answer, ServerError> {
    let dir = DataDir::new(dir);
    tokio::task::spawn_blocking(move || admin::ask(&dir, &question)).await.unwrap()
}

fn named(n: u8) -> String {
    format!("device-{n}")
}

/// One line to a socket, and one back.
fn say(socket: &Path, line: &str) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    writeln!(stream, "{line}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

fn audited(dir: &Path) -> Vec<Value> {
    let file = fs::read_to_string(dir.join("audit/00000001.jsonl")).unwrap();
    let lines = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "admin").collect()
}

#[test]
fn case_195_administration_is_reached_through_files_of_their_modes_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let serving = serve(&DEV, &dir);
    for (socket, mode) in [("admin.sock", 0o600), ("viewer.sock", 0o660)] {
        let file = fs::metadata(dir.join(socket)).unwrap();
        assert!(file.file_type().is_socket());
        assert_eq!(file.permissions().mode() & 0o777, mode, "{socket}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let metrics = run(&["admin", "metrics"], &dir);
    assert!(text(&metrics.stdout).contains("qpc_connections_open"));
    assert_eq!(serving.terminate(), Some(0));
    assert!(!dir.join("admin.sock").exists() && !dir.join("viewer.sock").exists());
}

#[tokio::test]
async fn case_195_the_public_port_knows_no_question_of_an_operator() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&DEV, dir.path());
    let alice = join(&serving, 1).await;
    // What has no number in the protocol has no way to a service.
    let frame = qpc_proto::frame::Frame::Request(qpc_proto::frame::RequestFrame {
        method: 0xfff,
        token: alice.tokens.access_token.clone(),
        request_id: qpc_proto::RequestId([1; 16]),
        body: serde_json::to_vec(&Question::Metrics).unwrap().into(),
    });
    let answer = alice.client.exchange(frame).await;
    let code = ErrorCode::UnknownMethod.as_u16();
    assert!(matches!(answer, qpc_proto::frame::Frame::Error(found, _) if found == code));
}

#[test]
fn a_viewer_reads_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let _serving = serve(&DEV, dir.path());
    let socket = dir.path().join("viewer.sock");
    let accounts = say(&socket, r#"{"command":"accounts","after":null}"#);
    assert_eq!(accounts["accounts"]["accounts"], serde_json::json!([]));
    assert!(say(&socket, r#"{"command":"metrics"}"#)["metrics"].is_string());
    for question in [
        Question::Invite,
        Question::RevokeInvite { id: "0".to_owned() },
        Question::Suspend { name: "a".to_owned() },
        Question::Resume { name: "a".to_owned() },
        Question::EndSessions { name: "a".to_owned() },
    ] {
        assert!(question.changes());
        let refused = say(&socket, &serde_json::to_string(&question).unwrap());
        assert!(refused["error"].as_str().unwrap().contains("changes nothing"), "{refused}");
    }
    assert!(say(&socket, "{}")["error"].is_string());
    assert!(say(&socket, r#"{"command":"login"}"#)["error"].is_string());
    assert_eq!(audited(dir.path()), Vec::<Value>::new());
}

#[tokio::test]
async fn a_suspended_account_is_cut_off_and_comes_back_when_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&DEV, dir.path());
    let (alice, bob) = (join(&serving, 1).await, join(&serving, 2).await);
    let done = ask(dir.path(), Question::Suspend { name: named(1) }).await.unwrap();
    assert_eq!(done, Answer::Done { devices: 1 });
    let closed = tokio::time::timeout(Duration::from_secs(5), alice.client.connection.closed());
    let why = closed.await.expect("cut off");
    let code = u32::from(ErrorCode::AccountSuspended.as_u16());
    assert!(matches!(why, CloseReason::Peer { code: found, .. } if found == code), "{why:?}");
    bob.call(&Request::ListChannels).await.unwrap();
    let connection = connect(&serving.url, &ClientLimits::default()).await.unwrap();
    let again = Client { connection };
    let login = Device::new(1).login(&again.connection.binding());
    let refused = again.call(&Token::NONE, &login).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AccountSuspended);
    ask(dir.path(), Question::Resume { name: named(1) }).await.unwrap();
    again.log_in(&Device::new(1)).await.call(&Request::ListChannels).await.unwrap();
    let unknown = ask(dir.path(), Question::Suspend { name: "nobody".to_owned() }).await;
    assert!(matches!(unknown, Err(ServerError::Refused(why)) if why.contains("ACCOUNT_NOT_FOUND")));
    drop(serving);
    let actions = audited(dir.path());
    let actions: Vec<_> = actions.iter().map(|line| (&line["action"], &line["target"])).collect();
    let alice = Value::from(named(1));
    assert_eq!(actions, [(&"suspend".into(), &alice), (&"resume".into(), &alice)]);
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&DEV, dir.path());
    let alice = join(&serving, 1).await;
    let sessions = Question::Sessions { name: named(1) };
    let Answer::Sessions(listed) = ask(dir.path(), sessions.clone()).await.unwrap() else {
        panic!("sessions")
    };
    assert_eq!(listed.len(), 1);
    let ended = ask(dir.path(), Question::EndSessions { name: named(1) }).await.unwrap();
    assert_eq!(ended, Answer::Done { devices: 1 });
    let closed = tokio::time::timeout(Duration::from_secs(5), alice.client.connection.closed());
    closed.await.expect("cut off");
    assert_eq!(ask(dir.path(), sessions).await.unwrap(), Answer::Sessions(Vec::new()));
    let connection = connect(&serving.url, &ClientLimits::default()).await.unwrap();
    Client { connection }.log_in(&Device::new(1)).await;
}

#[tokio::test]
async fn the_program_prints_tables_and_json_whether_the_server_runs_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&DEV, dir.path());
    join(&serving, 1).await;
    join(&serving, 2).await;
    let ask = |arguments: &[&str]| text(&run(arguments, dir.path()).stdout);
    let running = ask(&["admin", "accounts"]);
    let heads: Vec<_> = running.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(heads, ["NAME", "device-1", "device-2"]);
    assert!(ask(&["admin", "limits"]).contains("connections_max"));
    assert!(ask(&["admin", "sessions", "device-1"]).starts_with("DEVICE"));
    assert_eq!(run(&["admin", "sessions"], dir.path()).status.code(), Some(2));
    assert!(ask(&["admin", "sessions", "end", "device-2"]).starts_with("done; devices cut off: 1"));
    let code = tokio::task::spawn_blocking(|| serving.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(ask(&["admin", "accounts"]), running);
    let rows: Vec<Value> = ask(&["admin", "accounts", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((rows.len(), &rows[0]["standing"]), (2, &"active".into()));
    assert_eq!(ask(&["admin", "suspend", "device-1"]), "done; devices cut off: 1\n");
    assert!(ask(&["admin", "accounts"]).contains("suspended"));
    let metrics = run(&["admin", "metrics"], dir.path());
    assert_eq!(metrics.status.code(), Some(1));
    assert!(text(&metrics.stderr).contains("no server runs"));
    assert!(ask(&["audit", "verify"]).ends_with("end    compared\nOK\n"));
    assert_eq!(audited(dir.path()).last().unwrap()["action"], "suspend");
}

#[test]
fn invites_are_listed_by_a_part_of_their_hash_and_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["init"], dir.path()).status.success());
    let ask = |arguments: &[&str]| text(&run(arguments, dir.path()).stdout);
    let url = ask(&["invite"]);
    let listed = ask(&["admin", "invites", "--json"]);
    let row: Value = serde_json::from_str(listed.trim_end()).unwrap();
    let id = row["id"].as_str().unwrap();
    assert!(!url.contains(id), "the list must not help to guess a code");
    assert_eq!(ask(&["admin", "invite", "revoke", id]), "done\n");
    assert_eq!(ask(&["admin", "invites", "--json"]), "");
    let again = run(&["admin", "invite", "revoke", id], dir.path());
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("admin invites"));
}

#[test]
fn case_198_the_program_names_file_and_line_of_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&DEV, dir.path());
    let verify = || run(&["audit", "verify"], dir.path());
    assert!(text(&verify().stdout).ends_with("OK\n"), "while it runs");
    assert_eq!(serving.terminate(), Some(0));
    assert_eq!(verify().status.code(), Some(0));
    let file = dir.path().join("audit/00000001.jsonl");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("\"started\"", "\"stopped\"")).unwrap();
    let edited = verify();
    assert_eq!(edited.status.code(), Some(8));
    assert!(text(&edited.stderr).contains("00000001.jsonl line 2"), "{}", text(&edited.stderr));
    assert!(text(&edited.stdout).ends_with("BROKEN\n"));
    let cut: String = good.lines().take(1).map(|line| format!("{line}\n")).collect();
    fs::write(&file, cut).unwrap();
    let cut = verify();
    assert_eq!(cut.status.code(), Some(8), "the database knows how far it went");
    assert!(text(&cut.stderr).contains("00000001.jsonl line 2: the log ends here"));
}

#[test]
fn a_killed_server_goes_on_with_its_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serve(&DEV, dir.path());
    serving.child.kill().unwrap();
    drop(serving);
    let serving = serve(&DEV, dir.path());
    assert_eq!(serving.terminate(), Some(0));
    let verify = run(&["audit", "verify", "--json"], dir.path());
    assert_eq!(verify.status.code(), Some(0), "{}", text(&verify.stderr));
    let report: Value = serde_json::from_str(&text(&verify.stdout)).unwrap();
    assert_eq!((&report["broken"], &report["end_compared"]), (&Value::Null, &true.into()));
}
