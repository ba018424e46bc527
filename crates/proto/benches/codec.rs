//! What it costs to write and read what travels: requests, pages, frames. Judges nothing.

use bytes::Bytes;
use divan::Bencher;
use qpc_proto::frame::{Decoder, Frame, RequestFrame};
use qpc_proto::limits::PAGE_ENTRIES_MAX;
use qpc_proto::message::{Enqueue, Entry, EntryKind, Method, NewEntry, Page, Request, Response};
use qpc_proto::{ChannelId, Digest, MessageId, RequestId, Token};

fn main() {
    divan::main();
}

const CHANNEL: ChannelId = ChannelId([1; 16]);
const PAYLOAD: Bytes = Bytes::from_static(&[7; 1_024]);

fn enqueue(entries: u8) -> Request {
    let entry = |number| NewEntry {
        message_id: MessageId([number; 16]),
        after_commit: 1,
        payload: PAYLOAD,
    };
    Request::Enqueue(Enqueue { channel: CHANNEL, entries: (0..entries).map(entry).collect() })
}

/// A full page.
fn page() -> Response {
    let entry = |seq| Entry {
        seq,
        kind: EntryKind::Application,
        after_commit: 1,
        accepted_at_ms: 1_800_000_000_000,
        message_id: MessageId([3; 16]),
        head: Digest([4; 32]),
        payload: PAYLOAD,
        roster_change: Bytes::new(),
        statements: Vec::new(),
        welcome_hash: Digest::ZERO,
        welcome: None,
    };
    let entries: Vec<Entry> = (1..).take(PAGE_ENTRIES_MAX).map(entry).collect();
    Response::Page(Page { channel: CHANNEL, entries, head_seq: 1_000, published: Vec::new() })
}

#[divan::bench(args = [1, 64])]
fn enqueue_encode(bencher: Bencher<'_, '_>, entries: u8) {
    let request = enqueue(entries);
    bencher.bench(|| request.encode());
}

#[divan::bench(args = [1, 64])]
fn enqueue_decode(bencher: Bencher<'_, '_>, entries: u8) {
    let body = enqueue(entries).encode();
    assert!(Request::decode(Method::Enqueue, body.clone()).is_ok());
    bencher.bench(|| Request::decode(Method::Enqueue, body.clone()));
}

#[divan::bench]
fn page_encode(bencher: Bencher<'_, '_>) {
    let page = page();
    bencher.bench(|| page.encode());
}

#[divan::bench]
fn page_decode(bencher: Bencher<'_, '_>) {
    let body = page().encode();
    assert!(Response::decode(Method::Fetch, body.clone()).is_ok());
    bencher.bench(|| Response::decode(Method::Fetch, body.clone()));
}

/// A request with a body of 1 KiB.
fn frame() -> Frame {
    let (token, request_id) = (Token([5; 32]), RequestId([6; 16]));
    let method = Method::Enqueue.as_u16();
    Frame::Request(RequestFrame { method, token, request_id, body: PAYLOAD })
}

#[divan::bench]
fn frame_encode(bencher: Bencher<'_, '_>) {
    let frame = frame();
    bencher.bench(|| frame.encode());
}

#[divan::bench]
fn frame_decode(bencher: Bencher<'_, '_>) {
    let bytes = frame().encode();
    let mut decoder = Decoder::default();
    decoder.push(&bytes);
    assert!(matches!(decoder.next_frame(), Ok(Some(_))));
    bencher.with_inputs(Decoder::default).bench_values(|mut decoder| {
        decoder.push(&bytes);
        decoder.next_frame()
    });
}
