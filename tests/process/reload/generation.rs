//! Generations of secrets: one secret of each kind per generation, and tokens that prove which generation is in use.

use std::time::Duration;

use alovoice_gateway::auth::DevelopmentToken;
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::ids::TenantId;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::stage::{AUDIENCE, ISSUER};

pub(crate) const PEM_ISSUER: &str = "https://pem.test";
pub(crate) const SET_ISSUER: &str = "https://set.test";
pub(crate) const SCOPES: &str = "analyses:read analyses:write audio:read";

/// A key pair of an issuer.
pub(crate) struct IssuerKey {
    document: Vec<u8>,
    kid: String,
}

impl IssuerKey {
    pub(crate) fn new(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { document: document.as_ref().to_vec(), kid: kid.to_owned() }
    }

    fn public(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_pkcs8(&self.document).unwrap()
    }

    pub(crate) fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.public().public_key());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": x})
    }

    fn pem(&self) -> String {
        let der = STANDARD.encode(self.public().public_key().as_der().unwrap().as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    pub(crate) fn token(&self, issuer: &str) -> String {
        let now = SystemClock.now().as_seconds();
        let claims = json!({"iss": issuer, "aud": AUDIENCE, "tenant": "acme", "scope": SCOPES, "iat": now, "exp": now + 3600});
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &EncodingKey::from_ed_der(&self.document)).unwrap()
    }
}

/// The secrets of one generation.
pub(crate) struct Generation {
    number: usize,
    pub(crate) pem: IssuerKey,
    pub(crate) set: IssuerKey,
}

impl Generation {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, pem: IssuerKey::new("pem"), set: IssuerKey::new(&format!("set-{number}")) }
    }

    pub(crate) fn vendor_token(&self) -> String {
        format!("vendor-token-of-generation-{}", self.number)
    }

    fn hmac(&self) -> String {
        format!("~hmac-secret-of-generation-{}-0123456789abcdef", self.number)
    }

    /// The 32 bytes of the encryption key.
    fn sealing_key(&self) -> String {
        format!("~the-sealing-key-of-generation-{}", self.number)
    }

    fn signing_key(&self) -> String {
        format!("~the-signing-key-of-generation-{}", self.number)
    }

    pub(crate) fn encryption_key(&self) -> String {
        STANDARD.encode(self.sealing_key())
    }

    pub(crate) fn callback_secret(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.signing_key()))
    }

    /// Names and contents of the files. The key set has the stable key too.
    pub(crate) fn files(&self, stable_key: &IssuerKey) -> Vec<(&'static str, String)> {
        vec![
            ("vendor-token", self.vendor_token()),
            ("callback-secret", self.callback_secret()),
            ("encryption-key", self.encryption_key()),
            ("hmac", self.hmac()),
            ("public-key", self.pem.pem()),
            ("key-set", json!({"keys": [stable_key.jwk(), self.set.jwk()]}).to_string()),
        ]
    }

    pub(crate) fn hmac_token(&self) -> String {
        let tenant = TenantId::parse("acme").unwrap();
        let token = DevelopmentToken {
            algorithm: Algorithm::HS256,
            issuer: ISSUER,
            audience: AUDIENCE,
            tenant_claim: "tenant",
            tenant: &tenant,
            scope_claim: "scope",
            scopes: SCOPES,
            subject: None,
            lifetime: Duration::from_hours(1),
        };
        token.mint(self.hmac().as_bytes(), SystemClock.now()).unwrap()
    }

    /// One token for each kind of key.
    pub(crate) fn tokens(&self) -> [String; 3] {
        [self.hmac_token(), self.pem.token(PEM_ISSUER), self.set.token(SET_ISSUER)]
    }

    /// The raw keys that the process keeps in memory while they are in use.
    pub(crate) fn held(&self) -> [String; 2] {
        [self.sealing_key(), self.signing_key()]
    }

    /// Every form of the secrets that memory could contain, except the vendor token, which is part of URLs.
    pub(crate) fn forms(&self) -> Vec<String> {
        let encoded = [self.encryption_key(), STANDARD.encode(self.signing_key())];
        self.held().into_iter().chain(encoded).chain([self.hmac()]).collect()
    }
}
