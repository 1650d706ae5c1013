//! The header of the index of the log (`-shm`), as <https://sqlite.org/walformat.html> documents it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The part of the index that describes the log. Numbers have the byte order of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogIndex {
    /// Number of commits to the log.
    commits: u32,
    pub(super) page_size: u32,
    /// The number of valid frames in the log.
    pub(super) frames: u32,
    /// Checksum of the last frame, which depends on all frames before it.
    pub(super) checksum: [u32; 2],
    /// The first salt counts the restarts of the log. The second salt is random.
    pub(super) salts: [u32; 2],
    /// Number of frames that checkpoints have copied to the database, and number of frames that they have begun to copy.
    copied: [u32; 2],
}

impl LogIndex {
    /// Number of bytes that are read from the start of the index file: two copies of the header, and the state of
    /// checkpoints and readers.
    const SIZE: usize = 136;

    /// Reads the start of the index file. Fails if the file is too short, or while another process writes it.
    pub(super) fn read(index: &File) -> Result<Self, ()> {
        let mut bytes = [0; Self::SIZE];
        index.read_exact_at(&mut bytes, 0).map_err(|_| ())?;
        Self::parse(&bytes).ok_or(())
    }

    /// Parses the start of the index file. Returns `None` while another process writes the file.
    fn parse(bytes: &[u8; Self::SIZE]) -> Option<Self> {
        let (header, copy) = (&bytes[..48], &bytes[48..96]);
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
        let salt = |at: usize| u32::from_be(word(at));
        // The page size has 16 bits; 1 stands for 65,536.
        let page_size = bytes[14..].first_chunk().map_or(0, |word| u16::from_ne_bytes(*word));
        (header == copy).then(|| Self {
            commits: word(8),
            page_size: if page_size == 1 { 1 << 16 } else { page_size.into() },
            frames: word(16),
            checksum: [word(24), word(28)],
            salts: [salt(32), salt(36)],
            copied: [word(96), word(128)],
        })
    }

    /// Whether a checkpoint may have changed the database since `before`.
    pub(super) fn has_checkpoint_since(&self, before: &Self) -> bool {
        (self.salts, self.copied) != (before.salts, before.copied)
    }

    /// Whether a checkpoint may be in progress. A checkpoint records the number of frames to copy, and then writes to
    /// the database, possibly for a long time. `SQLite` also records this number when it recovers the log, so a number
    /// that was recorded before the watch began proves nothing.
    pub(super) fn has_begun_checkpoint(&self, at_start: &Self) -> bool {
        let [copied, begun] = self.copied;
        copied != begun && self.has_checkpoint_since(at_start)
    }

    /// Whether a change of the index from `before` to this one can come from `SQLite`.
    pub(super) fn follows(&self, before: &Self) -> bool {
        let is_later = |now: u32, before: u32| now.wrapping_sub(before) < 1 << 31;
        if self.page_size != before.page_size || !is_later(self.commits, before.commits) {
            return false;
        }
        if self.salts == before.salts {
            self.frames >= before.frames
        } else {
            // The first commit to an empty log chooses random salts.
            before.frames == 0 || self.salts[0] != before.salts[0] && is_later(self.salts[0], before.salts[0])
        }
    }
}
