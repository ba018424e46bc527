//! What must hold once everybody is at rest: outboxes drained, logs equal, every message once at
//! each member. Reads what `qpc` shows its user.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::ledger::{Ledger, Written};
use crate::party::Party;
use crate::person::{Channel, number, text};

/// Rounds of reading until all have the same log.
const ROUNDS: usize = 12;
/// How long the last message of a client may take to be accepted, seconds.
const LAST_S: &str = "120";

/// Brings everybody to rest, in the order: all send a last message in each room, which is accepted
/// behind everything that waits; then all read to the end.
///
/// # Errors
/// When a command does not end, or its output is not what is documented.
pub(crate) fn settle(party: &mut Party) -> Result<()> {
    for at in 0..party.clients.len() {
        for room in party.rooms_of(at) {
            last_word(party, (at, room))?;
        }
    }
    for _ in 0..ROUNDS {
        if in_step(party)?.is_empty() {
            break;
        }
    }
    let late = in_step(party)?;
    party.ledger.broken.extend(late);
    Ok(())
}

fn last_word(party: &mut Party, (at, room): (usize, usize)) -> Result<()> {
    let person = party.clients.get(at).context("no such client")?.person.clone();
    let target = party.rooms.get(room).and_then(|room| room.target(at)).context("no member")?;
    let line = party.ledger.line(person.name);
    let sent = person.run(&["send", target, &line, "--timeout", LAST_S])?;
    if sent.code != Some(0) {
        let told =
            format!("{}: the outbox of {target} does not drain: {:?}", person.name, sent.code);
        party.ledger.broken.push(told);
    }
    // A number of its own, beyond those of processes.
    let life = u64::MAX.saturating_sub(u64::try_from(party.ledger.written.len())?);
    let written = Written { client: at, room, texts: Vec::new(), killed: false };
    party.ledger.written.insert(life, written);
    party.ledger.note_given(life, line);
    for said in &sent.lines {
        let value: Value = serde_json::from_str(said)?;
        party.ledger.settle(at, &value)?;
    }
    Ok(())
}

/// Lets everybody read; what is not in step then.
fn in_step(party: &mut Party) -> Result<Vec<String>> {
    let mut standing: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut late = Vec::new();
    for at in 0..party.clients.len() {
        let person = party.clients.get(at).context("no such client")?.person.clone();
        let read = person.run(&["recv"])?;
        if read.code != Some(0) {
            late.push(format!("{}: recv ended with {:?}", person.name, read.code));
        }
        for line in &read.lines {
            party.ledger.hear((at, 0), line)?;
        }
        for channel in person.channels()? {
            let Channel { id, status, cursor, outbox } = channel;
            if outbox != 0 || !matches!(status.as_str(), "active" | "unconfirmed") {
                late.push(format!("{}: {id} is {status}, {outbox} to send", person.name));
            }
            standing.entry(id).or_default().insert(cursor);
        }
    }
    let apart = standing.iter().filter(|(_, cursors)| cursors.len() > 1);
    late.extend(apart.map(|(id, cursors)| format!("{id} is read to {cursors:?}")));
    Ok(late)
}

/// A member's log of a room: texts by number.
type Log = BTreeMap<u64, String>;

/// Adds everything that does not hold to the ledger; how many messages arrived, once at each
/// member.
///
/// # Errors
/// When a command fails, or its output is not what is documented.
pub(crate) fn judge(party: &mut Party) -> Result<usize> {
    let mut arrived = 0_usize;
    for room in &party.rooms {
        let mut logs: Vec<(usize, Log)> = Vec::new();
        for (at, target) in &room.members {
            let person = &party.clients.get(*at).context("no such client")?.person;
            let history = person.ok(&["history", target, "--limit", "10000000"])?;
            logs.push((*at, log(&history, &mut party.ledger.broken)?));
            let losses = person.ok(&["losses", target])?;
            let lost = losses.iter().map(|loss| format!("{}: lost {loss}", person.name));
            party.ledger.broken.extend(lost);
        }
        let id = room.id.as_str();
        arrived = arrived.saturating_add(same(&mut party.ledger, (id, &logs)));
        let printed = room.members.iter().map(|(at, _)| *at);
        unprinted(&mut party.ledger, id, (printed, &logs));
    }
    let all = party.rooms.iter().map(|room| room.id.clone()).collect::<Vec<_>>();
    missing(&mut party.ledger, &all);
    Ok(arrived)
}

