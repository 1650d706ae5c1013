//! A certificate for a server with TLS.

use std::fs::{OpenOptions, write};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

/// Path of the self-signed certificate, which clients must trust.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("server.crt")
}

/// Path of the private key. The server requires that only its owner can read it.
pub(super) fn key_path(folder: &Path) -> PathBuf {
    folder.join("server.key")
}

/// Creates the certificate and its key, for loopback. It is an authority, as the command in the documentation of PostgreSQL makes it
/// (`openssl req -x509`, section 18.9.5).
pub(super) fn make(folder: &Path) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    write(path(folder), cert.pem()).unwrap();
    let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_path(folder)).unwrap();
    key.write_all(signing_key.serialize_pem().as_bytes()).unwrap();
}
