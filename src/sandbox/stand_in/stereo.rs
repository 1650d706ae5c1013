//! The recording of a call: WAV, 16 bit, 8 kHz, with the operator on the left channel and the client on the right.
//!
//! No speech is synthesized. Each party hums in syllables for exactly as long as it speaks. Each sample depends only
//! on its position, so any range can be generated separately.

use std::f64::consts::TAU;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::dialogues::Party;
use super::talk::Talk;

const SAMPLE_RATE: u32 = 8_000;
const CHANNELS: u16 = 2;
const BYTES_PER_FRAME: u16 = CHANNELS * 2;
const HEADER_BYTES: u64 = 44;
const CHUNK_BYTES: u64 = 16 << 10;
const SYLLABLES_PER_SECOND: f64 = 4.5;
/// Amplitudes of the fundamental and its overtones. Their sum does not clip.
const OVERTONES: [f64; 4] = [0.35, 0.2, 0.12, 0.06];

/// A recording that is generated on demand.
pub(super) struct Stereo {
    /// The frames in which the operator and the client speak.
    spoken: [Vec<Range<u64>>; 2],
    frames: u64,
}

impl Stereo {
    pub(super) fn of(talk: &Talk) -> Self {
        let in_frames = |millis: i64| millis.unsigned_abs() * u64::from(SAMPLE_RATE) / 1_000;
        let spoken_by = |party: Party| {
            let turns = talk.turns.iter().filter(|turn| turn.party == party);
            turns.map(|turn| in_frames(turn.begin_ms)..in_frames(turn.end_ms)).collect()
        };
        Self {
            spoken: [spoken_by(Party::Operator), spoken_by(Party::Client)],
            frames: in_frames(talk.duration_ms()),
        }
    }

    /// Returns the recording, extended by silence to this length.
    pub(super) fn lasting(self, seconds: u32) -> Self {
        Self { frames: self.frames.max(u64::from(seconds) * u64::from(SAMPLE_RATE)), ..self }
    }

    /// Returns the size of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        HEADER_BYTES + self.data_bytes()
    }

    /// Returns the bytes of a range within the file, in pieces.
    pub(super) fn bytes(self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send {
        let starts = range.clone().step_by(CHUNK_BYTES as usize);
        starts.map(move |start| self.piece(start..range.end.min(start + CHUNK_BYTES)))
    }

    fn data_bytes(&self) -> u64 {
        self.frames * u64::from(BYTES_PER_FRAME)
    }

    fn piece(&self, range: Range<u64>) -> Bytes {
        let mut piece = BytesMut::with_capacity(CHUNK_BYTES as usize + HEADER_BYTES as usize);
        let first_frame = range.start.saturating_sub(HEADER_BYTES) / u64::from(BYTES_PER_FRAME);
        let mut at = HEADER_BYTES + first_frame * u64::from(BYTES_PER_FRAME);
        if range.start < HEADER_BYTES {
            piece.put(self.header());
            at = 0;
        }
        // From here on, `at` is the position of `piece` in the file.
        let mut frame = first_frame;
        while at + (piece.len() as u64) < range.end {
            for channel in [0, 1] {
                piece.put_i16_le(self.sample(channel, frame));
            }
            frame += 1;
        }
        let skipped = (range.start - at) as usize;
        piece.freeze().slice(skipped..skipped + (range.end - range.start) as usize)
    }

    fn header(&self) -> Bytes {
        let data_bytes = self.data_bytes() as u32;
        let mut header = BytesMut::with_capacity(HEADER_BYTES as usize);
        header.put_slice(b"RIFF");
        header.put_u32_le(data_bytes + HEADER_BYTES as u32 - 8);
        header.put_slice(b"WAVEfmt ");
        header.put_u32_le(16);
        header.put_u16_le(1); // PCM
        header.put_u16_le(CHANNELS);
        header.put_u32_le(SAMPLE_RATE);
        header.put_u32_le(SAMPLE_RATE * u32::from(BYTES_PER_FRAME));
        header.put_u16_le(BYTES_PER_FRAME);
        header.put_u16_le(16);
        header.put_slice(b"data");
        header.put_u32_le(data_bytes);
        header.freeze()
    }

    fn sample(&self, channel: usize, frame: u64) -> i16 {
        let Some(turn) = self.spoken[channel].iter().find(|turn| turn.contains(&frame)) else { return 0 };
        let seconds = (frame - turn.start) as f64 / f64::from(SAMPLE_RATE);
        let left = (turn.end - frame) as f64 / f64::from(SAMPLE_RATE);
        let fundamental = if channel == 0 { 190.0 } else { 120.0 };
        let syllable = (TAU / 2.0 * SYLLABLES_PER_SECOND * seconds).sin().abs();
        // The end of a turn fades out, so that no click is audible.
        let loudness = syllable * (left * 50.0).min(1.0);
        let voice: f64 = (1..)
            .zip(OVERTONES)
            .map(|(n, share)| share * (TAU * fundamental * f64::from(n) * seconds).sin())
            .sum();
        (voice * loudness * f64::from(i16::MAX)) as i16
    }
}