/// The numbered texts of a history.
fn log(history: &[Value], broken: &mut Vec<String>) -> Result<Log> {
    let mut log = Log::new();
    let mut texts = BTreeSet::new();
    for message in history {
        match text(message, "state")? {
            "received" | "accepted" => {
                let (seq, said) = (number(message, "seq")?, text(message, "text")?);
                let first = texts.insert(said.to_owned());
                if log.insert(seq, said.to_owned()).is_some() || !first {
                    broken.push(format!("twice: {message}"));
                }
            }
            "notice" => {}
            _ => broken.push(format!("not settled: {message}")),
        }
    }
    Ok(log)
}

/// All members have the same log; how many messages it has.
fn same(ledger: &mut Ledger, (id, logs): (&str, &[(usize, Log)])) -> usize {
    let Some(((first, log), others)) = logs.split_first() else { return 0 };
    for (other, theirs) in others {
        let differing = log.iter().filter(|(seq, text)| theirs.get(*seq) != Some(*text));
        let extra = theirs.iter().filter(|(seq, _)| !log.contains_key(*seq));
        let all: Vec<_> = differing.chain(extra).take(5).collect();
        if !all.is_empty() {
            ledger.broken.push(format!("{id}: clients {first} and {other} differ at {all:?}"));
        }
    }
    // What is told as accepted is there, where it was told to be.
    let told = ledger.accepted.iter().filter(|((channel, _), _)| channel == id);
    let lost: Vec<String> = told
        .filter(|((_, seq), accepted)| log.get(seq) != Some(&accepted.text))
        .map(|((_, seq), accepted)| format!("{id}: {accepted:?} is not at {seq}"))
        .collect();
    ledger.broken.extend(lost);
    let room = log.iter().map(|(seq, text)| ((id.to_owned(), *seq), text.clone()));
    ledger.logged.extend(room);
    log.len()
}

/// Every message of others was printed by some `recv`.
fn unprinted(
    ledger: &mut Ledger,
    id: &str,
    (members, logs): (impl Iterator<Item = usize>, &[(usize, Log)]),
) {
    for at in members {
        let printed = ledger.printed.get(&at);
        let of_client = ledger.written.values().filter(|written| written.client == at);
        let own: BTreeSet<&str> =
            of_client.flat_map(|written| written.texts.iter().map(String::as_str)).collect();
        let Some((_, log)) = logs.iter().find(|(member, _)| *member == at) else { continue };
        let skipped: Vec<_> = log
            .iter()
            .filter(|(seq, text)| {
                let place = (id.to_owned(), **seq);
                !printed.is_some_and(|printed| printed.contains(&place))
                    && !own.contains(text.as_str())
            })
            .take(5)
            .map(|(seq, text)| format!("client {at}: recv never printed {id} {seq} {text:?}"))
            .collect();
        ledger.broken.extend(skipped);
    }
}

