//! The `qpc` program as a script sees it, as far as that goes without a server.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot start is a failed test"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn qpc(home: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qpc"))
        .arg("--home")
        .arg(home)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The code of a JSON error, which must be the only line on standard error.
fn error_code(output: &Output) -> String {
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(!error["error"]["message"].as_str().unwrap().is_empty());
    error["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn help_and_version_go_to_standard_output() {
    let home = tempfile::tempdir().unwrap();
    for flag in ["--help", "--version"] {
        let output = qpc(home.path(), &[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("qpc"));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_link_s_code_is_refused_on_the_command_line() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("qpc");
    let (code, fingerprint) = ("11".repeat(16), "ab".repeat(32));
    let url = format!("qpc://127.0.0.1:9/link-{code}#{fingerprint}");
    let output = qpc(&home, &["--json", "device", "link", "--server", &url]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains(&code));
    assert_eq!(error_code(&output), "USAGE");
    assert!(!home.exists());
}

#[test]
fn every_command_is_in_the_reference() {
    let home = tempfile::tempdir().unwrap();
    let page = include_str!("../../../docs/use/README.md");
    let help = qpc(home.path(), &["--help"]);
    let commands = text(&help.stdout).lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    for name in commands {
        assert!(page.contains(&format!("`{name}")), "{name} is not documented");
    }
}

#[test]
fn without_a_home_each_command_says_how_to_get_one() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("qpc");
    for words in [
        &["whoami"][..],
        &["contacts"],
        &["channels"],
        &["members", "bob"],
        &["verify", "bob"],
        &["dm", "bob"],
        &["group", "create", "Hikers"],
        &["send", "bob", "hi"],
        &["recv"],
        &["history", "bob"],
        &["chat", "--plain", "bob"],
        &["outbox", "list"],
        &["logout"],
        &["logout", "--wipe", "--yes"],
        &["passphrase", "--remove"],
        &["phrase"],
        &["devices"],
        &["device", "add", "--yes"],
        &["device", "revoke", "ab", "--yes"],
        &["account", "export"],
        &["account", "delete", "--yes"],
        &["account", "cancel-deletion"],
        &["accept", "bob"],
        &["notices"],
    ] {
        let mut json = words.to_vec();
        json.push("--json");
        let output = qpc(&home, &json);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(error_code(&output), "NO_ACCOUNT", "{words:?}");

        let output = qpc(&home, words);
        assert!(text(&output.stderr).contains("qpc register NAME --server URL"));
    }
    assert!(!home.exists(), "looking makes nothing");
}

#[test]
fn a_wrong_command_line_ends_with_2_in_both_shapes() {
    let home = tempfile::tempdir().unwrap();
    for words in [&["frobnicate"][..], &["send", "bob"], &["--log", "==", "whoami"], &[]] {
        let output = qpc(home.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());

        let mut json = vec!["--json"];
        json.extend(words);
        let output = qpc(home.path(), &json);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(error_code(&output), "USAGE", "{words:?}");
    }
}

#[test]
fn the_full_screen_chat_names_the_plain_one() {
    let home = tempfile::tempdir().unwrap();
    let output = qpc(home.path(), &["chat", "bob"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("qpc chat --plain TARGET"));
}

#[test]
fn register_refuses_before_it_touches_the_network() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("qpc");
    let empty = parent.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    let url = "qpc://127.0.0.1:9/#00";
    for words in [
        &["register", "a", "--server", url, "--passphrase-file", empty][..],
        &["register", "a", "--server", url, "--keyring", "--passphrase-file", empty],
    ] {
        let output = qpc(&home, words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!home.exists());
    }
    let output = qpc(&home, &["register", "a", "--server", url, "--passphrase", "--json"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(error_code(&output), "PASSPHRASE_NEEDED");
}

#[test]
fn what_cannot_be_asked_and_codes_that_are_none_are_refused_first() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("qpc");
    let url = format!("qpc://127.0.0.1:9/#{}", "00".repeat(32));
    let short = parent.path().join("short");
    std::fs::write(&short, "abandon abandon\n").unwrap();
    let short = short.to_str().unwrap();
    for words in [
        &["device", "add"][..],
        &["device", "revoke", "ab"],
        &["device", "link", "--code-stdin", "--server", &url],
        &["recover", "--server", &url, "--phrase-file", short],
        &["recover", "--server", &url, "--phrase-file", "/nonexistent"],
        &["register", "a", "--server", &url, "--recovery-file", short],
    ] {
        let mut json = words.to_vec();
        json.push("--json");
        let output = qpc(&home, &json);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!home.exists(), "{words:?}");
    }
    let output = qpc(&home, &["recover", "--server", &url, "--json"]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(error_code(&output), "PASSPHRASE_NEEDED");
    let output = qpc(&home, &["recover", "--server", &url, "--phrase-file", short]);
    assert!(!text(&output.stderr).contains("abandon"), "a phrase is never repeated");
}
