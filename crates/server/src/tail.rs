//! The newest entries of logs that are followed, as they were accepted: a reader that keeps up
//! needs no database. Bounded for all logs together; who is behind reads the database.
//!
//! Judges nobody: whatever changes what somebody may read clears the log's tail, so that its
//! readers have to ask the database before they get what comes behind.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use qpc_proto::ChannelId;
use qpc_proto::limits::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use qpc_proto::message::{Entry, Page};

/// Bytes of entries in all tails.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The shortest retention that a channel may have.
const AGE_MAX_MS: u64 = 60_000;
/// Entries in all tails, those of tails that were cleared lately counted, too.
const ENTRIES_MAX: usize = 16 * 1024;

/// The tails of all logs that are followed.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    logs: BTreeMap<ChannelId, Tail>,
    /// What was put in, the oldest first. An entry whose tail was cleared has gone already.
    order: VecDeque<(ChannelId, u64)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Tail {
    /// Without a gap.
    entries: VecDeque<Kept>,
    /// What was asked for last: many readers ask for the same.
    last: Option<Arc<Stretch>>,
}

/// An entry, encoded once for all pages.
#[derive(Debug)]
struct Kept {
    seq: u64,
    accepted_at_ms: u64,
    payload_bytes: usize,
    piece: Bytes,
}

/// Entries of one log in a row, made a page once for all who read just these.
#[derive(Debug)]
pub(crate) struct Stretch {
    channel: ChannelId,
    pieces: Vec<Bytes>,
    head_seq: u64,
    first: u64,
    last: u64,
    body: OnceLock<Bytes>,
}

impl Stretch {
    /// Sequence number of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// The body of a `Page`.
    pub(crate) fn body(&self) -> Bytes {
        let body = || Page::joined(&self.channel, self.head_seq, &self.pieces);
        self.body.get_or_init(body).clone()
    }
}

/// What comes behind a sequence number.
#[derive(Debug, Clone)]
pub(crate) enum Behind {
    /// These, and perhaps more.
    Entries(Arc<Stretch>),
    /// Nothing yet.
    Nothing,
    /// Only the database knows.
    Unknown,
}

