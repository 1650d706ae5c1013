//! The forms in which identity providers issue the tenant, the scopes and the registered claims.

use alovoice_gateway::auth::Rejection;
use alovoice_gateway::config::KeySource;
use jsonwebtoken::Algorithm::HS256;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::signer::Signer;
use crate::stage::{AUDIENCE, ISSUER, NOW, SECRET, Stage, claims_with, file, issuer, paths};

/// A stage whose issuer has these claims for tenant and scopes.
fn stage_with(tenant_claims: &[&str], scope_claims: &[&str]) -> (Stage, TempDir) {
    let (directory, path) = file(SECRET);
    let mut settings = issuer(&[HS256], KeySource::HmacSecretFile(path));
    settings.tenant_claim = paths(tenant_claims);
    settings.scope_claim = paths(scope_claims);
    (Stage::new(vec![settings]), directory)
}

fn token(changes: &Value) -> String {
    Signer::Hmac(SECRET.to_vec()).token(&json!({"alg": "HS256"}), &claims_with(changes))
}

/// The tenant and the scopes of a token, or the reason of its rejection.
async fn identity(stage: &Stage, changes: &Value) -> Result<(String, String), &'static str> {
    let caller = stage.verify(&token(changes)).await?;
    Ok((caller.tenant.to_string(), caller.scopes.iter().collect::<Vec<_>>().join(" ")))
}

#[tokio::test]
async fn tokens_of_common_providers_are_accepted() {
    let uuid = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    for (name, tenant_claim, scope_claim, changes, wanted) in [
        (
            "Keycloak, client roles",
            "organization.id",
            "resource_access.alovoice.gateway.roles",
            json!({"tenant": null, "organization": {"id": ["acme"]}, "scope": "profile email", "aud": ["account", AUDIENCE],
                "resource_access": {"account": {"roles": ["view-profile"]}, "alovoice.gateway": {"roles": ["analyses:read"]}}}),
            ("acme", "analyses:read"),
        ),
        (
            "Keycloak, an organization with its details",
            "organization",
            "scope",
            json!({"tenant": null, "organization": {"acme": {"id": "42c3e46f-2477-44d7-a85b-d3b43f6b31fa"}}, "scope": "analyses:read"}),
            ("acme", "analyses:read"),
        ),
        (
            "Entra ID, application",
            "tid",
            "roles",
            json!({"tenant": null, "tid": uuid, "roles": ["analyses:read", "audio:read"], "ver": "2.0"}),
            (uuid, "analyses:read audio:read"),
        ),
        (
            "Auth0, permissions",
            "https://crm.example.uz/tenant",
            "permissions",
            json!({"tenant": null, "https://crm.example.uz/tenant": "acme", "scope": "openid", "permissions": ["analyses:read"],
                "aud": [AUDIENCE, "https://example.eu.auth0.com/userinfo"]}),
            ("acme", "analyses:read"),
        ),
        (
            "Auth0, metadata in a namespace",
            "/https:~1~1crm.example.uz~1app_metadata/tenant",
            "scope",
            json!({"tenant": null, "https://crm.example.uz/app_metadata": {"tenant": "acme"}, "scope": "analyses:read"}),
            ("acme", "analyses:read"),
        ),
        (
            "Laravel, numeric ids and lists",
            "team_id",
            "scopes",
            json!({"tenant": null, "sub": 42, "team_id": 7, "scopes": ["analyses:read analyses:write"]}),
            ("7", "analyses:read analyses:write"),
        ),
    ] {
        let (stage, _directory) = stage_with(&[tenant_claim], &[scope_claim]);
        let found = identity(&stage, &changes).await;
        assert_eq!(found, Ok((wanted.0.to_owned(), wanted.1.to_owned())), "{name}");
    }
}

#[tokio::test]
async fn the_first_tenant_claim_that_a_token_has_names_the_tenant() {
    let (stage, _directory) = stage_with(&["org.tenant", "tenant", "azp"], &["scope"]);
    for (changes, wanted) in [
        (json!({"org": {"tenant": "globex"}, "azp": "initech"}), Ok("globex")),
        (json!({"org": {"tenant": Value::Null}, "azp": "initech"}), Ok("acme")),
        (json!({"org": "globex"}), Ok("acme")),
        (json!({"tenant": null, "azp": "initech"}), Ok("initech")),
        (json!({"tenant": null}), Err("tenant_claim")),
        // A claim that is present and invalid is not skipped: the next one may name another tenant.
        (json!({"org": {"tenant": "a/b"}}), Err("tenant_claim")),
        (json!({"org": {"tenant": ""}}), Err("tenant_claim")),
        (json!({"org": {"tenant": []}}), Err("tenant_claim")),
    ] {
        let found = identity(&stage, &changes).await.map(|(tenant, _)| tenant);
        assert_eq!(found, wanted.map(str::to_owned), "{changes}");
    }
}

