//! Counts the fields of a protobuf body before it is decoded: an empty message costs two bytes on
//! the wire and up to some hundred in memory, so a body of allowed length could ask for a gigabyte.
//!
//! Reads keys and lengths only; what the fields hold is for the decoder to judge.

use bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::error::Malformed;

/// Refuses a body with more than `max` fields, counted on its own level and inside the messages
/// that the tags of `path` lead to, one level a tag.
///
/// # Errors
/// [`Malformed`] for more fields, and for bytes that are no protobuf fields.
pub(super) fn check(body: &[u8], max: usize, path: &[u32]) -> Result<(), Malformed> {
    count(body, max, path).map(|_| ())
}

/// How many of `left` fields are left after `body`.
fn count(mut body: &[u8], mut left: usize, path: &[u32]) -> Result<usize, Malformed> {
    let not_protobuf = |_| Malformed("the body is not protobuf");
    while body.has_remaining() {
        left = left.checked_sub(1).ok_or(Malformed("the body has too many fields"))?;
        let (tag, kind) = decode_key(&mut body).map_err(not_protobuf)?;
        match path.split_first() {
            Some((inner, path)) if *inner == tag && kind == WireType::LengthDelimited => {
                let len = decode_varint(&mut body).map_err(not_protobuf)?;
                let message = usize::try_from(len).ok().and_then(|len| body.split_at_checked(len));
                let (message, rest) = message.ok_or(Malformed("the body is not protobuf"))?;
                left = count(message, left, path)?;
                body = rest;
            }
            Some(_) | None => {
                skip_field(kind, tag, &mut body, DecodeContext::default()).map_err(not_protobuf)?;
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::encoding::encode_varint;

    use super::*;
    use crate::ids::{ChannelId, Digest, MessageId};
    use crate::limits::{self, REQUEST_FIELDS_MAX, RESPONSE_FIELDS_MAX};
    use crate::message::{Cursor, Entry, EntryKind, Method, Page, Request, Response};

    const TOO_MANY: Malformed = Malformed("the body has too many fields");

    #[test]
    fn fields_are_counted_on_the_levels_of_the_path() {
        // Tag 1 thrice: a number, an empty message, and a message of two fields.
        let body = [0x08, 1, 0x0a, 0, 0x0a, 4, 0x08, 1, 0x08, 2];
        assert_eq!(count(&body, 3, &[]), Ok(0));
        assert_eq!(count(&body, 2, &[]), Err(TOO_MANY));
        assert_eq!(count(&body, 3, &[2]), Ok(0));
        assert_eq!(count(&body, 5, &[1]), Ok(0));
        assert_eq!(count(&body, 4, &[1]), Err(TOO_MANY));
        for cut in [1, 3, 5, 6, 7, 9] {
            assert!(check(&body[..cut], 9, &[1]).is_err(), "cut at {cut}");
        }
    }

    /// Within the length of a frame, each of these would take some hundred megabytes to decode.
    #[test]
    fn bodies_of_many_empty_fields_are_refused() {
        let nested = |outer: u8, inner: &[u8]| {
            let fields = inner.repeat(REQUEST_FIELDS_MAX);
            let mut body = vec![outer];
            encode_varint(u64::try_from(fields.len()).unwrap(), &mut body);
            [body, fields].concat()
        };
        let flat = |field: &[u8]| field.repeat(REQUEST_FIELDS_MAX + 1);
        for (method, body) in [
            (Method::UploadKeyPackages, flat(&[0x0a, 0])),
            (Method::Enqueue, flat(&[0x12, 0])),
            (Method::Subscribe, flat(&[0x0a, 0])),
            (Method::Ack, flat(&[0x0a, 0])),
            (Method::CreateChannel, nested(0x1a, &[0x32, 0])),
            (Method::Commit, nested(0x12, &[0x32, 0])),
        ] {
            let refused = Request::decode(method, Bytes::from(body)).unwrap_err();
            assert_eq!(refused, TOO_MANY, "{method:?}");
        }
        for (method, tag) in
            [(Method::Fetch, 0x12), (Method::ListChannels, 0x0a), (Method::ClaimKeyPackages, 0x0a)]
        {
            let body = [tag, 0].repeat(RESPONSE_FIELDS_MAX + 1);
            let refused = Response::decode(method, Bytes::from(body)).unwrap_err();
            assert_eq!(refused, TOO_MANY, "{method:?}");
        }
        // One entry of a page with as many statements.
        let statements = [0x42, 0].repeat(RESPONSE_FIELDS_MAX);
        let page = [&[0x12, 0x80, 0x80, 0x08], statements.as_slice()].concat();
        assert_eq!(Response::decode(Method::Fetch, page.into()).unwrap_err(), TOO_MANY);
    }

    #[test]
    fn the_longest_lists_have_room() {
        let channel = ChannelId([1; 16]);
        let cursors = vec![Cursor { channel, seq: 2 }; limits::CURSORS_MAX];
        assert!(Request::decode(Method::Ack, Request::Ack(cursors).encode()).is_ok());
        let filled = Bytes::from_static(b"x");
        let entry = Entry {
            seq: 1,
            kind: EntryKind::Commit,
            after_commit: 2,
            accepted_at_ms: 3,
            message_id: MessageId([4; 16]),
            payload: filled.clone(),
            roster_change: filled.clone(),
            statements: vec![filled.clone(); limits::COMMIT_STATEMENTS_MAX],
            welcome_hash: Digest([5; 32]),
            head: Digest([6; 32]),
            welcome: Some(filled),
        };
        let entries = vec![entry; limits::PAGE_ENTRIES_MAX];
        let published = Vec::new();
        let page = Response::Page(Page { channel, entries, head_seq: 1, published });
        assert!(Response::decode(Method::Fetch, page.encode()).is_ok());
    }
}
