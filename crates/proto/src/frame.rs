//! Frames on a stream: an 8-byte header, for requests a token and a request id, then a protobuf
//! body.
//!
//! Header, big-endian: version u8, kind u8, method or status u16, length u32 of all that follows
//! it. A length above [`limits::FRAME_BYTES_MAX`] is refused before anything is allocated. No I/O
//! here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{ErrorBody, ErrorCode, ErrorDetail};
use crate::ids::{RequestId, Token};
use crate::limits;

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 8;
/// Bytes between a request's header and its body: token (32) and request id (16).
pub const REQUEST_PREFIX_BYTES: usize = TOKEN_BYTES + RequestId::LEN;
const TOKEN_BYTES: usize = 32;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ERROR: u8 = 3;
const ITEM: u8 = 4;
const END: u8 = 5;

/// A request as it came: the method is not resolved yet, so that an unknown one can be answered.
#[derive(Debug, Clone)]
pub struct RequestFrame {
    /// Number of the method.
    pub method: u16,
    /// Zeros for `ServerInfo`, `Register` and `Login`.
    pub token: Token,
    /// Zeros for reads, and for `Enqueue` and `Commit`, whose message ids do its work.
    pub request_id: RequestId,
    /// Protobuf.
    pub body: Bytes,
}

/// One frame.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Client to server.
    Request(RequestFrame),
    /// The answer to a request: protobuf.
    Reply(Bytes),
    /// The refusal of a request: a code and a protobuf `Error`.
    Error(u16, Bytes),
    /// One of many answers on a `Subscribe` stream: protobuf.
    Item(Bytes),
    /// No more items follow.
    End,
}

impl Frame {
    /// An error frame.
    pub fn refusal(body: &ErrorBody) -> Self {
        Self::Error(body.code.as_u16(), body.encode().into())
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.put(&mut out);
        out.freeze()
    }

    /// Length of the bytes on the wire.
    pub fn encoded_len(&self) -> usize {
        let (_, _, prefix, body) = self.parts();
        let prefix_len = prefix.map_or(0, |_| REQUEST_PREFIX_BYTES);
        body.map_or(0, Bytes::len).saturating_add(prefix_len).saturating_add(HEADER_BYTES)
    }

    /// Appends the bytes on the wire.
    pub fn put(&self, out: &mut BytesMut) {
        self.put_head(out);
        if let (_, _, _, Some(body)) = self.parts() {
            out.put_slice(body);
        }
    }

    /// The bytes on the wire in two pieces, of which the second is the body as it is.
    pub fn split(&self) -> (Bytes, Bytes) {
        let mut head = BytesMut::with_capacity(HEADER_BYTES.saturating_add(REQUEST_PREFIX_BYTES));
        self.put_head(&mut head);
        let (_, _, _, body) = self.parts();
        (head.freeze(), body.cloned().unwrap_or_default())
    }

    fn put_head(&self, out: &mut BytesMut) {
        let (kind, code, prefix, _) = self.parts();
        let len = self.encoded_len().saturating_sub(HEADER_BYTES);
        out.put_u8(limits::VERSION);
        out.put_u8(kind);
        out.put_u16(code);
        out.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        if let Some(request) = prefix {
            out.put_slice(request.token.as_bytes());
            out.put_slice(request.request_id.as_bytes());
        }
    }

    fn parts(&self) -> (u8, u16, Option<&RequestFrame>, Option<&Bytes>) {
        match self {
            Self::Request(request) => (REQUEST, request.method, Some(request), Some(&request.body)),
            Self::Reply(body) => (REPLY, 0, None, Some(body)),
            Self::Error(code, body) => (ERROR, *code, None, Some(body)),
            Self::Item(body) => (ITEM, 0, None, Some(body)),
            Self::End => (END, 0, None, None),
        }
    }
}

/// Why bytes are no frame. The stream cannot go on after any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`limits::FRAME_BYTES_MAX`]; nothing was allocated for it.
    #[error("the frame is longer than the limit")]
    TooLarge,
    /// A version outside [`limits::VERSION_MIN`]..=[`limits::VERSION`].
    #[error("the frame version is not spoken here")]
    Version,
    /// An unknown kind, or a request shorter than its fixed parts.
    #[error("the frame is malformed")]
    Malformed,
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
}

impl From<FrameError> for ErrorBody {
    fn from(error: FrameError) -> Self {
        let (code, text) = match error {
            FrameError::TooLarge => (ErrorCode::FrameTooLarge, "split the request"),
            FrameError::Version => (ErrorCode::VersionUnsupported, "use a version in the range"),
            FrameError::Malformed => (ErrorCode::InvalidArgument, "the frame is malformed"),
            FrameError::Truncated => (ErrorCode::FrameTruncated, "send the whole frame"),
        };
        let body = Self::new(code, text);
        match error {
            FrameError::Version => {
                body.with_detail(ErrorDetail::Versions(limits::VERSION_MIN, limits::VERSION))
            }
            FrameError::TooLarge | FrameError::Malformed | FrameError::Truncated => body,
        }
    }
}

/// A buffer that held a larger frame goes with it, so that a stream at rest holds little.
const KEPT_BYTES_MAX: usize = 64 * 1_024;