impl Tails {
    /// Takes up what a log has grown by.
    pub(crate) fn push(&mut self, channel: ChannelId, posted: Vec<Entry>) {
        let tail = self.logs.entry(channel).or_default();
        let next = tail.entries.back().map(|last| last.seq.saturating_add(1));
        let fits = posted.first().is_some_and(|first| next.is_none_or(|next| next == first.seq));
        if !fits {
            self.clear(&channel);
        }
        let tail = self.logs.entry(channel).or_default();
        for entry in posted {
            let Entry { seq, accepted_at_ms, .. } = entry;
            // The payload is a part of some larger buffer, which nobody is to hold: this copies it.
            let (piece, payload_bytes) = (Page::piece(&entry), entry.payload.len());
            self.bytes = self.bytes.saturating_add(piece.len());
            self.order.push_back((channel, seq));
            tail.entries.push_back(Kept { seq, accepted_at_ms, payload_bytes, piece });
        }
        while self.bytes > BYTES_MAX || self.order.len() > ENTRIES_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets a log.
    pub(crate) fn clear(&mut self, channel: &ChannelId) {
        let tail = self.logs.remove(channel).unwrap_or_default();
        let bytes: usize = tail.entries.iter().map(|entry| entry.piece.len()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// What comes behind `after_seq` in a log. What has been there for long may have expired.
    pub(crate) fn behind(
        &mut self,
        (channel, after_seq): (&ChannelId, u64),
        now_ms: u64,
    ) -> Behind {
        let Some(tail) = self.logs.get_mut(channel) else { return Behind::Unknown };
        let (Some(front), Some(back)) = (tail.entries.front(), tail.entries.back()) else {
            return Behind::Unknown;
        };
        let (first, head) = (after_seq.saturating_add(1), back.seq);
        if after_seq == head {
            return Behind::Nothing;
        }
        let Some(skipped) = first.checked_sub(front.seq).filter(|_| first <= head) else {
            return Behind::Unknown;
        };
        let Some(next) = tail.entries.get(usize::try_from(skipped).unwrap_or(usize::MAX)) else {
            return Behind::Unknown;
        };
        if now_ms.saturating_sub(next.accepted_at_ms) >= AGE_MAX_MS {
            return Behind::Unknown;
        }
        if let Some(same) = tail.last.as_ref().filter(|s| s.first == first && s.last == head) {
            return Behind::Entries(Arc::clone(same));
        }
        let mut left = PAGE_BYTES_MAX;
        let (mut pieces, mut last) = (Vec::new(), after_seq);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        for entry in tail.entries.iter().skip(skipped).take(PAGE_ENTRIES_MAX) {
            match left.checked_sub(entry.payload_bytes) {
                Some(rest) => left = rest,
                None if pieces.is_empty() => left = 0,
                None => break,
            }
            pieces.push(entry.piece.clone());
            last = entry.seq;
        }
        let body = OnceLock::new();
        let stretch = Stretch { channel: *channel, pieces, head_seq: head, first, last, body };
        let stretch = Arc::new(stretch);
        tail.last = Some(Arc::clone(&stretch));
        Behind::Entries(stretch)
    }

    fn forget_oldest(&mut self) {
        let Some((channel, seq)) = self.order.pop_front() else { return };
        let Some(tail) = self.logs.get_mut(&channel) else { return };
        if tail.entries.front().is_some_and(|front| front.seq == seq)
            && let Some(gone) = tail.entries.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(gone.piece.len());
            // It would hold what is forgotten here.
            tail.last.take_if(|last| last.first <= gone.seq);
        }
        if tail.entries.is_empty() {
            self.logs.remove(&channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::message::{EntryKind, Method, Response};
    use qpc_proto::{Digest, MessageId};

    const A: ChannelId = ChannelId([1; 16]);
    const B: ChannelId = ChannelId([2; 16]);

    fn entries(seqs: std::ops::RangeInclusive<u64>, bytes: usize) -> Vec<Entry> {
        seqs.map(|seq| Entry {
            seq,
            kind: EntryKind::Application,
            after_commit: 1,
            accepted_at_ms: 5,
            message_id: MessageId([3; 16]),
            payload: vec![7; bytes].into(),
            roster_change: Bytes::new(),
            statements: Vec::new(),
            welcome_hash: Digest::ZERO,
            head: Digest([9; 32]),
            welcome: None,
        })
        .collect()
    }

    fn seqs(behind: &Behind) -> Vec<u64> {
        match behind {
            Behind::Entries(stretch) => {
                let page = Response::decode(Method::Subscribe, stretch.body()).unwrap();
                let Response::Page(page) = page else { panic!("a page") };
                page.entries.iter().map(|entry| entry.seq).collect()
            }
            Behind::Nothing => vec![],
            Behind::Unknown => panic!("unknown"),
        }
    }

    fn at(tails: &mut Tails, channel: ChannelId, after_seq: u64) -> Behind {
        tails.behind((&channel, after_seq), 5 + AGE_MAX_MS - 1)
    }

    fn is_unknown(behind: &Behind) -> bool {
        matches!(behind, Behind::Unknown)
    }

    #[test]
    fn who_keeps_up_gets_what_is_behind_and_others_ask_the_database() {
        let mut tails = Tails::default();
        assert!(is_unknown(&at(&mut tails, A, 0)));
        tails.push(A, entries(5..=7, 10));
        assert!(is_unknown(&at(&mut tails, A, 3)), "before the tail");
        assert_eq!(seqs(&at(&mut tails, A, 4)), [5, 6, 7]);
        assert_eq!(seqs(&at(&mut tails, A, 6)), [7]);
        assert!(matches!(at(&mut tails, A, 7), Behind::Nothing));
        assert!(is_unknown(&at(&mut tails, A, 8)), "beyond the head");
        assert!(is_unknown(&at(&mut tails, B, 4)), "another log");
        tails.push(A, entries(8..=8, 10));
        assert_eq!(seqs(&at(&mut tails, A, 6)), [7, 8]);
    }

    #[test]
    fn a_cleared_tail_knows_nothing_of_what_came_before() {
        let mut tails = Tails::default();
        tails.push(A, entries(1..=3, 10));
        tails.clear(&A);
        assert!(is_unknown(&at(&mut tails, A, 3)), "not even that there is nothing");
        tails.push(A, entries(5..=5, 10));
        assert!(is_unknown(&at(&mut tails, A, 3)));
        assert_eq!(seqs(&at(&mut tails, A, 4)), [5]);
        tails.push(A, entries(9..=9, 10));
        assert!(is_unknown(&at(&mut tails, A, 4)), "a gap clears, too");
    }

    #[test]
    fn what_is_old_is_asked_of_the_database() {
        let mut tails = Tails::default();
        tails.push(A, entries(1..=2, 10));
        assert_eq!(seqs(&tails.behind((&A, 0), 5 + AGE_MAX_MS - 1)), [1, 2]);
        assert!(is_unknown(&tails.behind((&A, 0), 5 + AGE_MAX_MS)));
    }

    #[test]
    fn readers_of_the_same_share_its_bytes() {
        let mut tails = Tails::default();
        tails.push(A, entries(1..=2, 10));
        let (Behind::Entries(one), Behind::Entries(other)) =
            (at(&mut tails, A, 0), at(&mut tails, A, 0))
        else {
            panic!("entries")
        };
        assert_eq!(one.body().as_ptr(), other.body().as_ptr());
    }

    #[test]
    fn what_was_asked_for_last_holds_nothing_that_is_forgotten() {
        let mut tails = Tails::default();
        let channel = |n: u64| ChannelId([u8::try_from(n).unwrap(); 16]);
        for round in 0..20 {
            // A reader takes much, and never what comes next.
            tails.push(channel(round), entries(1..=1, PAGE_BYTES_MAX));
            assert_eq!(seqs(&at(&mut tails, channel(round), 0)), [1]);
            for n in 0..=round {
                let next = round - n + 2;
                tails.push(channel(n), entries(next..=next, 1));
            }
        }
        assert_eq!(tails.logs.len(), 20, "each has its last entries");
        let last = tails.logs.values().filter_map(|tail| tail.last.as_ref());
        let held = last.flat_map(|last| &last.pieces).map(Bytes::len);
        assert!(held.sum::<usize>() <= BYTES_MAX);
    }

    #[test]
    fn pages_and_tails_are_bounded() {
        let mut tails = Tails::default();
        tails.push(A, entries(1..=3, PAGE_BYTES_MAX / 2));
        assert_eq!(seqs(&at(&mut tails, A, 0)), [1, 2]);
        for round in 0..10 {
            tails.push(B, entries(round * 3 + 1..=round * 3 + 3, PAGE_BYTES_MAX / 2));
        }
        assert!(tails.bytes <= BYTES_MAX);
        assert!(is_unknown(&at(&mut tails, A, 0)), "the oldest have gone");
        assert_eq!(seqs(&at(&mut tails, B, 29)), [30]);
        for round in 0..ENTRIES_MAX {
            tails.push(A, entries(round as u64 + 1..=round as u64 + 1, 1));
            tails.clear(&A);
        }
        assert!(tails.order.len() <= ENTRIES_MAX);
        let bytes: usize =
            tails.logs.values().flat_map(|t| &t.entries).map(|e| e.piece.len()).sum();
        assert_eq!(tails.bytes, bytes);
    }
}
