//! What was given to the programs and what they said of it, as far as it can be held against them
//! later. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;

use crate::person::{number, text};

/// What one life of a client was given to send, in order.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) client: usize,
    pub(crate) room: usize,
    pub(crate) texts: Vec<String>,
    /// It was killed: its last lines may have been taken from nobody's hand. Otherwise each line
    /// counts.
    pub(crate) killed: bool,
}

/// A message that a sender saw accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) client: usize,
    pub(crate) text: String,
}

/// Everything of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By the number of the life.
    pub(crate) written: BTreeMap<u64, Written>,
    /// By channel and sequence number.
    pub(crate) accepted: BTreeMap<(String, u64), Accepted>,
    /// What `recv` printed, by client.
    pub(crate) printed: BTreeMap<usize, BTreeSet<(String, u64)>>,
    /// What `chat` has shown in one life.
    shown: BTreeSet<(u64, String, u64)>,
    /// Which life each line was given to.
    lives: BTreeMap<String, u64>,
    /// How many lines each life has seen accepted.
    settled: BTreeMap<u64, usize>,
    /// The rooms' logs as members show them, once they were read.
    pub(crate) logged: BTreeMap<(String, u64), String>,
    /// What contradicts itself already.
    pub(crate) broken: Vec<String>,
    lines: u64,
}

impl Ledger {
    /// The next line of a client, which no other is like.
    pub(crate) fn line(&mut self, name: &str) -> String {
        self.lines = self.lines.saturating_add(1);
        format!("{name} {}", self.lines)
    }

    /// A line was given to a life.
    pub(crate) fn note_given(&mut self, life: u64, line: String) {
        self.lives.insert(line.clone(), life);
        if let Some(written) = self.written.get_mut(&life) {
            written.texts.push(line);
        }
    }

    /// Lines of a life that it was given and has not seen accepted.
    pub(crate) fn open(&self, life: u64) -> usize {
        let given = self.written.get(&life).map_or(0, |written| written.texts.len());
        given.saturating_sub(self.settled.get(&life).copied().unwrap_or(0))
    }

    /// A line that a program printed.
    ///
    /// # Errors
    /// When it is not one of those that are documented.
    pub(crate) fn hear(&mut self, (client, life): (usize, u64), line: &str) -> Result<()> {
        let value: Value = serde_json::from_str(line)?;
        match value.get("event").and_then(Value::as_str) {
            Some("alarm") => self.broken.push(format!("client {client}: {value}")),
            Some("outbox") => self.settle(client, &value)?,
            Some("message") => self.show((client, life), &value)?,
            Some(_) => {}
            None => self.print(client, &value)?,
        }
        Ok(())
    }

    /// An own message after a change.
    ///
    /// # Errors
    /// When it lacks a field.
    pub(crate) fn settle(&mut self, client: usize, value: &Value) -> Result<()> {
        let state = text(value, "state")?;
        if state == "refused" {
            self.broken.push(format!("client {client} was refused: {value}"));
        }
        if state != "accepted" {
            return Ok(());
        }
        let place = (text(value, "channel")?.to_owned(), number(value, "seq")?);
        let accepted = Accepted { client, text: text(value, "text")?.to_owned() };
        if let Some(of) = self.lives.get(&accepted.text) {
            let settled = self.settled.entry(*of).or_default();
            *settled = settled.saturating_add(1);
        }
        let told = format!("{place:?} is {accepted:?}");
        if let Some(before) = self.accepted.insert(place, accepted.clone())
            && before != accepted
        {
            self.broken.push(format!("{told} and {before:?}"));
        }
        Ok(())
    }

    /// A message that `chat` shows: in one life it is shown once.
    fn show(&mut self, (client, life): (usize, u64), value: &Value) -> Result<()> {
        if text(value, "state")? != "received" {
            return Ok(());
        }
        let place = (life, text(value, "channel")?.to_owned(), number(value, "seq")?);
        if !self.shown.insert(place) {
            self.broken.push(format!("client {client} showed twice: {value}"));
        }
        Ok(())
    }

    /// A message that `recv` printed; a killed one may print its last page again.
    fn print(&mut self, client: usize, value: &Value) -> Result<()> {
        if value.get("state").and_then(Value::as_str) == Some("received") {
            let place = (text(value, "channel")?.to_owned(), number(value, "seq")?);
            self.printed.entry(client).or_default().insert(place);
        }
        Ok(())
    }

    /// Lines given to programs.
    pub(crate) fn given(&self) -> usize {
        self.written.values().map(|written| written.texts.len()).sum()
    }
}