/// Takes frames out of a byte stream. Buffers at most one frame; between frames it holds a few
/// times 64 KiB at most, whatever came before.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` while it is incomplete.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the header shows it; the decoder is then of no further use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(mut header) = self.buffer.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let (version, kind, code) = (header.get_u8(), header.get_u8(), header.get_u16());
        let len = usize::try_from(header.get_u32()).map_err(|_| FrameError::TooLarge)?;
        if !(limits::VERSION_MIN..=limits::VERSION).contains(&version) {
            return Err(FrameError::Version);
        }
        if len > limits::FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        if self.buffer.len().saturating_sub(HEADER_BYTES) < len {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let body = self.buffer.split_to(len).freeze();
        if len > KEPT_BYTES_MAX {
            // Else what is left would hold the whole, and use it again.
            self.buffer = BytesMut::from(self.buffer.as_ref());
        }
        frame(kind, code, body).map(Some)
    }

    /// Whether no byte of an unfinished frame is held.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] when it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

fn frame(kind: u8, code: u16, mut body: Bytes) -> Result<Frame, FrameError> {
    match kind {
        REQUEST => {
            if body.len() < REQUEST_PREFIX_BYTES {
                return Err(FrameError::Malformed);
            }
            let token = body.split_to(TOKEN_BYTES);
            let id = body.split_to(RequestId::LEN);
            Ok(Frame::Request(RequestFrame {
                method: code,
                token: Token::try_from(token.as_ref()).map_err(|_| FrameError::Malformed)?,
                request_id: RequestId::try_from(id.as_ref()).map_err(|_| FrameError::Malformed)?,
                body,
            }))
        }
        REPLY => Ok(Frame::Reply(body)),
        ERROR => Ok(Frame::Error(code, body)),
        ITEM => Ok(Frame::Item(body)),
        END => Ok(Frame::End),
        _ => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Frame {
        Frame::Request(RequestFrame {
            method: 7,
            token: Token([1; 32]),
            request_id: RequestId([2; 16]),
            body: Bytes::from_static(b"body"),
        })
    }

    #[test]
    fn case_032_a_frame_cut_at_every_offset_is_truncated() {
        let whole = request().encode();
        for cut in 1..whole.len() {
            let mut decoder = Decoder::default();
            decoder.push(&whole[..cut]);
            assert!(decoder.next_frame().unwrap().is_none(), "cut at {cut}");
            assert_eq!(decoder.finish(), Err(FrameError::Truncated));
        }
        let mut decoder = Decoder::default();
        decoder.push(&whole);
        let Some(Frame::Request(frame)) = decoder.next_frame().unwrap() else { panic!("request") };
        assert_eq!((frame.method, frame.body.as_ref()), (7, b"body".as_ref()));
        assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn case_033_a_length_above_the_limit_is_refused_by_its_header() {
        let len = u32::try_from(limits::FRAME_BYTES_MAX).unwrap() + 1;
        let mut decoder = Decoder::default();
        decoder.push(&[1, 1, 0, 1]);
        decoder.push(&len.to_be_bytes());
        assert_eq!(decoder.next_frame().unwrap_err(), FrameError::TooLarge);
        assert!(decoder.buffer.capacity() < 4096, "nothing was allocated for it");
    }

    #[test]
    fn a_large_frame_leaves_no_large_buffer() {
        let large = Frame::Reply(vec![7; limits::FRAME_BYTES_MAX].into()).encode();
        let mut decoder = Decoder::default();
        for _ in 0..3 {
            for chunk in large.chunks(16 * 1_024) {
                decoder.push(chunk);
            }
            // What comes behind it stays.
            decoder.push(&Frame::End.encode()[..3]);
            assert!(matches!(decoder.next_frame(), Ok(Some(Frame::Reply(_)))));
            assert!(decoder.buffer.capacity() < 4_096);
            decoder.push(&Frame::End.encode()[3..]);
            assert!(matches!(decoder.next_frame(), Ok(Some(Frame::End))));
            // It would be taken into use again here.
            decoder.push(&[]);
            decoder.buffer.reserve(1);
            assert!(decoder.buffer.capacity() < 4_096);
        }
    }

    #[test]
    fn case_040_an_unknown_version_names_the_range() {
        let mut decoder = Decoder::default();
        decoder.push(&[9, 1, 0, 1, 0, 0, 0, 0]);
        let body = ErrorBody::from(decoder.next_frame().unwrap_err());
        assert_eq!(body.code, ErrorCode::VersionUnsupported);
        assert_eq!(body.detail, Some(ErrorDetail::Versions(1, 1)));
    }

    #[test]
    fn every_kind_round_trips() {
        let body = Bytes::from_static(b"x");
        for frame in [
            request(),
            Frame::Reply(body.clone()),
            Frame::Error(3, body.clone()),
            Frame::Item(body),
            Frame::End,
        ] {
            let mut decoder = Decoder::default();
            decoder.push(&frame.encode());
            let back = decoder.next_frame().unwrap().unwrap();
            assert_eq!(back.encode(), frame.encode());
            assert_eq!(frame.encoded_len(), frame.encode().len());
            let (head, body) = frame.split();
            assert_eq!([head, body].concat(), frame.encode());
        }
    }
}
