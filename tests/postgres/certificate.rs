//! A certificate for a server with TLS.

use std::fs::{OpenOptions, write};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Path of the self-signed certificate, which clients must trust.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("server.crt")
}

/// Path of the private key. The server requires that only its owner can read it.
pub(super) fn key_path(folder: &Path) -> PathBuf {
    folder.join("server.key")
}

/// Creates the certificate and its key, for loopback.
pub(super) fn make(folder: &Path) {
    let names = ["127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    write(path(folder), cert.pem()).unwrap();
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_path(folder)).unwrap();
    key.write_all(signing_key.serialize_pem().as_bytes()).unwrap();
}
