//! Parses and checks the claims of a token (RFC 7519).

use serde_json::{Map, Value};

use super::caller::{Caller, LEEWAY, Scopes};
use super::jws::object;
use super::rejection::Rejection;
use crate::config::IssuerSettings;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// The claims of a token. Before the signature is verified, only [`Claims::issuer`] may be used.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Parses the payload of a token.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Rejection> {
        object(payload, "its claims are not a JSON object").map(Self)
    }

    /// Returns the value of `iss`.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.0.get("iss")?.as_str()
    }

    /// Returns the period in which the token is valid.
    pub(super) fn validity(&self) -> Result<Validity, Rejection> {
        Ok(Validity {
            expires_at: self.time("exp")?.ok_or(Rejection::TimeClaim)?,
            not_before: self.time("nbf")?,
            issued_at: self.time("iat")?,
        })
    }

    /// Returns the caller, if the token has a configured audience.
    pub(super) fn caller(&self, issuer: &IssuerSettings, expires_at: Timestamp) -> Result<Caller, Rejection> {
        if !self.has_audience(&issuer.audiences) {
            return Err(Rejection::Audience);
        }
        let tenant = self.0.get(&issuer.tenant_claim).and_then(Value::as_str);
        let tenant = tenant.and_then(|name| TenantId::parse(name).ok()).ok_or(Rejection::TenantClaim)?;
        let subject = match self.0.get("sub") {
            None => None,
            Some(Value::String(subject)) => Some(subject.clone()),
            Some(_) => return Err(Rejection::Malformed("its sub is not a string")),
        };
        let scopes = self.scopes(&issuer.scope_claim)?;
        Ok(Caller { subject, tenant, scopes, expires_at, issuer: issuer.issuer.clone() })
    }

    /// Whether the token names a configured audience. `aud` is a string or a list of strings (RFC 7519, 4.1.3).
    fn has_audience(&self, audiences: &[String]) -> bool {
        let is_configured = |value: &Value| audiences.iter().any(|audience| value.as_str() == Some(audience));
        match self.0.get("aud") {
            Some(Value::Array(values)) => values.iter().any(is_configured),
            Some(value) => is_configured(value),
            None => false,
        }
    }

    fn scopes(&self, claim: &str) -> Result<Scopes, Rejection> {
        const INVALID: Rejection =
            Rejection::Malformed("its scopes are neither a string nor a list of strings");
        match self.0.get(claim) {
            None | Some(Value::Null) => Ok(Scopes::default()),
            Some(Value::String(words)) => Ok(Scopes::parse(words)),
            Some(Value::Array(values)) => {
                values.iter().map(|value| value.as_str().map(str::to_owned).ok_or(INVALID)).collect()
            }
            Some(_) => Err(INVALID),
        }
    }

    /// Reads a `NumericDate`: seconds since the epoch, optionally with a fraction (RFC 7519, 2).
    fn time(&self, claim: &str) -> Result<Option<Timestamp>, Rejection> {
        let Some(value) = self.0.get(claim) else { return Ok(None) };
        let millis = match (value.as_i64(), value.as_f64()) {
            (Some(seconds), _) => seconds.saturating_mul(1000),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the cast from a float saturates, which is intended"
            )]
            (None, Some(seconds)) => (seconds * 1000.0).floor() as i64,
            (None, None) => return Err(Rejection::TimeClaim),
        };
        Ok(Some(Timestamp::from_millis(millis)))
    }
}

/// The period in which a token is valid. It is checked each time the token is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    /// The value of `exp`. The token is expired from this time on.
    pub(super) expires_at: Timestamp,
    not_before: Option<Timestamp>,
    issued_at: Option<Timestamp>,
}

impl Validity {
    /// Checks that the token is valid at `now`, with [`LEEWAY`] on both sides.
    pub(super) fn check(&self, now: Timestamp) -> Result<(), Rejection> {
        let is_ahead = |time: Option<Timestamp>| time.is_some_and(|time| time > now + LEEWAY);
        if now >= self.expires_at + LEEWAY {
            return Err(Rejection::Expired);
        }
        if is_ahead(self.not_before) {
            return Err(Rejection::NotYetValid);
        }
        if is_ahead(self.issued_at) {
            return Err(Rejection::IssuedInFuture);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(claims: &str, seconds: i64) -> Result<(), &'static str> {
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        let validity = claims.validity().map_err(|rejection| rejection.reason())?;
        validity.check(Timestamp::from_millis(seconds * 1000)).map_err(|rejection| rejection.reason())
    }

    #[test]
    fn times_are_checked_with_30_seconds_of_leeway() {
        assert_eq!(at(r#"{"exp":1000}"#, 1029), Ok(()));
        assert_eq!(at(r#"{"exp":1000}"#, 1030), Err("expired"));
        assert_eq!(at(r#"{"exp":1000.5}"#, 1030), Ok(()));
        assert_eq!(at(r#"{"exp":9999,"nbf":1030}"#, 1000), Ok(()));
        assert_eq!(at(r#"{"exp":9999,"nbf":1030.25}"#, 1000), Err("not_yet_valid"));
        assert_eq!(at(r#"{"exp":9999,"iat":1030}"#, 1000), Ok(()));
        assert_eq!(at(r#"{"exp":9999,"iat":1031}"#, 1000), Err("issued_in_future"));
    }

    #[test]
    fn times_must_be_numbers_of_any_size() {
        for exp in ["9223372036854775807", "18446744073709551615", "1e300"] {
            assert_eq!(at(&format!(r#"{{"exp":{exp}}}"#), 1_700_000_000), Ok(()), "{exp}");
        }
        for exp in ["-1", "-9223372036854775808", "-1e300", "0"] {
            assert_eq!(at(&format!(r#"{{"exp":{exp}}}"#), 1_700_000_000), Err("expired"), "{exp}");
        }
        for exp in ["\"9999\"", "null", "true", "[9999]", "{}"] {
            assert_eq!(at(&format!(r#"{{"exp":{exp}}}"#), 0), Err("time_claim"), "{exp}");
        }
        assert_eq!(at("{}", 0), Err("time_claim"));
        assert_eq!(at(r#"{"exp":1,"nbf":"0"}"#, 0), Err("time_claim"));
        assert_eq!(at(r#"{"exp":1,"iat":null}"#, 0), Err("time_claim"));
        assert!(Claims::parse(br#"{"exp":1e400}"#).is_err());
    }
}
