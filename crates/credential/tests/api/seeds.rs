//! The files that fuzzing starts from: real frames, bodies, signed objects and MLS messages.
//! Nothing in them is random.

use std::collections::BTreeMap;

use bytes::Bytes;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::Method;
use qpc_proto::{ErrorBody, ErrorCode, RequestId, Token};

mod messages;
mod objects;

/// Files of a corpus by name.
pub(crate) type Seeds = BTreeMap<String, Vec<u8>>;

/// The seeds of every target.
pub(crate) fn all() -> [(&'static str, Seeds); 3] {
    [("frame", frames()), ("requests", messages::all()), ("key_package", objects::all())]
}

fn request(method: Method, body: &'static [u8]) -> Bytes {
    Frame::Request(RequestFrame {
        method: method.as_u16(),
        token: Token([1; 32]),
        request_id: RequestId([2; 16]),
        body: Bytes::from_static(body),
    })
    .encode()
}

fn frames() -> Seeds {
    let body = || Bytes::from_static(b"body");
    let refusal = Frame::refusal(&ErrorBody::new(ErrorCode::Quota, "wait")).encode();
    let items = [Frame::Item(body()), Frame::Item(Bytes::new()), Frame::End];
    let items: Vec<_> = items.iter().flat_map(Frame::encode).collect();
    let whole = request(Method::Lookup, b"body");
    let stream = |sizes: &[u8], stream: &[u8]| {
        let count = u8::try_from(sizes.len()).unwrap();
        [&[count], sizes, stream].concat()
    };
    [
        ("seed-request", stream(&[], &whole)),
        ("seed-reply-in-pieces", stream(&[0, 6, 2], &Frame::Reply(body()).encode())),
        ("seed-refusal", stream(&[], &refusal)),
        ("seed-items-in-pieces", stream(&[3], &items)),
        ("seed-pipelined", stream(&[59, 1], &whole.repeat(3))),
        ("seed-nothing", stream(&[], &[])),
        ("refused-truncated", stream(&[], &whole[..whole.len() - 1])),
        ("refused-short-request", stream(&[], &[1, 1, 0, 6, 0, 0, 0, 47].repeat(8))),
        ("refused-too-large", stream(&[], &[1, 2, 0, 0, 0, 0x51, 0, 1])),
        ("refused-version", stream(&[], &[9, 1, 0, 1, 0, 0, 0, 0])),
        ("refused-kind", stream(&[], &[1, 6, 0, 0, 0, 0, 0, 0])),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}
