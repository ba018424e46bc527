//! The program as an operator starts it: `init`, `serve`, `invite`, signals and exit codes.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use bytes::Bytes;
use qpc_proto::{ErrorCode, Token};
use qpc_server::config::EXAMPLE;
use qpc_transport::{ClientLimits, ServerUrl, connect};

use crate::support::{Client, Device};

fn program(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpc-server"));
    command.args(arguments).arg("--data-dir").arg(dir);
    command
}

pub(crate) fn run(arguments: &[&str], dir: &Path) -> Output {
    program(arguments, dir).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A serving process; killed when dropped, whatever the test says.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) url: ServerUrl,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn serve(arguments: &[&str], dir: &Path) -> Serving {
    let mut command = program(&["serve"], dir);
    let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let url = line.strip_prefix("ready ").unwrap().trim_end().parse().unwrap();
    Serving { child, url }
}

impl Serving {
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

#[test]
fn init_makes_everything_once_and_overwrites_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    assert!(run(&["init"], &dir).status.success());
    assert_eq!(fs::read_to_string(dir.join("config.toml")).unwrap(), EXAMPLE);
    for secret in ["server.key", "tls.key"] {
        let mode = fs::metadata(dir.join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let key = fs::read(dir.join("server.key")).unwrap();
    let again = run(&["init"], &dir);
    assert_eq!(again.status.code(), Some(6));
    assert!(text(&again.stderr).contains("exists already"));
    assert_eq!(fs::read(dir.join("server.key")).unwrap(), key);
}

#[test]
fn what_is_missing_or_wrong_has_its_exit_code() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let missing = run(&["serve"], &dir);
    assert_eq!(missing.status.code(), Some(7));
    assert!(text(&missing.stderr).contains("qpc-server init"));
    assert!(!dir.exists());
    assert!(run(&["init"], &dir).status.success());
    fs::write(dir.join("config.toml"), "\nretention_days = 99\n").unwrap();
    let wrong = run(&["serve"], &dir);
    assert_eq!(wrong.status.code(), Some(3));
    assert!(text(&wrong.stderr).contains("config.toml") && text(&wrong.stderr).contains("line 2"));
    fs::write(dir.join("config.toml"), EXAMPLE).unwrap();
    fs::write(dir.join("server.key"), [0; 32]).unwrap();
    assert_eq!(run(&["serve"], &dir).status.code(), Some(5));
    let public = run(&["serve", "--dev", "--listen", "0.0.0.0:0"], &dir);
    assert_eq!(public.status.code(), Some(1));
    assert!(text(&public.stderr).contains("loopback"));
}

#[test]
fn an_interrupted_init_is_told_by_every_command() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    assert!(run(&["init"], &dir).status.success());
    fs::remove_file(dir.join("server.db")).unwrap();
    let key = fs::read(dir.join("server.key")).unwrap();
    for arguments in [&["init"][..], &["serve"], &["serve", "--dev"], &["invite"]] {
        let refused = run(arguments, &dir);
        assert_eq!(refused.status.code(), Some(7), "{arguments:?}");
        assert!(text(&refused.stderr).contains("was interrupted"), "{arguments:?}");
    }
    assert_eq!(fs::read(dir.join("server.key")).unwrap(), key);
}

#[test]
fn a_directory_that_anybody_writes_to_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    assert!(run(&["init"], &dir).status.success());
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    for arguments in [&["serve"][..], &["invite"]] {
        let refused = run(arguments, &dir);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(text(&refused.stderr).contains("chmod o-w"), "{arguments:?}");
    }
}

#[test]
fn a_wrong_log_filter_is_a_wrong_command_line_or_configuration() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    assert!(run(&["init"], &dir).status.success());
    assert_eq!(run(&["serve", "--log", "a=b=c"], &dir).status.code(), Some(2));
    fs::write(dir.join("config.toml"), "log = \"a=b=c\"\n").unwrap();
    assert_eq!(run(&["serve"], &dir).status.code(), Some(3));
}

#[test]
fn case_173_a_second_server_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&["--dev", "--listen", "127.0.0.1:0"], dir.path());
    let second = run(&["serve", "--dev", "--listen", "127.0.0.1:0"], dir.path());
    assert_eq!(second.status.code(), Some(4));
    assert!(text(&second.stderr).contains("STORE_LOCKED"));
    assert!(second.stdout.is_empty());
    assert_eq!(serving.terminate(), Some(0));
    assert!(!dir.path().join("admin.sock").exists());
}

#[tokio::test]
async fn an_invite_registers_one_account_whether_made_beside_a_server_or_not() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(&["init"], dir.path()).status.success());
    let offline: ServerUrl = text(&run(&["invite"], dir.path()).stdout).trim_end().parse().unwrap();
    let serving = serve(&["--listen", "127.0.0.1:0"], dir.path());
    let online: ServerUrl = text(&run(&["invite"], dir.path()).stdout).trim_end().parse().unwrap();
    assert_eq!((online.port, online.fingerprint), (serving.url.port, serving.url.fingerprint));
    assert_eq!(offline.fingerprint, online.fingerprint);
    let connection = connect(&online, &ClientLimits::default()).await.unwrap();
    let client = Client { connection };
    for (seed, url) in [(1, &offline), (2, &online)] {
        let code = Bytes::copy_from_slice(url.invite.as_ref().unwrap().as_ref());
        let binding = client.connection.binding();
        let register = Device::new(seed).register(&binding, code.clone());
        client.call(&Token::NONE, &register).await.unwrap();
        let register = Device::new(seed + 10).register(&binding, code);
        let refused = client.call(&Token::NONE, &register).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::InviteRequired);
    }
    let code = tokio::task::spawn_blocking(|| serving.terminate()).await.unwrap();
    assert_eq!(code, Some(0));
}