#[tokio::test]
async fn a_tenant_is_one_text_or_one_number() {
    let (stage, _directory) = stage_with(&["tenant"], &["scope"]);
    for (tenant, wanted) in [
        (json!("acme"), Some("acme")),
        (json!(["acme"]), Some("acme")),
        (json!(42), Some("42")),
        (json!([42]), Some("42")),
        (json!(["acme", "globex"]), None),
        (json!(["acme", "acme"]), None),
        (json!([["acme"]]), None),
        (json!([]), None),
        (json!(1.5), None),
        (json!(true), None),
        (json!({"id": "acme"}), None),
        (json!({"acme": {}}), Some("acme")),
        (json!({"acme": {}, "globex": {}}), None),
        (json!({"acme": ["globex"]}), None),
        (json!({"a b": {}}), None),
        (json!({}), None),
        (json!([{"acme": {}}]), None),
        (json!(["a b"]), None),
    ] {
        let found = identity(&stage, &json!({"tenant": tenant})).await.map(|(tenant, _)| tenant);
        assert_eq!(found, wanted.map(str::to_owned).ok_or("tenant_claim"), "{tenant}");
    }
}

#[tokio::test]
async fn the_first_claim_with_a_scope_of_the_api_holds_the_scopes() {
    let (stage, _directory) = stage_with(&["tenant"], &["scope", "realm_access.roles", "permissions"]);
    for (changes, wanted) in [
        (json!({"scope": "analyses:read", "permissions": ["analyses:write"]}), Ok("analyses:read")),
        (
            json!({"scope": "openid email", "realm_access": {"roles": ["analyses:write", "user"]}}),
            Ok("analyses:write user"),
        ),
        (json!({"realm_access": {"roles": ["user"]}, "permissions": "audio:read"}), Ok("audio:read")),
        (json!({"scope": "openid email", "realm_access": {"roles": ["user"]}}), Ok("email openid")),
        (json!({"scope": ["openid analyses:read", "email"]}), Ok("analyses:read email openid")),
        (json!({}), Ok("")),
        (json!({"scope": {"analyses:read": true}}), Err("malformed")),
        (json!({"scope": "openid", "realm_access": {"roles": [1]}}), Err("malformed")),
    ] {
        let found = identity(&stage, &changes).await.map(|(_, scopes)| scopes);
        assert_eq!(found, wanted.map(str::to_owned), "{changes}");
    }
}

#[tokio::test]
async fn a_subject_of_any_type_is_accepted() {
    let (stage, _directory) = stage_with(&["tenant"], &["scope"]);
    for (subject, wanted) in [
        (json!("crm"), Some("crm")),
        (json!(42), Some("42")),
        (json!(["crm"]), Some("crm")),
        (json!(true), None),
        (json!({"id": 1}), None),
        (json!(["a", "b"]), None),
    ] {
        let caller = stage.verify(&token(&json!({"sub": subject}))).await.unwrap();
        assert_eq!(caller.subject.as_deref(), wanted, "{subject}");
    }
}

#[tokio::test]
async fn times_may_have_fractions() {
    let (stage, _directory) = stage_with(&["tenant"], &["scope"]);
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century are exact in a float")]
    let now = NOW as f64;
    for (changes, verdict) in [
        (json!({"exp": now + 60.5, "iat": now - 0.25, "nbf": now - 0.75}), "ok"),
        (json!({"exp": now - 30.5}), "expired"),
        (json!({"nbf": now + 30.5}), "not_yet_valid"),
        (json!({"iat": now + 30.5}), "issued_in_future"),
    ] {
        assert_eq!(stage.verdict(&token(&changes)).await, verdict, "{changes}");
    }
}

#[tokio::test]
async fn a_rejection_names_the_issuer_and_the_claim() {
    let (stage, _directory) = stage_with(&["org.tenant", "tid"], &["scope"]);
    let rejected = async |changes: &Value| stage.verifier.verify(&token(changes)).await.unwrap_err();
    for (changes, reason, claim) in [
        (json!({"aud": "elsewhere"}), "audience", Some("aud")),
        (json!({"exp": 1}), "expired", Some("exp")),
        (json!({"tid": null}), "tenant_claim", Some("org.tenant, tid")),
    ] {
        let found = rejected(&changes).await;
        assert_eq!((found.rejection.reason(), found.claim.as_deref()), (reason, claim), "{changes}");
        assert_eq!(found.issuer.as_deref(), Some(ISSUER));
    }
    let found = rejected(&json!({"iss": "https://other.test"})).await;
    assert_eq!(
        (found.rejection, found.claim.as_deref(), found.issuer),
        (Rejection::UnknownIssuer, Some("iss"), None)
    );
}
