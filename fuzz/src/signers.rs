//! Two fixed issuers: one with a shared secret, one with a key pair.

use std::path::PathBuf;
use std::sync::Arc;

use alovoice_gateway::auth::Verifier;
use alovoice_gateway::config::{AuthSettings, IssuerSettings, KeySource, NetworkSettings, SettingsProblems};
use alovoice_gateway::domain::claim_path::ClaimPath;
use alovoice_gateway::domain::clock::{Clock, Timestamp};
use alovoice_gateway::http_client::Network;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

pub(crate) const AUDIENCE: &str = "alovoice-gateway";
/// The current time in seconds since the epoch.
pub(crate) const NOW: i64 = 1_716_207_617;
pub(crate) const SECRET: &[u8] = b"a shared secret of at least thirty-two bytes";

/// The signer of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signer {
    Hmac,
    Ed25519,
}

impl Signer {
    pub(crate) const ALL: [Self; 2] = [Self::Hmac, Self::Ed25519];

    pub(crate) fn algorithm(self) -> &'static str {
        match self {
            Self::Hmac => "HS256",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// The `iss` of the signer.
    pub(crate) fn issuer(self) -> &'static str {
        match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        }
    }

    pub(crate) fn signature(self, message: &str) -> Vec<u8> {
        match self {
            Self::Hmac => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes()).as_ref().to_vec()
            }
            Self::Ed25519 => pair().sign(message.as_bytes()).as_ref().to_vec(),
        }
    }

    /// Returns a signed token with this header and these claims.
    pub(crate) fn token(self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.signature(&message)))
    }
}

/// The public key of the key pair, as a key set contains it.
pub(crate) fn public_key() -> Vec<u8> {
    pair().public_key().as_ref().to_vec()
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

/// An issuer with a key file.
pub(crate) struct Issuer<'a> {
    pub(crate) name: &'a str,
    pub(crate) algorithms: &'a [Algorithm],
    /// The kind of key file.
    pub(crate) source: fn(PathBuf) -> KeySource,
    pub(crate) content: &'a [u8],
}

/// Creates a verifier for these issuers.
pub(crate) fn verifier(issuers: &[Issuer<'_>]) -> Result<Verifier, SettingsProblems> {
    let home = tempfile::tempdir().unwrap();
    let settings = issuers.iter().map(|issuer| {
        let path = home.path().join(issuer.name);
        std::fs::write(&path, issuer.content).unwrap();
        IssuerSettings {
            issuer: issuer.name.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: issuer.algorithms.to_vec(),
            keys: (issuer.source)(path),
            tenant_claim: vec![ClaimPath::parse("tenant").unwrap()],
            scope_claim: vec![ClaimPath::parse("scope").unwrap()],
        }
    });
    let network = Network::new(&NetworkSettings::default())?;
    // The files are read once.
    Verifier::new(&AuthSettings { issuers: settings.collect() }, &network, Arc::new(Still), |_| {})
}

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(NOW * 1000)
    }
}
