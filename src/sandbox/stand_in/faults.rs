//! Misbehaviour: which there is, which behaviour shows it, and what it looks like on the wire.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::behaviour::Behaviour;
use crate::sandbox::http::Body;

/// What a request may meet instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The answer, but with this status.
    Accepted(u16),
    /// An error with this status.
    Status(u16),
    /// An error that asks to wait a second.
    RetryAfterSecond(u16),
    /// An error that asks to wait until a date.
    RetryAfterDate(u16),
    Html,
    Redirect,
    Reset,
    Hang,
    Truncated,
    TruncatedGzip,
    GzipBomb,
    Huge,
    Drip,
}

/// The fault that submits meet, and whether the call is taken all the same.
pub(super) fn submit_fault(behaviour: Behaviour) -> Option<(Fault, bool)> {
    Some(match behaviour {
        Behaviour::Redirect => (Fault::Redirect, false),
        Behaviour::Submit202 => (Fault::Accepted(202), true),
        Behaviour::Submit204 => (Fault::Accepted(204), true),
        Behaviour::SubmitHtml => (Fault::Html, true),
        Behaviour::SubmitHtmlLost => (Fault::Html, false),
        Behaviour::SubmitReset => (Fault::Reset, true),
        Behaviour::SubmitResetLost => (Fault::Reset, false),
        Behaviour::SubmitHang => (Fault::Hang, true),
        Behaviour::SubmitHangLost => (Fault::Hang, false),
        Behaviour::Submit500Taken => (Fault::Status(500), true),
        Behaviour::Submit500Lost => (Fault::Status(500), false),
        Behaviour::Submit400 => (Fault::Status(400), false),
        Behaviour::Submit401 => (Fault::Status(401), false),
        Behaviour::Submit403 => (Fault::Status(403), false),
        Behaviour::Submit404 => (Fault::Status(404), false),
        Behaviour::Submit429 => (Fault::RetryAfterSecond(429), false),
        _ => return None,
    })
}

/// The fault that polls meet.
pub(super) fn result_fault(behaviour: Behaviour) -> Option<Fault> {
    Some(match behaviour {
        Behaviour::Redirect => Fault::Redirect,
        Behaviour::Result400 => Fault::Status(400),
        Behaviour::Result401 => Fault::Status(401),
        Behaviour::Result403 => Fault::Status(403),
        Behaviour::Result404 => Fault::Status(404),
        Behaviour::Result429 => Fault::RetryAfterSecond(429),
        Behaviour::Result500 => Fault::Status(500),
        Behaviour::Result503 => Fault::RetryAfterSecond(503),
        Behaviour::Result503Date => Fault::RetryAfterDate(503),
        Behaviour::ResultHtml => Fault::Html,
        Behaviour::Reset => Fault::Reset,
        Behaviour::Hang => Fault::Hang,
        Behaviour::Truncated => Fault::Truncated,
        Behaviour::TruncatedGzip => Fault::TruncatedGzip,
        Behaviour::GzipBomb => Fault::GzipBomb,
        Behaviour::Huge => Fault::Huge,
        Behaviour::Drip => Fault::Drip,
        _ => return None,
    })
}

/// What stands in the place of a recording.
pub(super) fn audio_fault(behaviour: Behaviour) -> Option<Fault> {
    Some(match behaviour {
        Behaviour::AudioMissing => Fault::Status(404),
        Behaviour::Audio500 => Fault::Status(500),
        Behaviour::AudioRedirect => Fault::Redirect,
        _ => return None,
    })
}

const PIECE_BYTES: usize = 64 << 10;
const HUGE_BYTES: usize = 100 << 20;
const BOMB_BLOCK_BYTES: usize = 1 << 20;
const BOMB_BLOCKS: usize = 1 << 10;
const DRIP_PAUSE: Duration = Duration::from_millis(100);

/// An answer of 100 MiB: one long string, in JSON that is right to its end.
pub(super) fn huge_body() -> Body {
    let padding = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let chunks = std::iter::once(Bytes::from_static(br#"{"answer":{"stalk":[],"tags":[],"padding":""#))
        .chain(std::iter::repeat_n(padding, HUGE_BYTES / PIECE_BYTES))
        .chain(std::iter::once(Bytes::from_static(br#""}}"#)));
    Body::Chunked { chunks: Box::new(chunks), pause: Duration::ZERO }
}

/// White space, which JSON may begin with, without end.
pub(super) fn drip_body() -> Body {
    let chunks = std::iter::repeat(Bytes::from_static(b" "));
    Body::Chunked { chunks: Box::new(chunks), pause: DRIP_PAUSE }
}

/// The first half of a body that is announced whole.
pub(super) fn truncated_body(whole: &Bytes) -> Body {
    let half = whole.slice(..whole.len() / 2);
    Body::Sized { length: whole.len() as u64, chunks: Box::new(std::iter::once(half)) }
}

/// The body, compressed.
pub(super) fn gzipped(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = encoder.write_all(body).and_then(|()| encoder.finish());
    match compressed {
        Ok(compressed) => compressed.into(),
        Err(error) => unreachable!("writing to memory does not fail: {error}"),
    }
}

/// White space that unpacks to a gigabyte.
///
/// One block, flushed so that it depends on nothing before it, can be sent over and over. The checksum at the end is not
/// right; nobody should get so far.
pub(super) fn bomb_body() -> Body {
    const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    const LAST_BLOCK_AND_CHECKSUM: &[u8] = &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut block = Vec::with_capacity(PIECE_BYTES);
    let packed = Compress::new(Compression::best(), false).compress_vec(
        &vec![b' '; BOMB_BLOCK_BYTES],
        &mut block,
        FlushCompress::Full,
    );
    debug_assert!(matches!(packed, Ok(Status::Ok)), "a megabyte of spaces packs into {PIECE_BYTES} bytes");
    let chunks = std::iter::once(Bytes::from_static(HEADER))
        .chain(std::iter::repeat_n(Bytes::from(block), BOMB_BLOCKS))
        .chain(std::iter::once(Bytes::from_static(LAST_BLOCK_AND_CHECKSUM)));
    Body::Chunked { chunks: Box::new(chunks), pause: Duration::ZERO }
}
