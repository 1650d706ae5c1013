//! Paths of claims in a token. Identity providers put the tenant and the scopes into different claims, often inside
//! objects.

use serde_json::{Map, Value};

/// Path of a claim: a name, a JSON Pointer (RFC 6901) such as `/realm_access/roles`, or names joined by dots such as
/// `realm_access.roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(String);

/// The path starts with a slash, but is not a JSON Pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON Pointer: \"~\" must be followed by 0 (for \"~\") or 1 (for \"/\")")]
pub struct InvalidClaimPath;

impl ClaimPath {
    /// Parses a path.
    ///
    /// # Errors
    /// [`InvalidClaimPath`] if the path starts with a slash and has an invalid escape.
    pub fn parse(text: &str) -> Result<Self, InvalidClaimPath> {
        let mut escapes = text.split('~').skip(1);
        if text.starts_with('/') && !escapes.all(|rest| rest.starts_with(['0', '1'])) {
            return Err(InvalidClaimPath);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the path as in the settings.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the value of the claim; `None` if the claim is absent or `null`.
    ///
    /// A claim whose name is the whole path has precedence, because a name can be a URL, contain dots, or start with a
    /// slash.
    pub fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let exact = claims.get(&self.0).filter(|value| !value.is_null());
        let nested = || match self.0.strip_prefix('/') {
            Some(path) => at_pointer(claims, path),
            None => at_names(claims, &self.0),
        };
        exact.or_else(nested).filter(|value| !value.is_null())
    }
}

/// Returns the value at a JSON Pointer. `path` is the JSON Pointer without its first slash.
fn at_pointer<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
}

/// Returns the value at names joined by dots. A name can itself contain dots, such as a client id in Keycloak's
/// `resource_access`, so the longest existing name has precedence.
fn at_names<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (inner, rest) = (claims.get(&path[..dot])?.as_object()?, &path[dot + 1..]);
        inner.get(rest).or_else(|| at_names(inner, rest))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn find(path: &str, claims: &Value) -> Option<Value> {
        ClaimPath::parse(path).unwrap().find(claims.as_object().unwrap()).cloned()
    }

    #[test]
    fn a_claim_is_found_by_name_by_pointer_and_by_dotted_names() {
        let claims = json!({
            "tenant": "acme",
            "realm_access": {"roles": ["a"]},
            "resource_access": {"crm.example.uz": {"roles": ["b"]}, "crm": {"example": 1}},
            "https://crm.example.uz/tenant": "by-url",
            "https://crm.example.uz/data": {"tenant": "inside", "a/b": {"~": "odd"}},
            "groups": [{"name": "first"}],
        });
        for (path, wanted) in [
            ("tenant", json!("acme")),
            ("/tenant", json!("acme")),
            ("realm_access.roles", json!(["a"])),
            ("/realm_access/roles", json!(["a"])),
            ("resource_access.crm.example.uz.roles", json!(["b"])),
            ("/resource_access/crm.example.uz/roles", json!(["b"])),
            ("resource_access.crm.example", json!(1)),
            ("https://crm.example.uz/tenant", json!("by-url")),
            ("https://crm.example.uz/data.tenant", json!("inside")),
            ("/https:~1~1crm.example.uz~1data/tenant", json!("inside")),
            ("/https:~1~1crm.example.uz~1data/a~1b/~0", json!("odd")),
            ("/groups/0/name", json!("first")),
        ] {
            assert_eq!(find(path, &claims), Some(wanted), "{path}");
        }
        for path in [
            "",
            ".",
            "/",
            "Tenant",
            "tenant.",
            ".tenant",
            "tenant.x",
            "/tenant/x",
            "realm_access.roles.0",
            "/groups/1",
        ] {
            assert_eq!(find(path, &claims), None, "{path}");
        }
    }

    #[test]
    fn the_exact_name_comes_before_nested_names() {
        let claims = json!({"a.b": "exact", "a": {"b": "nested", "c": null}, "/a/b": "slashes", "c.d": null, "c": {"d": 1}});
        assert_eq!(find("a.b", &claims), Some(json!("exact")));
        assert_eq!(find("/a/b", &claims), Some(json!("slashes")));
        assert_eq!(find("c.d", &claims), Some(json!(1)), "null counts as absent");
        assert_eq!(find("a.c", &claims), None);
    }

    #[test]
    fn a_pointer_with_an_invalid_escape_is_refused() {
        for bad in ["/a~", "/a~2b", "/~x/y"] {
            assert_eq!(ClaimPath::parse(bad), Err(InvalidClaimPath), "{bad}");
        }
        // Without the slash, the tilde is a part of the name.
        assert_eq!(find("a~b", &json!({"a~b": 1})), Some(json!(1)));
    }
}
