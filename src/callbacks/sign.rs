//! Signatures of Standard Webhooks 1.0.0 (<https://www.standardwebhooks.com>, "Signature scheme").
//!
//! The signed content is `{id}.{timestamp}.{body}`. Each current secret signs this content with HMAC-SHA256. The header lists the
//! signatures as `v1,{base64}`, separated by spaces. During a rotation there are two signatures. One valid signature suffices.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::clock::Timestamp;
use crate::domain::secrets::CallbackSecret;

/// Maximum difference between the timestamp of a callback and the clock of its receiver, as in the reference
/// libraries.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Returns the `webhook-signature` of a body: one signature for each secret, in the order of the secrets.
pub fn sign(secrets: &[CallbackSecret], id: &str, timestamp: Timestamp, body: &[u8]) -> String {
    let content = SignedContent { id, timestamp: timestamp.as_seconds(), body };
    let signatures: Vec<_> = secrets
        .iter()
        .map(|secret| {
            let mut context = hmac::Context::with_key(&key(secret));
            content.parts(|part| context.update(part));
            format!("v1,{}", STANDARD.encode(context.sign()))
        })
        .collect();
    signatures.join(" ")
}

/// The three signature headers of a callback as received.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeaders<'a> {
    /// Value of `webhook-id`.
    pub id: &'a str,
    /// Value of `webhook-timestamp`.
    pub timestamp: &'a str,
    /// Value of `webhook-signature`.
    pub signature: &'a str,
}

/// Reason why a callback is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `webhook-timestamp` is not an integer.
    #[error("the timestamp is not a number of seconds")]
    Timestamp,
    /// The timestamp differs from the current time by more than [`TOLERANCE`]. The callback may be a replayed copy.
    #[error("the timestamp is too far from now")]
    Stale,
    /// No signature is valid for any of the secrets.
    #[error("no signature matches")]
    Mismatch,
}

/// Checks that one of the secrets signed the callback, and that the timestamp of the callback is close to `now`.
///
/// The comparison runs in constant time. Signatures of other versions are ignored.
///
/// # Errors
/// [`SignatureError`] has the reason.
pub fn verify(
    secrets: &[CallbackSecret],
    headers: SignedHeaders<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), SignatureError> {
    let timestamp: i64 = headers.timestamp.parse().map_err(|_| SignatureError::Timestamp)?;
    if now.as_seconds().abs_diff(timestamp) > TOLERANCE.as_secs() {
        return Err(SignatureError::Stale);
    }
    let mut content = Vec::with_capacity(headers.id.len() + headers.timestamp.len() + body.len() + 2);
    SignedContent { id: headers.id, timestamp, body }.parts(|part| content.extend_from_slice(part));
    let signatures = || headers.signature.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    let matches = secrets.iter().map(key).any(|key| {
        signatures()
            .filter_map(|encoded| STANDARD.decode(encoded).ok())
            .any(|signature| hmac::verify(&key, &content, &signature).is_ok())
    });
    if matches { Ok(()) } else { Err(SignatureError::Mismatch) }
}

/// The content that a signature covers: id, timestamp and body.
struct SignedContent<'a> {
    id: &'a str,
    timestamp: i64,
    body: &'a [u8],
}

impl SignedContent<'_> {
    /// Passes the content to `take` in parts, so that the body is not copied for each secret.
    fn parts(&self, mut take: impl FnMut(&[u8])) {
        take(self.id.as_bytes());
        take(format!(".{}.", self.timestamp).as_bytes());
        take(self.body);
    }
}

fn key(secret: &CallbackSecret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

#[cfg(test)]
mod tests {
    use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

    use super::*;
    use crate::domain::clock::{Clock, SystemClock};

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const TWO: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn secrets(texts: &[&str]) -> Vec<CallbackSecret> {
        texts.iter().map(|text| CallbackSecret::parse(text).unwrap()).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000 + 999)
    }

    /// The examples come from the tests of the reference libraries.
    #[test]
    fn signs_the_published_examples() {
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            sign(&secrets(&[ONE]), "msg_p5jXN8AQM9LWM0D4loKWxJek", at(1_614_265_330), body),
            signature
        );
        let signature = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            sign(&secrets(&[TWO]), "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", at(1_649_367_553), body),
            signature
        );
    }

    #[test]
    fn the_reference_library_verifies_the_signature_of_each_secret() {
        let (now, body) = (SystemClock.now(), "{\"text\":\"oʻzbek\"}".as_bytes());
        let signature = sign(&secrets(&[ONE, TWO]), "evt_1", now, body);
        for secret in [ONE, TWO] {
            let mut headers = reqwest::header::HeaderMap::new();
            headers.insert(HEADER_WEBHOOK_ID, "evt_1".parse().unwrap());
            headers.insert(HEADER_WEBHOOK_TIMESTAMP, now.as_seconds().into());
            headers.insert(HEADER_WEBHOOK_SIGNATURE, signature.parse().unwrap());
            Webhook::new(secret).unwrap().verify(body, &headers).unwrap();
        }
    }

    #[test]
    fn a_signature_of_the_reference_library_is_valid() {
        let signature = Webhook::new(TWO).unwrap().sign("evt_1", 1_700_000_000, b"{}").unwrap();
        let signature = format!("v1a,AAAA v1,!! v1,AAAA {signature}");
        let headers = SignedHeaders { id: "evt_1", timestamp: "1700000000", signature: &signature };
        assert_eq!(verify(&secrets(&[ONE, TWO]), headers, b"{}", at(1_700_000_300)), Ok(()));
        assert_eq!(verify(&secrets(&[ONE, TWO]), headers, b"{}", at(1_699_999_700)), Ok(()));
    }

    #[test]
    fn every_other_callback_is_refused() {
        let secrets = secrets(&[ONE]);
        let signature = sign(&secrets, "evt_1", at(1_700_000_000), b"{}");
        let headers = SignedHeaders { id: "evt_1", timestamp: "1700000000", signature: &signature };
        let verify = |headers, body: &[u8], seconds| verify(&secrets, headers, body, at(seconds));
        assert_eq!(verify(headers, b"{}", 1_700_000_000), Ok(()));
        assert_eq!(verify(headers, b"{ }", 1_700_000_000), Err(SignatureError::Mismatch));
        assert_eq!(verify(headers, b"{}", 1_700_000_301), Err(SignatureError::Stale));
        assert_eq!(verify(headers, b"{}", 1_699_999_699), Err(SignatureError::Stale));
        for (id, timestamp, signature, error) in [
            ("evt_2", "1700000000", signature.as_str(), SignatureError::Mismatch),
            ("evt_1", "1700000001", &signature, SignatureError::Mismatch),
            ("evt_1", "soon", &signature, SignatureError::Timestamp),
            ("evt_1", "-9223372036854775808", &signature, SignatureError::Stale),
            ("evt_1", "1700000000", "", SignatureError::Mismatch),
            ("evt_1", "1700000000", "v1,", SignatureError::Mismatch),
            ("evt_1", "1700000000", &signature[..20], SignatureError::Mismatch),
            ("evt_1", "1700000000", &signature.replace("v1,", "v2,"), SignatureError::Mismatch),
        ] {
            assert_eq!(verify(SignedHeaders { id, timestamp, signature }, b"{}", 1_700_000_000), Err(error));
        }
    }
}
