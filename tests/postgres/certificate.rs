//! A certificate for a server with TLS.

use std::fs::{OpenOptions, write};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertifiedKey, generate_simple_self_signed};

/// What the server shows, and what a client is to trust: it is signed with its own key.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("server.crt")
}

/// Its key, which the server wants to be readable by nobody else.
pub(super) fn key_path(folder: &Path) -> PathBuf {
    folder.join("server.key")
}

/// Makes both, for loopback.
pub(super) fn make(folder: &Path) {
    let names = ["127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    write(path(folder), cert.pem()).unwrap();
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_path(folder)).unwrap();
    key.write_all(signing_key.serialize_pem().as_bytes()).unwrap();
}
