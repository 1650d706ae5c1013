//! An issuer of tokens.

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::json;

/// An issuer with one key.
pub(crate) struct Signer {
    algorithm: Algorithm,
    signing_key: EncodingKey,
    /// The key that verifies tokens: the shared secret, or a public key in PEM form.
    pub(crate) verification_key: String,
}

/// The shared secret of HS256. HAProxy reads it from its configuration, so it has no blanks.
const SECRET: &str = "a-development-secret-of-more-than-thirty-two-bytes";

impl Signer {
    pub(crate) const ISSUER: &str = "https://issuer.example";
    pub(crate) const AUDIENCE: &str = "alovoice-gateway";
    pub(crate) const ALGORITHMS: [Algorithm; 4] =
        [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let pair = |kind| KeyPair::generate_for(kind).expect("a key");
        let (signing_key, verification_key) = match algorithm {
            Algorithm::RS256 => {
                let pair = pair(&rcgen::PKCS_RSA_SHA256);
                (EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()), pair.public_key_pem())
            }
            Algorithm::ES256 => {
                let pair = pair(&rcgen::PKCS_ECDSA_P256_SHA256);
                (EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()), pair.public_key_pem())
            }
            Algorithm::EdDSA => {
                let pair = pair(&rcgen::PKCS_ED25519);
                (EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()), pair.public_key_pem())
            }
            _ => (Ok(EncodingKey::from_secret(SECRET.as_bytes())), SECRET.to_owned()),
        };
        Self { algorithm, signing_key: signing_key.expect("a signing key"), verification_key }
    }

    /// Returns the name of the algorithm.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            Algorithm::EdDSA => "EdDSA",
            _ => "HS256",
        }
    }

    /// Returns the setting of the gateway for the verification key.
    pub(crate) fn setting(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "GATEWAY_AUTH__ISSUERS__0__HMAC_SECRET_FILE",
            _ => "GATEWAY_AUTH__ISSUERS__0__PUBLIC_KEY_FILE",
        }
    }

    /// Returns the JSON Web Key Set with the verification key.
    pub(crate) fn key_set(&self) -> String {
        let key = Jwk::from_encoding_key(&self.signing_key, self.algorithm).expect("a key");
        json!({"keys": [key]}).to_string()
    }

    pub(crate) fn token(&self) -> String {
        let now = SystemClock.now().as_seconds();
        let claims = json!({"iss": Self::ISSUER, "aud": Self::AUDIENCE, "tenant": "acme", "sub": "benchmark",
            "scope": "analyses:read analyses:write webhooks:manage", "iat": now, "exp": now + 36_000});
        encode(&Header::new(self.algorithm), &claims, &self.signing_key).expect("a token")
    }
}
