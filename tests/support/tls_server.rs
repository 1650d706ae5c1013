//! A TLS server with a certificate that the test chooses.
//!
//! Test binaries share this source with `#[path = "../support/tls_server.rs"] mod tls_server;`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A certificate authority of the test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM format.
    pub(crate) pem: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key_of(pair: &KeyPair) -> Arc<PrivateKeyDer<'static>> {
    Arc::new(PrivatePkcs8KeyDer::from(pair.serialize_der()).into())
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a host, valid now.
    pub(crate) fn identity(&self, host: &str) -> Identity {
        self.sign(&params(host))
    }

    /// A certificate for 127.0.0.1 that expired in 2021.
    pub(crate) fn expired(&self) -> Identity {
        let mut params = params("127.0.0.1");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.sign(&params)
    }

    /// A certificate for 127.0.0.1 that becomes valid in 2190.
    pub(crate) fn not_yet_valid(&self) -> Identity {
        let mut params = params("127.0.0.1");
        (params.not_before, params.not_after) = (date_time_ymd(2190, 1, 1), date_time_ymd(2191, 1, 1));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.der().clone(), key: key_of(&key) }
    }

    /// Verifies that a client has a certificate by this authority.
    fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
    }
}

impl Identity {
    /// A certificate for 127.0.0.1 that signed itself. `openssl req -x509` makes it an authority, other tools do not.
    pub(crate) fn self_signed(is_authority: bool) -> Self {
        Self::signing_itself(params("127.0.0.1"), is_authority)
    }

    /// A self-signed certificate for another host. The certificate is an authority.
    pub(crate) fn self_signed_for(host: &str) -> Self {
        Self::signing_itself(params(host), true)
    }

    /// A self-signed certificate for 127.0.0.1 that expired in 2021. The certificate is an authority.
    pub(crate) fn self_signed_and_expired() -> Self {
        let mut params = params("127.0.0.1");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        Self::signing_itself(params, true)
    }

    fn signing_itself(mut params: CertificateParams, is_authority: bool) -> Self {
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key: key_of(&key) }
    }

    /// The certificate in DER format.
    pub(crate) fn der(&self) -> &[u8] {
        &self.certificate
    }
}

/// Converts a certificate to PEM format.
pub(crate) fn pem_of(der: &[u8]) -> String {
    let lines: Vec<_> = STANDARD.encode(der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
    let body = String::from_utf8(lines.join(&b'\n')).unwrap();
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

/// Starts a server on a free port of 127.0.0.1. It answers each request, of which it reads the head, and closes the connection.
pub(crate) fn serve(
    identity: Identity,
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    serve_clients(identity, WebPkiClientVerifier::no_client_auth(), answer)
}

/// Starts a server as [`serve`] does, whose clients must have a certificate by the authority.
pub(crate) fn serve_with_client_certificates(identity: Identity, authority: &Authority) -> SocketAddr {
    serve_clients(identity, authority.client_verifier(), |_| Vec::new())
}

fn serve_clients(
    identity: Identity,
    clients: Arc<dyn ClientCertVerifier>,
    answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static,
) -> SocketAddr {
    let Identity { certificate, key } = identity;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key.clone_key())
        .unwrap();
    let (config, answer) = (Arc::new(config), Arc::new(answer));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let (stream, answer) = (StreamOwned::new(connection, stream.unwrap()), Arc::clone(&answer));
            // It ends with an error when a client refuses the certificate.
            std::thread::spawn(move || exchange(stream, &*answer));
        }
    });
    address
}

fn exchange(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    answer: &dyn Fn(&[u8]) -> Vec<u8>,
) -> std::io::Result<()> {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&part[..length]),
        }
    }
    stream.write_all(&answer(&request))?;
    stream.conn.send_close_notify();
    stream.flush()?;
    // The rest of the request, so that the close does not reset the connection before the answer is read.
    while stream.read(&mut part)? > 0 {}
    Ok(())
}
