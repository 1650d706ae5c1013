//! Parses a signed token (RFC 7515, compact form) and checks its header. Nothing in the token is trusted yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::rejection::Rejection;

/// A parsed token. Its header is acceptable; its signature is not verified yet.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    /// The algorithm in the header.
    pub(super) algorithm: Algorithm,
    /// The `kid` in the header. It is only compared with the ids of keys.
    pub(super) key_id: Option<String>,
    /// The signed bytes: header and payload with the dot between them.
    pub(super) signed: &'a [u8],
    /// The decoded payload.
    pub(super) payload: Vec<u8>,
    /// The decoded signature.
    pub(super) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Parses a token.
    ///
    /// # Errors
    /// Returns an error if the token does not have three base64url segments (an encrypted token has five), or if its header is
    /// not acceptable.
    pub(super) fn parse(token: &'a str) -> Result<Self, Rejection> {
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(Rejection::Malformed("it does not have three segments"));
        };
        let header = object(&decode(header)?, "its header is not a JSON object")?;
        let signed = token.len() - signature.len() - 1;
        Ok(Self {
            algorithm: check_header(&header)?,
            key_id: match header.get("kid") {
                None => None,
                Some(Value::String(id)) => Some(id.clone()),
                Some(_) => return Err(Rejection::Malformed("its kid is not a string")),
            },
            signed: &token.as_bytes()[..signed],
            payload: decode(payload)?,
            signature: decode(signature)?,
        })
    }
}

/// Checks the header's extensions and type, and returns its algorithm.
fn check_header(header: &Map<String, Value>) -> Result<Algorithm, Rejection> {
    // `b64` changes the signed bytes (RFC 7797). The RFC requires `crit` in such a token; a token without `crit` is refused
    // too.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Rejection::Crit);
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_access_token(typ) => {}
        Some(_) => return Err(Rejection::Typ),
    }
    // The library has no algorithm with the name `none`.
    header.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok()).ok_or(Rejection::Algorithm)
}

/// Accepts `JWT` (RFC 7519, 5.1) and `at+jwt` (RFC 9068, 4), with or without `application/` (RFC 7515, 4.1.9). Other types
/// have another purpose, such as a logout token (RFC 8725, 3.11).
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn decode(segment: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| Rejection::Malformed("a segment is not base64url"))
}

/// Parses a JSON object. If a name occurs twice, the last member counts (RFC 7515, 4).
pub(super) fn object(json: &[u8], otherwise: &'static str) -> Result<Map<String, Value>, Rejection> {
    serde_json::from_slice(json).map_err(|_| Rejection::Malformed(otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Result<(Algorithm, Option<String>), &'static str> {
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header));
        Jws::parse(&token).map(|jws| (jws.algorithm, jws.key_id)).map_err(|rejection| rejection.reason())
    }

    #[test]
    fn a_token_has_three_segments() {
        let jws = Jws::parse("eyJhbGciOiJIUzI1NiJ9.e30.AQI").unwrap();
        assert_eq!(jws.signed, b"eyJhbGciOiJIUzI1NiJ9.e30");
        assert_eq!((&*jws.payload, &*jws.signature), (&b"{}"[..], &[1, 2][..]));
        let head = "eyJhbGciOiJIUzI1NiJ9";
        for bad in ["", "a", ".", "..", "....", &format!("{head}.e30"), &format!("{head}.e30.AA.")] {
            assert_eq!(Jws::parse(bad).unwrap_err().reason(), "malformed", "{bad:?}");
        }
        // Padding, another alphabet and stray bits are refused, so each token has only one valid text.
        for bad in ["e30=", "e3+/", "e31", " e30", "e30\n", "é"] {
            assert_eq!(Jws::parse(&format!("{head}.{bad}.AA")).unwrap_err().reason(), "malformed", "{bad:?}");
        }
    }

    #[test]
    fn the_header_must_be_an_object() {
        for bad in
            ["", "[]", "[\"HS256\"]", "\"HS256\"", "null", "{\"alg\":\"HS256\"", "{\"alg\":\"HS256\"}x"]
        {
            assert_eq!(parse(bad), Err("malformed"), "{bad:?}");
        }
        assert_eq!(parse(&format!("{}{}", "[".repeat(4000), "]".repeat(4000))), Err("malformed"));
        let nested = format!("{{\"x\":{}{}}}", "[".repeat(2500), "]".repeat(2500));
        assert_eq!(parse(&nested), Err("malformed"));
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(b"{\"alg\":\"HS256\",\"x\":\"\xff\"}"));
        assert_eq!(Jws::parse(&token).unwrap_err().reason(), "malformed");
        assert_eq!(parse(r#"{"alg":"HS384","alg":"HS256"}"#), Ok((Algorithm::HS256, None)));
    }

    #[test]
    fn the_algorithm_must_be_known() {
        assert_eq!(parse(r#"{"alg":"ES384","kid":"k1"}"#), Ok((Algorithm::ES384, Some("k1".to_owned()))));
        for bad in ["{}", r#"{"alg":null}"#, r#"{"alg":1}"#, r#"{"alg":["HS256"]}"#] {
            assert_eq!(parse(bad), Err("algorithm"), "{bad}");
        }
        for name in ["none", "None", "NONE", "nOnE", "", "hs256", "HS1", "ES512", "RSA-OAEP", "dir"] {
            assert_eq!(parse(&format!(r#"{{"alg":"{name}"}}"#)), Err("algorithm"), "{name}");
        }
        assert_eq!(parse(r#"{"alg":"HS256","kid":7}"#), Err("malformed"));
    }

    #[test]
    fn extensions_are_refused() {
        for crit in ["[]", "null", "[\"exp\"]", "[\"b64\"]", "\"x\""] {
            assert_eq!(parse(&format!(r#"{{"alg":"HS256","crit":{crit}}}"#)), Err("crit"), "{crit}");
        }
        assert_eq!(parse(r#"{"alg":"HS256","b64":false}"#), Err("crit"));
        assert_eq!(parse(r#"{"alg":"HS256","b64":true,"crit":["b64"]}"#), Err("crit"));
    }

    #[test]
    fn only_access_tokens_are_accepted() {
        for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/jwt", "Application/at+JWT"] {
            assert!(parse(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)).is_ok(), "{typ}");
        }
        for typ in
            ["\"\"", "\"JWS\"", "\"logout+jwt\"", "\"dpop+jwt\"", "\"text/jwt\"", "null", "1", "[\"JWT\"]"]
        {
            assert_eq!(parse(&format!(r#"{{"alg":"HS256","typ":{typ}}}"#)), Err("typ"), "{typ}");
        }
    }
}
