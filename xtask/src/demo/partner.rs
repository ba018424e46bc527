//! A chat to try: the terminal is alice's, and bob's own `qpc` process answers by itself.
//! Never runs without a terminal.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Stage, heading};

/// Bob's process, ended with its owner.
struct Partner(Child);

impl Drop for Partner {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(super) fn chat(stage: &Stage) -> Result<()> {
    heading("Your turn: you are alice, and bob answers. /quit ends");
    let child = stage
        .bob
        .qpc()
        .args(["--json", "chat", "--plain", "alice"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start bob's qpc")?;
    let mut partner = Partner(child);
    let incoming = partner.0.stdout.take().context("bob's output is piped")?;
    let typing = partner.0.stdin.take().context("bob's input is piped")?;
    // Ends when bob's process does.
    std::thread::spawn(move || answer_all(incoming, typing));
    let status = stage.alice.qpc().args(["chat", "--plain", "bob"]).status()?;
    drop(partner);
    println!("(chat ended: {status})");
    Ok(())
}

fn answer_all(incoming: ChildStdout, mut typing: ChildStdin) {
    for line in BufReader::new(incoming).lines().map_while(Result::ok) {
        let answer = serde_json::from_str(&line).ok().and_then(|event| answer(&event));
        if answer.is_some_and(|text| writeln!(typing, "{text}").is_err()) {
            return;
        }
    }
}

/// What bob says to an event, if it is something said to him.
fn answer(event: &Value) -> Option<String> {
    let field = |name: &str| event.get(name).and_then(Value::as_str);
    let said_to_him = field("event") == Some("message")
        && field("state") == Some("received")
        && event.get("own").and_then(Value::as_bool) == Some(false);
    if !said_to_him {
        return None;
    }
    let text = field("text")?;
    let letters = text.chars().count();
    Some(if text.trim_end().ends_with('?') {
        format!("Good question. I am a loop that counted {letters} characters, decrypted here.")
    } else {
        format!("I read {letters} characters. The server only saw that there was something.")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bob_answers_others_and_never_himself() {
        let mut event =
            json!({"event": "message", "state": "received", "own": false, "text": "a?"});
        assert!(answer(&event).is_some_and(|text| text.contains("2 characters")));
        for (field, value) in
            [("own", json!(true)), ("state", json!("notice")), ("event", json!("outbox"))]
        {
            let before = event.clone();
            event[field] = value;
            assert_eq!(answer(&event), None, "{field}");
            event = before;
        }
    }
}