/// Of what each life was given only the end may be missing, and only if it was killed; and nothing
/// is there that nobody was given.
fn missing(ledger: &mut Ledger, rooms: &[String]) {
    let mut there: BTreeSet<(&str, &str)> =
        ledger.logged.iter().map(|((id, _), text)| (id.as_str(), text.as_str())).collect();
    let mut broken = Vec::new();
    for (life, written) in &ledger.written {
        let Some(id) = rooms.get(written.room) else { continue };
        let found = |text: &String| there.contains(&(id.as_str(), text.as_str()));
        let kept = written.texts.iter().take_while(|text| found(text)).count();
        let behind = written.texts.iter().skip(kept).find(|text| found(text));
        if let Some(text) = behind {
            broken.push(format!("life {life}: {text:?} is there, and one before it is not"));
        }
        if kept < written.texts.len() && !written.killed {
            broken.push(format!("life {life} lost {:?}", written.texts.get(kept)));
        }
        for text in &written.texts {
            there.remove(&(id.as_str(), text.as_str()));
        }
    }
    broken.extend(there.into_iter().map(|extra| format!("nobody wrote {extra:?}")));
    ledger.broken.extend(broken);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(of: &[&[(u64, &str)]]) -> Vec<(usize, Log)> {
        let log = |log: &&[(u64, &str)]| log.iter().map(|(s, t)| (*s, (*t).to_owned())).collect();
        of.iter().map(log).enumerate().collect()
    }

    /// A ledger in which client 0 was given `texts` and saw the first accepted at 5.
    fn given(texts: &[&str], killed: bool) -> Ledger {
        let mut ledger = Ledger::default();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let first = texts[0].clone();
        ledger.written.insert(1, Written { client: 0, room: 0, texts, killed });
        let line = serde_json::json!({
            "event": "outbox", "state": "accepted", "channel": "r", "seq": 5, "text": first,
        });
        ledger.hear((0, 1), &line.to_string()).unwrap();
        ledger
    }

    fn complaints(mut ledger: Ledger, of: &[&[(u64, &str)]]) -> usize {
        let logs = logs(of);
        for (seq, _) in logs[1].1.iter() {
            ledger.printed.entry(1).or_default().insert(("r".to_owned(), *seq));
        }
        same(&mut ledger, ("r", &logs));
        unprinted(&mut ledger, "r", (0..2, &logs));
        missing(&mut ledger, &["r".to_owned()]);
        ledger.broken.len()
    }

    #[test]
    fn what_arrived_once_at_each_in_one_order_is_fine() {
        let log: &[(u64, &str)] = &[(5, "a"), (6, "b")];
        assert_eq!(complaints(given(&["a", "b"], false), &[log, log]), 0);
    }

    #[test]
    fn a_killed_life_may_lose_its_end_and_nothing_else() {
        let log: &[(u64, &str)] = &[(5, "a")];
        assert_eq!(complaints(given(&["a", "b"], true), &[log, log]), 0);
        assert_eq!(complaints(given(&["a", "b"], false), &[log, log]), 1);
        let hole: &[(u64, &str)] = &[(5, "a"), (6, "c")];
        assert_eq!(complaints(given(&["a", "b", "c"], true), &[hole, hole]), 1);
    }

    #[test]
    fn each_lie_is_found() {
        let log: &[(u64, &str)] = &[(5, "a"), (6, "b")];
        let texts = ["a", "b"];
        // One member lacks a message, has it elsewhere, or has another.
        assert!(complaints(given(&texts, false), &[log, &log[..1]]) > 0);
        assert!(complaints(given(&texts, false), &[log, &[(5, "b"), (6, "a")]]) > 0);
        // An accepted one is gone or elsewhere.
        assert!(complaints(given(&texts, true), &[&log[1..], &log[1..]]) > 0);
        // One is there that nobody wrote.
        let extra: &[(u64, &str)] = &[(5, "a"), (6, "b"), (7, "x")];
        assert!(complaints(given(&texts, false), &[extra, extra]) > 0);
    }

    #[test]
    fn a_history_shows_nothing_twice_and_nothing_unsettled() {
        let message = |seq: u64, state: &str, text: &str| {
            serde_json::json!({
                "seq": seq,
                "state": state,
                "text": text,
            })
        };
        let complaints = |history: &[Value]| {
            let mut broken = Vec::new();
            log(history, &mut broken).unwrap();
            broken.len()
        };
        let received = |seq, text| message(seq, "received", text);
        assert_eq!(complaints(&[received(1, "a"), message(2, "accepted", "b")]), 0);
        assert_eq!(complaints(&[received(1, "a"), received(2, "a")]), 1);
        assert_eq!(complaints(&[received(1, "a"), received(1, "b")]), 1);
        assert_eq!(complaints(&[message(1, "waiting", "a")]), 1);
        assert_eq!(complaints(&[message(1, "unreadable", "")]), 1);
    }
}
