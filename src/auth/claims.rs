//! Parses and checks the claims of a token (RFC 7519).

use serde_json::{Map, Value};

use super::caller::{Caller, LEEWAY, Scopes};
use super::jws::object;
use super::rejection::Rejection;
use crate::config::IssuerSettings;
use crate::domain::claim_path::ClaimPath;
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

    /// Checks the audience, and returns the caller that the claims describe.
    pub(super) fn caller(&self, issuer: &IssuerSettings, expires_at: Timestamp) -> Result<Caller, Rejection> {
        self.check_audience(&issuer.audiences)?;
        Ok(Caller {
            subject: self.0.get("sub").and_then(single_text),
            tenant: self.tenant(&issuer.tenant_claim)?,
            scopes: self.scopes(&issuer.scope_claim)?,
            expires_at,
            issuer: issuer.issuer.clone(),
        })
    }

    /// Checks that the token names a configured audience. `aud` is a string or a list of strings (RFC 7519, 4.1.3).
    pub(super) fn check_audience(&self, audiences: &[String]) -> Result<(), Rejection> {
        let is_configured = |value: &Value| audiences.iter().any(|audience| value.as_str() == Some(audience));
        let found = match self.0.get("aud") {
            Some(Value::Array(values)) => values.iter().any(is_configured),
            Some(value) => is_configured(value),
            None => false,
        };
        if found { Ok(()) } else { Err(Rejection::Audience) }
    }

    /// Returns the tenant from the first claim in `paths` that the token has.
    pub(super) fn tenant(&self, paths: &[ClaimPath]) -> Result<TenantId, Rejection> {
        let name = self.present(paths).next().and_then(|(_, value)| tenant_name(value));
        name.and_then(|name| TenantId::parse(&name).ok()).ok_or(Rejection::TenantClaim)
    }

    /// Returns the scopes from the first claim in `paths` that has a scope of the API. If there is no such claim, returns the
    /// scopes from the first claim in `paths` that the token has. If the token has none of the claims, returns no scopes. A claim
    /// without scopes of the API is normal: Keycloak issues `scope` even if the permissions are roles.
    pub(super) fn scopes(&self, paths: &[ClaimPath]) -> Result<Scopes, Rejection> {
        let mut first = None;
        for (_, value) in self.present(paths) {
            let scopes = parse_scopes(value)?;
            if scopes.has_any_known() {
                return Ok(scopes);
            }
            first.get_or_insert(scopes);
        }
        Ok(first.unwrap_or_default())
    }

    /// Returns the claims that the settings name and the token has, in the order of the settings.
    pub(super) fn present<'a>(
        &'a self,
        paths: &'a [ClaimPath],
    ) -> impl Iterator<Item = (&'a ClaimPath, &'a Value)> {
        paths.iter().filter_map(|path| Some((path, path.find(&self.0)?)))
    }

    /// Returns the claim of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
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

/// Returns the name of a tenant. The claim is a value that [`single_text`] accepts, or an object with one member. The name of
/// this member is the tenant, and its value is an object. Keycloak issues an organization with its details as
/// `{"acme": {"id": "…"}}`.
fn tenant_name(value: &Value) -> Option<String> {
    match value {
        Value::Object(organizations) if organizations.len() == 1 => {
            organizations.iter().find(|(_, details)| details.is_object()).map(|(name, _)| name.clone())
        }
        value => single_text(value),
    }
}

/// Returns a string, a whole number as text, or the only element of a list. Some providers issue numeric ids. Others issue every
/// claim as a list.
fn single_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::Array(values) => match values.as_slice() {
            [Value::Array(_)] => None,
            [only] => single_text(only),
            _ => None,
        },
        _ => None,
    }
}

/// Parses scopes: a string with spaces (RFC 6749, 3.3) or a list of strings.
fn parse_scopes(value: &Value) -> Result<Scopes, Rejection> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let text = match value {
        Value::Array(values) => values.iter().map(text).collect::<Option<Vec<_>>>().map(|all| all.join(" ")),
        value => text(value),
    };
    let text = text.ok_or(Rejection::Malformed("its scopes are neither a string nor a list of strings"))?;
    Ok(Scopes::parse(&text))
}

/// The period in which a token is valid. It is checked each time the token is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    /// The value of `exp`. The token is expired from this time on.
    pub(super) expires_at: Timestamp,
    /// The value of `nbf`.
    pub(super) not_before: Option<Timestamp>,
    /// The value of `iat`.
    pub(super) issued_at: Option<Timestamp>,
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
