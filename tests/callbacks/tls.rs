//! Receivers with TLS: certificate authorities of the operator, and the reason of each failure.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls_server::{Authority, Identity, pem_of, serve, serve_with_client_certificates};
use super::*;

const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

/// The outcome of an attempt to a receiver with this identity.
async fn attempt(network: &Network, identity: Identity) -> AttemptOutcome {
    let address = serve(identity, |_| NO_CONTENT.to_vec());
    let sender = Sender::new(&settings(), network).unwrap();
    send(&sender, &format!("https://{address}/hook?key=s3cr3t")).await.outcome
}

/// Connections that also trust this authority. The file can be replaced.
fn trusting(authority: &Authority, folder: &tempfile::TempDir) -> Network {
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, &authority.pem).unwrap();
    Network::new(&NetworkSettings { ca_file: Some(ca_file), ..NetworkSettings::default() }).unwrap()
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_own_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let network = trusting(&authority, &folder);
    let delivered = AttemptOutcome::Delivered { status: 204 };
    assert_eq!(attempt(&network, authority.identity("127.0.0.1")).await, delivered);
    for (identity, error) in [
        (authority.expired(), TransportError::CertificateExpired),
        (authority.not_yet_valid(), TransportError::CertificateNotYetValid),
        (authority.identity("crm.internal"), TransportError::WrongName),
        (other.identity("127.0.0.1"), TransportError::UnknownAuthority),
        (Identity::self_signed(false), TransportError::SelfSigned),
        (Identity::self_signed(true), TransportError::SelfSigned),
    ] {
        let outcome = attempt(&network, identity).await;
        assert_eq!(outcome, AttemptOutcome::Failed { error });
        assert_eq!(outcome.label(), "tls");
        let text = outcome.to_string();
        // Neither the URL nor the names in the certificate, which may be internal.
        assert!(
            !text.contains("s3cr3t") && !text.contains("127.0.0.1") && !text.contains("internal"),
            "{text}"
        );
    }
}

/// Connections that also trust the certificates in a file with this content.
fn with_file(content: &[u8], folder: &tempfile::TempDir) -> Network {
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, content).unwrap();
    Network::new(&NetworkSettings { ca_file: Some(ca_file), ..NetworkSettings::default() }).unwrap()
}

#[tokio::test]
async fn a_self_signed_certificate_in_the_file_is_trusted_for_its_host_while_it_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    for (identity, outcome) in [
        (Identity::self_signed(true), Ok(204)),
        (Identity::self_signed(false), Ok(204)),
        (Identity::self_signed_for("crm.internal"), Err(TransportError::WrongName)),
        (Identity::self_signed_and_expired(), Err(TransportError::CertificateExpired)),
    ] {
        let network = with_file(pem_of(identity.der()).as_bytes(), &folder);
        let expected = match outcome {
            Ok(status) => AttemptOutcome::Delivered { status },
            Err(error) => AttemptOutcome::Failed { error },
        };
        assert_eq!(attempt(&network, identity).await, expected);
        // Another certificate with the same name has another key.
        let refused = AttemptOutcome::Failed { error: TransportError::SelfSigned };
        assert_eq!(attempt(&network, Identity::self_signed(true)).await, refused);
    }
}

#[tokio::test]
async fn a_file_of_authorities_may_have_several_certificates_a_byte_order_mark_or_der_format() {
    let (one, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let alone = Identity::self_signed(true);
    let several = format!("# Corporate\r\n{}\r\n{}", one.pem, other.pem);
    let delivered = AttemptOutcome::Delivered { status: 204 };
    for (content, identities) in [
        (several.clone().into_bytes(), vec![one.identity("127.0.0.1"), other.identity("127.0.0.1")]),
        (format!("\u{feff}{}", one.pem).into_bytes(), vec![one.identity("127.0.0.1")]),
        (alone.der().to_vec(), vec![alone.clone()]),
    ] {
        let network = with_file(&content, &folder);
        for identity in identities {
            assert_eq!(attempt(&network, identity).await, delivered);
        }
    }
}

#[tokio::test]
async fn a_server_that_requires_client_certificates_or_an_old_version_says_so() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let sender = Sender::new(&settings(), &trusting(&authority, &folder)).unwrap();
    let mutual = serve_with_client_certificates(authority.identity("127.0.0.1"), &authority);
    let outcome = send(&sender, &format!("https://{mutual}/hook")).await.outcome;
    assert_eq!(outcome, AttemptOutcome::Failed { error: TransportError::ClientCertificate });

    // A fatal alert: protocol_version (RFC 8446, 6).
    let old = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", old.local_addr().unwrap());
    let alert = async {
        let (mut stream, _) = old.accept().await.unwrap();
        stream.write_all(b"\x15\x03\x01\x00\x02\x02\x46").await.unwrap();
        // The client hello, so that the close does not reset the connection before the alert is read.
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (sent, ()) = tokio::join!(send(&sender, &url), alert);
    assert_eq!(sent.outcome, AttemptOutcome::Failed { error: TransportError::TlsVersion });
}

#[tokio::test]
async fn a_replaced_file_of_authorities_applies_to_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let network = trusting(&old, &folder);
    let refused = AttemptOutcome::Failed { error: TransportError::UnknownAuthority };
    assert_eq!(attempt(&network, new.identity("127.0.0.1")).await, refused);

    let file = folder.path().join("ca.pem");
    std::fs::write(&file, "no certificate\n").unwrap();
    let [secret] = &network.secrets()[..] else { panic!("one file") };
    let reload = secret.reload().unwrap();
    assert!(
        matches!(&reload, Reload::Failed(error) if error.to_string().contains("no certificate")),
        "{reload:?}"
    );
    let delivered = AttemptOutcome::Delivered { status: 204 };
    assert_eq!(
        attempt(&network, old.identity("127.0.0.1")).await,
        delivered,
        "the previous file stays in force"
    );

    std::fs::write(&file, &new.pem).unwrap();
    assert!(matches!(secret.reload(), Some(Reload::Changed)));
    assert_eq!(attempt(&network, new.identity("127.0.0.1")).await, delivered);
    assert_eq!(attempt(&network, old.identity("127.0.0.1")).await, refused);
}

#[test]
fn an_unusable_file_of_authorities_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let damaged = Authority::new().pem.replacen("MII", "AAA", 1);
    let wide = folder.path().join("wide");
    let utf_16 = Authority::new().pem.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    std::fs::write(&wide, [b"\xff\xfe".to_vec(), utf_16].concat()).unwrap();
    for (path, reason) in [
        (folder.path().join("missing"), "No such file"),
        (folder.path().to_owned(), "is not a regular file"),
        (write("empty", ""), "has no certificate in PEM format"),
        (
            write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "has no certificate",
        ),
        (write("damaged", &damaged), "has a certificate that cannot be used"),
        (wide, "is encoded in UTF-16"),
    ] {
        let settings = NetworkSettings { ca_file: Some(path), ..NetworkSettings::default() };
        let problem = Network::new(&settings).unwrap_err().to_string();
        assert!(problem.starts_with("network.ca_file: ") && problem.contains(reason), "{problem}");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let receiver = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
        // Closing with unread bytes resets the connection.
    };
    let sender = Sender::new(&settings(), &network()).unwrap();
    let (sent, ()) = tokio::join!(send(&sender, &url), receiver);
    assert_eq!(sent.outcome, AttemptOutcome::Failed { error: TransportError::Reset });
}
