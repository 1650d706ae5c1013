//! One key. When a key is loaded, it is pinned to the algorithms for which it may be used.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, OctetKeyParameters, PublicKeyUse,
    RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use secrecy::zeroize::Zeroizing;

use crate::domain::secrets::check_visible;
use crate::secrets::trimmed;

/// Reason why a key cannot be used. Its text never repeats a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The content cannot be parsed.
    #[error("cannot be parsed as a key")]
    Unreadable,
    /// The PEM file holds something other than a public key.
    #[error("must be PEM with one PUBLIC KEY, not a private key or a certificate")]
    NotAPublicKey,
    /// `use` or `key_ops` of the JWK do not allow signatures (RFC 7517, 4.2 and 4.3).
    #[error("is not meant for verifying signatures")]
    NotForSignatures,
    /// The type, curve or algorithm is unknown, or these three do not match each other.
    #[error("has an unsupported type, curve or algorithm")]
    Unsupported,
    /// The key works with none of the issuer's algorithms.
    #[error("fits none of the issuer's algorithms")]
    NotAllowed,
    /// The RSA key is shorter than 2,048 bits (RFC 7518, 3.3) or longer than 8,192 bits.
    #[error("has {bits} bits; RSA keys must have 2048 to 8192")]
    RsaSize {
        /// The length of the modulus in bits.
        bits: usize,
    },
    /// The HMAC secret is shorter than the hash of the algorithm (RFC 7518, 3.2).
    #[error("has {actual} bytes; secrets for {algorithm:?} must have at least {least}")]
    SecretTooShort {
        /// The algorithm that needs a longer secret.
        algorithm: Algorithm,
        /// The length of the hash in bytes.
        least: usize,
        /// The length of the secret in bytes.
        actual: usize,
    },
    /// The HMAC secret is a text with a character that editors do not show, such as a zero-width space.
    #[error("has an invisible character, such as a zero-width space")]
    InvisibleCharacter,
    /// A JWKS URL publishes a shared secret.
    #[error("is a shared secret, which must not be published at a JWKS URL")]
    PublishedSecret,
    /// Another key of the set has the same `kid` and algorithm.
    #[error("has the same kid as another key of its set")]
    AmbiguousId,
    /// The form is right, but the values are invalid, such as a point off the curve or an even exponent.
    #[error("is not a valid key of its type")]
    Invalid,
}

/// A key that verifies signatures.
pub(super) struct Key {
    id: Option<String>,
    /// The key, parsed for each algorithm for which it may be used. A token's `alg` can only select one of these.
    uses: Vec<(Algorithm, Material)>,
}

enum Material {
    Public(signature::ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl Material {
    /// Whether both keys are the same public key. Secrets never count as the same.
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Public(one), Self::Public(other)) => one.as_ref() == other.as_ref(),
            _ => false,
        }
    }
}

impl Key {
    /// Reads a key of a JWK Set (RFC 7517), for use with the `allowed` algorithms that fit its type.
    pub(super) fn from_jwk(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let common = &jwk.common;
        let for_signatures = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|it| it.contains(&KeyOperations::Verify));
        if !for_signatures {
            return Err(KeyFault::NotForSignatures);
        }
        let mut fitting = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::OctetKey(_) => AlgorithmFamily::Hmac.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return Err(KeyFault::Unsupported),
        };
        if let Some(pinned) = common.key_algorithm {
            let pinned = Algorithm::try_from(pinned).map_err(|_| KeyFault::Unsupported)?;
            fitting.retain(|algorithm| *algorithm == pinned);
            if fitting.is_empty() {
                return Err(KeyFault::Unsupported);
            }
        }
        fitting.retain(|algorithm| allowed.contains(algorithm));
        if fitting.is_empty() {
            return Err(KeyFault::NotAllowed);
        }
        let uses = fitting.into_iter().map(|algorithm| Ok((algorithm, material(&jwk.algorithm, algorithm)?)));
        Ok(Self { id: common.key_id.clone(), uses: uses.collect::<Result<_, KeyFault>>()? })
    }

    /// Reads a public key in PEM. The key has no id, so it is used for tokens with any `kid`.
    pub(super) fn from_pem(pem: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let has = |label: &[u8]| pem.windows(label.len()).any(|window| window == label);
        if !has(b"-----BEGIN PUBLIC KEY-----") && !has(b"-----BEGIN RSA PUBLIC KEY-----") {
            return Err(KeyFault::NotAPublicKey);
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|_| KeyFault::Unreadable)?;
        // The key is converted to a JWK, so that all keys pass the same checks.
        let jwk = Jwk::from_decoding_key(&key, None).map_err(|_| KeyFault::Unsupported)?;
        Self::from_jwk(&jwk, allowed)
    }

    /// Reads a shared secret; a trailing line break is not part of the secret. The key has no id.
    pub(super) fn from_secret(content: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyFault> {
        let secret = trimmed(content);
        if std::str::from_utf8(secret).is_ok_and(|text| check_visible(text).is_err()) {
            return Err(KeyFault::InvisibleCharacter);
        }
        let uses = AlgorithmFamily::Hmac.algorithms().iter().filter(|algorithm| allowed.contains(algorithm));
        let uses = uses.map(|&it| Ok((it, Material::Secret(Box::new(secret_key(secret, it)?)))));
        let uses = uses.collect::<Result<Vec<_>, KeyFault>>()?;
        if uses.is_empty() { Err(KeyFault::NotAllowed) } else { Ok(Self { id: None, uses }) }
    }

    /// Returns the `kid` of the key.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a token's `kid` and `alg` match both keys although the keys differ.
    pub(super) fn is_confused_with(&self, other: &Self) -> bool {
        let mut pairs = self.uses.iter().flat_map(|one| other.uses.iter().map(move |other| (one, other)));
        self.id.is_some()
            && self.id == other.id
            && pairs.any(|(one, other)| one.0 == other.0 && !one.1.is_same(&other.1))
    }

    /// Whether the key is a shared secret.
    pub(super) fn is_secret(&self) -> bool {
        self.uses.iter().any(|(_, material)| matches!(material, Material::Secret(_)))
    }

    /// Whether the key may be used with this algorithm.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.uses.iter().any(|(it, _)| *it == algorithm)
    }

    /// Whether the signature was made with this key and this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.uses.iter().filter(|(it, _)| *it == algorithm).any(|(_, material)| match material {
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        })
    }
}

