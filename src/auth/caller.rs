//! Who a verified token speaks for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Tolerated difference between the clocks of the issuer and the gateway.
pub(super) const LEEWAY: Duration = Duration::from_secs(30);

/// Who a verified token speaks for.
///
/// The tenant's name is well formed, no more: whether such a tenant is configured is for the caller to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The tenant it acts for.
    pub tenant: TenantId,
    /// What it may do.
    pub scopes: Scopes,
    /// The token's `exp`.
    pub expires_at: Timestamp,
    /// The token's `iss`.
    pub issuer: String,
}

impl Caller {
    /// From when on its token counts no more: somewhat after its `exp`, since clocks differ.
    pub fn until(&self) -> Timestamp {
        self.expires_at + LEEWAY
    }
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reads the form of OAuth: words parted by spaces (RFC 6749, 3.3).
    pub fn parse(text: &str) -> Self {
        text.split_ascii_whitespace().map(str::to_owned).collect()
    }

    /// Whether `scope` was granted. Case matters (RFC 6749, 3.3).
    pub fn contains(&self, scope: &str) -> bool {
        self.0.contains(scope)
    }

    /// Every scope, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromIterator<String> for Scopes {
    fn from_iter<I: IntoIterator<Item = String>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}
