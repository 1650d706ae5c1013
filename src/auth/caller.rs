//! The caller that a verified token identifies.

use std::collections::BTreeSet;
use std::time::Duration;

use super::scope::Scope;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Tolerated difference between the clocks of the issuer and of the gateway.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// The caller that a verified token identifies.
///
/// The tenant's id is well formed, but the settings do not necessarily have this tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The `sub` of the token. A number is converted to text.
    pub subject: Option<String>,
    /// The tenant of the caller.
    pub tenant: TenantId,
    /// The scopes of the token.
    pub scopes: Scopes,
    /// The `exp` of the token.
    pub expires_at: Timestamp,
    /// The `iss` of the token.
    pub issuer: String,
}

impl Caller {
    /// Returns the time from which the token is rejected. This time is a little after `exp`, because clocks differ.
    pub fn until(&self) -> Timestamp {
        self.expires_at + LEEWAY
    }
}

/// Scopes of a token. They determine which operations the caller may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Parses scopes separated by spaces (RFC 6749, 3.3).
    pub fn parse(text: &str) -> Self {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Whether `scope` was granted. Scopes are case-sensitive (RFC 6749, 3.3).
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// Whether at least one of the granted scopes is a scope of the API.
    pub(super) fn has_any_known(&self) -> bool {
        Scope::ALL.iter().any(|scope| self.contains(scope.as_str()))
    }

    /// Returns all scopes in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromIterator<String> for Scopes {
    fn from_iter<I: IntoIterator<Item = String>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}