/// Creates an HMAC key. The secret must be at least as long as the algorithm's hash (RFC 7518, 3.2).
///
/// # Errors
/// [`KeyFault::Unsupported`] for an algorithm other than HMAC, and [`KeyFault::SecretTooShort`].
pub(super) fn secret_key(secret: &[u8], algorithm: Algorithm) -> Result<hmac::Key, KeyFault> {
    let hash = match algorithm {
        Algorithm::HS256 => hmac::HMAC_SHA256,
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => return Err(KeyFault::Unsupported),
    };
    let least = hash.digest_algorithm().output_len();
    if secret.len() < least {
        return Err(KeyFault::SecretTooShort { algorithm, least, actual: secret.len() });
    }
    Ok(hmac::Key::new(hash, secret))
}

fn material(parameters: &AlgorithmParameters, algorithm: Algorithm) -> Result<Material, KeyFault> {
    let public = |scheme, bytes: &[u8]| {
        let key = signature::ParsedPublicKey::new(scheme, bytes).map_err(|_| KeyFault::Invalid)?;
        Ok(Material::Public(key))
    };
    match (algorithm, parameters) {
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(it)) => {
            public(&signature::ECDSA_P256_SHA256_FIXED, &point(&it.x, &it.y, 32)?)
        }
        (Algorithm::ES384, AlgorithmParameters::EllipticCurve(it)) => {
            public(&signature::ECDSA_P384_SHA384_FIXED, &point(&it.x, &it.y, 48)?)
        }
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(it)) => {
            public(&signature::ED25519, &coordinate(&it.x, 32)?)
        }
        (_, AlgorithmParameters::OctetKey(OctetKeyParameters { value, .. })) => {
            let secret = Zeroizing::new(decode(value)?);
            Ok(Material::Secret(Box::new(secret_key(&secret, algorithm)?)))
        }
        (_, AlgorithmParameters::RSA(it)) => rsa(it, rsa_scheme(algorithm)?),
        _ => Err(KeyFault::Unsupported),
    }
}

fn rsa_scheme(algorithm: Algorithm) -> Result<&'static signature::RsaParameters, KeyFault> {
    match algorithm {
        Algorithm::RS256 => Ok(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Ok(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Ok(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Ok(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Ok(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Ok(&signature::RSA_PSS_2048_8192_SHA512),
        _ => Err(KeyFault::Unsupported),
    }
}

fn rsa(key: &RSAKeyParameters, scheme: &'static signature::RsaParameters) -> Result<Material, KeyFault> {
    // Some issuers keep the leading zero of DER, although RFC 7518, 6.3.1.1, forbids it.
    let unsigned =
        |text: &str| Ok(decode(text)?.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>());
    let (n, e) = (unsigned(&key.n)?, unsigned(&key.e)?);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyFault::RsaSize { bits });
    }
    // With an exponent of 1, every message is its own signature. RFC 8017, 3.1, requires an odd exponent of at least 3.
    if e == [1] || e.last().is_none_or(|byte| byte % 2 == 0) {
        return Err(KeyFault::Invalid);
    }
    let key = PublicKeyComponents { n, e }.to_parsed_public_key(scheme).map_err(|_| KeyFault::Invalid)?;
    Ok(Material::Public(key))
}

/// Encodes a point of an elliptic curve in uncompressed form (SEC 1, 2.3.3).
fn point(x: &str, y: &str, size: usize) -> Result<Vec<u8>, KeyFault> {
    Ok([vec![4], coordinate(x, size)?, coordinate(y, size)?].concat())
}

fn coordinate(text: &str, size: usize) -> Result<Vec<u8>, KeyFault> {
    decode(text).and_then(|bytes| if bytes.len() == size { Ok(bytes) } else { Err(KeyFault::Invalid) })
}

fn decode(text: &str) -> Result<Vec<u8>, KeyFault> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::Unreadable)
}
