//! Reads the file of a secret without leaving copies in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{SecretBox, SecretSlice};

use super::UnusableSecret;

/// Reads a file of at most `max_bytes`. Every buffer is wiped after use. If a buffer is too small, a larger buffer replaces it:
/// a vector that grows itself would leave an unwiped copy in memory.
pub(super) fn read_whole(path: &Path, max_bytes: usize) -> Result<SecretSlice<u8>, UnusableSecret> {
    let unreadable = |source| UnusableSecret::Unreadable { file: path.to_owned(), source };
    // The type is checked before opening, because opening a pipe blocks until the pipe has a writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(UnusableSecret::NotAFile(path.to_owned()));
    }
    let file = File::open(path).map_err(unreadable)?;
    let size_hint = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let content = read_bounded(file, size_hint, max_bytes).map_err(unreadable)?;
    content.ok_or_else(|| UnusableSecret::TooLarge { file: path.to_owned(), limit_kib: max_bytes / 1024 })
}

/// Reads to the end of `reader`. Returns `None` if the content has more than `max_bytes`.
fn read_bounded(
    mut reader: impl Read,
    size_hint: usize,
    max_bytes: usize,
) -> io::Result<Option<SecretSlice<u8>>> {
    // The buffer has one byte more than expected, so that the end of the file is detected without a larger buffer.
    let mut bytes = Zeroizing::new(vec![0; size_hint.min(max_bytes) + 1]);
    let mut filled = 0;
    loop {
        if filled > max_bytes {
            return Ok(None);
        }
        if filled == bytes.len() {
            // The file has grown since its size was read, or it does not report its size.
            let mut larger = Zeroizing::new(vec![0; (filled * 2).min(max_bytes + 1)]);
            larger[..filled].copy_from_slice(&bytes);
            bytes = larger;
        }
        match reader.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(Some(SecretBox::new(bytes[..filled].into()))),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_bound() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, 63, 64] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            assert_eq!(read_whole(&path, 64).unwrap().expose_secret(), vec![b'x'; length]);
        }
        std::fs::write(&path, [b'x'; 65]).unwrap();
        assert!(matches!(read_whole(&path, 64), Err(UnusableSecret::TooLarge { .. })));
        assert!(matches!(read_whole(directory.path(), 64), Err(UnusableSecret::NotAFile(_))));
        let missing = path.with_file_name("missing");
        assert!(matches!(read_whole(&missing, 64), Err(UnusableSecret::Unreadable { .. })));
    }

    /// Files under /proc report a size of 0.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_does_not_report_its_size_is_read_completely() {
        let path = Path::new("/proc/self/limits");
        let whole = std::fs::read(path).unwrap();
        assert_eq!(read_whole(path, whole.len()).unwrap().expose_secret(), whole);
        assert!(matches!(read_whole(path, whole.len() - 1), Err(UnusableSecret::TooLarge { .. })));
    }
}
