//! The bytes of a secret's file, read so that no copy of them stays behind in memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::zeroize::Zeroizing;
use secrecy::{SecretBox, SecretSlice};

/// Why the bytes cannot be had.
#[derive(Debug)]
pub(crate) enum FileFault {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// A directory, a device, a pipe.
    NotAFile,
    /// More than was asked for.
    TooLarge,
}

/// Reads a file of at most so many bytes. Whatever held them on the way is wiped, which a vector that grows would not be.
pub(crate) fn read_whole(path: &Path, most: usize) -> Result<SecretSlice<u8>, FileFault> {
    // Before it is opened: to open a pipe would wait for its writer.
    let known = std::fs::metadata(path).map_err(FileFault::Unreadable)?;
    if !known.is_file() {
        return Err(FileFault::NotAFile);
    }
    let mut file = File::open(path).map_err(FileFault::Unreadable)?;
    // One more than there is, so that the end is seen without growing.
    let size = usize::try_from(known.len()).unwrap_or(usize::MAX).min(most) + 1;
    let mut bytes = Zeroizing::new(vec![0; size]);
    let mut filled = 0;
    loop {
        if filled > most {
            return Err(FileFault::TooLarge);
        }
        if filled == bytes.len() {
            // It has grown since, or never says its size.
            let mut larger = Zeroizing::new(vec![0; (filled * 2).min(most + 1)]);
            larger[..filled].copy_from_slice(&bytes);
            bytes = larger;
        }
        match file.read(&mut bytes[filled..]) {
            Ok(0) => return Ok(SecretBox::new(bytes[..filled].into())),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileFault::Unreadable(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_bound_and_not_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for length in [0, 1, 63, 64] {
            std::fs::write(&path, vec![b'x'; length]).unwrap();
            assert_eq!(read_whole(&path, 64).unwrap().expose_secret(), vec![b'x'; length]);
        }
        std::fs::write(&path, [b'x'; 65]).unwrap();
        assert!(matches!(read_whole(&path, 64), Err(FileFault::TooLarge)));
        assert!(matches!(read_whole(directory.path(), 64), Err(FileFault::NotAFile)));
        assert!(matches!(read_whole(&path.with_file_name("none"), 64), Err(FileFault::Unreadable(_))));
    }

    /// Files under /proc say that they are empty.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_does_not_say_its_size_is_read_all_the_same() {
        let path = Path::new("/proc/self/limits");
        let whole = std::fs::read(path).unwrap();
        assert_eq!(read_whole(path, whole.len()).unwrap().expose_secret(), whole);
        assert!(matches!(read_whole(path, whole.len() - 1), Err(FileFault::TooLarge)));
    }
}
