//! Tests the signature check with the vectors of Project Wycheproof: forged padding, extended signatures, confused keys.

use std::collections::BTreeMap;

use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::jws::Jws;
use super::key_set::{KeyFormat, KeySet};

const EVERY_ALGORITHM: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    public: Option<Box<RawValue>>,
    private: Option<Box<RawValue>>,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    tc_id: u32,
    result: String,
    jws: RawJws,
}

/// The signed token of a test vector, in the compact or in the JSON serialization.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawJws {
    Compact(String),
    Json(IgnoredAny),
}

/// The verdicts of the signature check on all test vectors.
struct Verdicts {
    valid: usize,
    invalid: usize,
    /// The verdicts that differ from the expected results, by the number of the test vector.
    dissent: BTreeMap<u32, &'static str>,
}

impl Verdicts {
    fn on(vectors: &str, as_key_set: impl Fn(&str) -> String) -> Self {
        let vectors: Vectors = serde_json::from_str(vectors).unwrap();
        let mut verdicts = Self { valid: 0, invalid: 0, dissent: BTreeMap::new() };
        for group in &vectors.test_groups {
            let key = group.public.as_ref().or(group.private.as_ref()).unwrap();
            let keys = KeySet::parse(KeyFormat::Jwks, as_key_set(key.get()).as_bytes(), &EVERY_ALGORITHM);
            for vector in &group.tests {
                let verdict = match (&keys, &vector.jws) {
                    (Err(_), _) => "no usable key",
                    (Ok(_), RawJws::Json(_)) => "not compact",
                    (Ok(keys), RawJws::Compact(token)) => {
                        match Jws::parse(token).and_then(|jws| keys.verify(&jws)) {
                            Ok(()) => "valid",
                            Err(rejection) => rejection.reason(),
                        }
                    }
                };
                *(if verdict == "valid" { &mut verdicts.valid } else { &mut verdicts.invalid }) += 1;
                if verdict != vector.result && (verdict == "valid" || vector.result != "invalid") {
                    verdicts.dissent.insert(vector.tc_id, verdict);
                }
            }
        }
        assert_eq!(verdicts.valid + verdicts.invalid, vectors.number_of_tests, "no vector is skipped");
        verdicts
    }
}

#[test]
fn signature_vectors() {
    let vectors = include_str!("../../tests/fixtures/jose/json_web_signature_test.json");
    let expected = BTreeMap::from([
        // A PS384 token with a key for PS256. A key is pinned to its algorithm.
        (346, "algorithm"),
        (350, "algorithm"),
        // A P-521 key with a misspelt algorithm.
        (347, "no usable key"),
        (351, "no usable key"),
        // The vector expects wrong padding, but its text equals the valid vector 357.
        (367, "valid"),
        (370, "valid"),
        // The base64url has a question mark, which RFC 7515, 2, does not allow.
        (372, "malformed"),
        (373, "malformed"),
    ]);
    let verdicts = Verdicts::on(vectors, |key| format!("{{\"keys\":[{key}]}}"));
    assert_eq!(verdicts.dissent, expected);
    assert_eq!((verdicts.valid, verdicts.invalid), (42, 359));
}

#[test]
fn key_set_vectors() {
    let vectors = include_str!("../../tests/fixtures/jose/json_web_key_test.json");
    let verdicts = Verdicts::on(vectors, str::to_owned);
    let expected = BTreeMap::from([
        // An RSA key with the ROCA weakness (CVE-2017-15361). No library checks for it by default. A check in one verifier does
        // not protect an issuer whose keys can be factored.
        (7, "valid"),
    ]);
    assert_eq!(verdicts.dissent, expected);
    assert_eq!((verdicts.valid, verdicts.invalid), (6, 20));
}
