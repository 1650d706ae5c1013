//! The faults that the stand-in injects, and the bodies of faulty answers.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::behaviour::Behaviour;
use crate::sandbox::http::Body;

/// A fault that replaces the regular answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InjectedFault {
    /// The regular answer, but with this status.
    Accepted(u16),
    /// An error with this status.
    Status(u16),
    /// An error with this status and `Retry-After: 1`.
    RetryAfterSecond(u16),
    /// An error with this status and a date in `Retry-After`.
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

/// Returns the fault to inject into answers to submits, and whether the stand-in accepts the call despite the fault; `None` if
/// submits work.
pub(super) fn submit_fault(behaviour: Behaviour) -> Option<(InjectedFault, bool)> {
    Some(match behaviour {
        Behaviour::Redirect => (InjectedFault::Redirect, false),
        Behaviour::Submit202 => (InjectedFault::Accepted(202), true),
        Behaviour::Submit204 => (InjectedFault::Accepted(204), true),
        Behaviour::SubmitHtml => (InjectedFault::Html, true),
        Behaviour::SubmitHtmlLost => (InjectedFault::Html, false),
        Behaviour::SubmitReset => (InjectedFault::Reset, true),
        Behaviour::SubmitResetLost => (InjectedFault::Reset, false),
        Behaviour::SubmitHang => (InjectedFault::Hang, true),
        Behaviour::SubmitHangLost => (InjectedFault::Hang, false),
        Behaviour::Submit500Taken => (InjectedFault::Status(500), true),
        Behaviour::Submit500Lost => (InjectedFault::Status(500), false),
        Behaviour::Submit400 => (InjectedFault::Status(400), false),
        Behaviour::Submit401 => (InjectedFault::Status(401), false),
        Behaviour::Submit403 => (InjectedFault::Status(403), false),
        Behaviour::Submit404 => (InjectedFault::Status(404), false),
        Behaviour::Submit429 => (InjectedFault::RetryAfterSecond(429), false),
        _ => return None,
    })
}

/// Returns the fault to inject into answers to polls; `None` if polls work.
pub(super) fn result_fault(behaviour: Behaviour) -> Option<InjectedFault> {
    Some(match behaviour {
        Behaviour::Redirect => InjectedFault::Redirect,
        Behaviour::Result400 => InjectedFault::Status(400),
        Behaviour::Result401 => InjectedFault::Status(401),
        Behaviour::Result403 => InjectedFault::Status(403),
        Behaviour::Result404 => InjectedFault::Status(404),
        Behaviour::Result429 => InjectedFault::RetryAfterSecond(429),
        Behaviour::Result500 => InjectedFault::Status(500),
        Behaviour::Result503 => InjectedFault::RetryAfterSecond(503),
        Behaviour::Result503Date => InjectedFault::RetryAfterDate(503),
        Behaviour::ResultHtml => InjectedFault::Html,
        Behaviour::Reset => InjectedFault::Reset,
        Behaviour::Hang => InjectedFault::Hang,
        Behaviour::Truncated => InjectedFault::Truncated,
        Behaviour::TruncatedGzip => InjectedFault::TruncatedGzip,
        Behaviour::GzipBomb => InjectedFault::GzipBomb,
        Behaviour::Huge => InjectedFault::Huge,
        Behaviour::Drip => InjectedFault::Drip,
        _ => return None,
    })
}

/// Returns the fault to inject into answers with recordings; `None` if recordings work.
pub(super) fn audio_fault(behaviour: Behaviour) -> Option<InjectedFault> {
    Some(match behaviour {
        Behaviour::AudioMissing => InjectedFault::Status(404),
        Behaviour::Audio500 => InjectedFault::Status(500),
        Behaviour::AudioRedirect => InjectedFault::Redirect,
        _ => return None,
    })
}

const PIECE_BYTES: usize = 64 << 10;
const HUGE_BYTES: usize = 100 << 20;
const BOMB_BLOCK_BYTES: usize = 1 << 20;
const BOMB_BLOCKS: usize = 1 << 10;
const DRIP_PAUSE: Duration = Duration::from_millis(100);

/// Returns an answer of 100 MiB: one long string in valid JSON.
pub(super) fn huge_body() -> Body {
    let padding = Bytes::from(vec![b'x'; PIECE_BYTES]);
    let chunks = std::iter::once(Bytes::from_static(br#"{"answer":{"stalk":[],"tags":[],"padding":""#))
        .chain(std::iter::repeat_n(padding, HUGE_BYTES / PIECE_BYTES))
        .chain(std::iter::once(Bytes::from_static(br#""}}"#)));
    Body::Chunked { chunks: Box::new(chunks), pause: Duration::ZERO }
}

/// Returns endless white space, which JSON allows before a value.
pub(super) fn drip_body() -> Body {
    let chunks = std::iter::repeat(Bytes::from_static(b" "));
    Body::Chunked { chunks: Box::new(chunks), pause: DRIP_PAUSE }
}

/// Returns the first half of a body, announced with the full length.
pub(super) fn truncated_body(whole: &Bytes) -> Body {
    let half = whole.slice(..whole.len() / 2);
    Body::Sized { length: whole.len() as u64, chunks: Box::new(std::iter::once(half)) }
}

/// Returns the body compressed by gzip.
pub(super) fn gzipped(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let compressed = encoder.write_all(body).and_then(|()| encoder.finish());
    match compressed {
        Ok(compressed) => compressed.into(),
        Err(error) => unreachable!("writing to memory does not fail: {error}"),
    }
}

/// Returns white space that decompresses to a gigabyte.
///
/// The body repeats one compressed block. The compressor flushes this block completely, so the block does not depend on earlier
/// data. The checksum at the end is wrong, because no client should read that far.
pub(super) fn bomb_body() -> Body {
    const HEADER: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    const LAST_BLOCK_AND_CHECKSUM: &[u8] = &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut block = Vec::with_capacity(PIECE_BYTES);
    let packed = Compress::new(Compression::best(), false).compress_vec(
        &vec![b' '; BOMB_BLOCK_BYTES],
        &mut block,
        FlushCompress::Full,
    );
    debug_assert!(matches!(packed, Ok(Status::Ok)), "a megabyte of spaces compresses to {PIECE_BYTES} bytes");
    let chunks = std::iter::once(Bytes::from_static(HEADER))
        .chain(std::iter::repeat_n(Bytes::from(block), BOMB_BLOCKS))
        .chain(std::iter::once(Bytes::from_static(LAST_BLOCK_AND_CHECKSUM)));
    Body::Chunked { chunks: Box::new(chunks), pause: Duration::ZERO }
}
