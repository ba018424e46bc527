//! What must hold of frames, whatever bytes come in whatever pieces: one reading, nothing grown,
//! and every frame read again from its own bytes.
//!
//! Input: a count byte, that many bytes with the sizes of the pieces (in turn, each plus one), and
//! the stream. Knows nothing of what is in a frame's body.

use bytes::Bytes;
use qpc_proto::ErrorBody;
use qpc_proto::frame::{Decoder, Frame, FrameError};
use qpc_proto::limits::FRAME_BYTES_MAX;

/// What a stream was read as.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    /// Each frame as it is written.
    frames: Vec<Bytes>,
    /// What ended the reading, the end of the stream included.
    end: Result<(), FrameError>,
}

/// Checks one input; returns whether it is whole frames and nothing else.
pub(crate) fn check(data: &[u8]) -> bool {
    let Some((count, rest)) = data.split_first() else {
        return false;
    };
    let (sizes, stream) = rest.split_at(usize::from(*count).min(rest.len()));
    let at_once = read([stream]);
    assert_eq!(at_once, read(pieces(stream, sizes)), "pieces change nothing");
    let written = at_once.frames.concat();
    assert!(written.len() <= stream.len(), "frames are no longer than what they came from");
    let again = read([written.as_slice()]);
    assert_eq!(again, Reading { frames: at_once.frames, end: Ok(()) });
    if let Err(error) = at_once.end {
        check_refusal(error);
    }
    at_once.end.is_ok()
}

fn pieces<'a>(mut stream: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let size = sizes.next().map_or(1, |size| usize::from(*size) + 1);
        let (piece, rest) = stream.split_at(size.min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reading {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(written(&frame)),
                Ok(None) => break,
                Err(error) => return Reading { frames, end: Err(error) },
            }
        }
    }
    Reading { frames, end: decoder.finish() }
}

fn written(frame: &Frame) -> Bytes {
    let bytes = frame.encode();
    assert!(bytes.len() <= FRAME_BYTES_MAX + qpc_proto::frame::HEADER_BYTES);
    bytes
}

/// The peer must be able to read why.
fn check_refusal(error: FrameError) {
    let body = ErrorBody::from(error);
    let frames = read([Frame::refusal(&body).encode().as_ref()]);
    assert_eq!((frames.frames.len(), frames.end), (1, Ok(())));
    assert_eq!(ErrorBody::decode(body.code.as_u16(), &body.encode()), Ok(body));
}
