//! Development tokens, and the texts of rejections.

use std::time::Duration;

use alovoice_gateway::auth::{DevelopmentToken, MintError, Rejection};
use alovoice_gateway::config::KeySource;
use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::ids::TenantId;
use jsonwebtoken::Algorithm::{self, HS256, HS384, HS512, RS256};

use crate::stage::{AUDIENCE, ISSUER, NOW, SECRET, Stage, file, issuer};

fn development_token(algorithm: Algorithm, tenant: &TenantId) -> DevelopmentToken<'_> {
    DevelopmentToken {
        algorithm,
        issuer: ISSUER,
        audience: AUDIENCE,
        tenant_claim: "tenant",
        tenant,
        scope_claim: "scope",
        scopes: "analyses:read audio:read",
        subject: Some("me"),
        lifetime: Duration::from_secs(3600),
    }
}

#[tokio::test]
async fn a_minted_token_is_accepted() {
    let tenant = TenantId::parse("acme").unwrap();
    let content = [SECRET, b"\n"].concat();
    for algorithm in [HS256, HS384, HS512] {
        let (_directory, path) = file(&content);
        let stage = Stage::new(vec![issuer(&[algorithm], KeySource::HmacSecretFile(path))]);
        let token = development_token(algorithm, &tenant).mint(&content, stage.clock.now()).unwrap();
        let caller = stage.verify(&token).await.unwrap();
        assert_eq!(caller.tenant, tenant);
        assert_eq!(caller.subject.as_deref(), Some("me"));
        assert_eq!(caller.scopes.iter().collect::<Vec<_>>(), ["analyses:read", "audio:read"]);
        assert_eq!(caller.expires_at.as_seconds(), NOW + 3600);
        let token = DevelopmentToken { subject: None, ..development_token(algorithm, &tenant) };
        let token = token.mint(&content, stage.clock.now()).unwrap();
        assert_eq!(stage.verify(&token).await.unwrap().subject, None);
    }
}

#[test]
fn a_token_that_would_be_refused_is_not_minted() {
    let tenant = TenantId::parse("acme").unwrap();
    let mint = |algorithm, secret: &[u8]| {
        let now = alovoice_gateway::domain::clock::Timestamp::from_millis(NOW * 1000);
        development_token(algorithm, &tenant).mint(secret, now)
    };
    assert!(matches!(mint(RS256, SECRET), Err(MintError::NotHmac(RS256))));
    let error = mint(HS512, &SECRET[..63]).unwrap_err().to_string();
    assert_eq!(error, "the secret has 63 bytes; secrets for HS512 must have at least 64");
}

#[test]
fn every_rejection_is_valid_in_a_header() {
    let every = [
        Rejection::Missing,
        Rejection::SeveralHeaders,
        Rejection::NotBearer,
        Rejection::TooLarge,
        Rejection::Malformed("it does not have three segments"),
        Rejection::UnknownIssuer,
        Rejection::Algorithm,
        Rejection::Crit,
        Rejection::Typ,
        Rejection::UnknownKey,
        Rejection::Signature,
        Rejection::TimeClaim,
        Rejection::Expired,
        Rejection::NotYetValid,
        Rejection::IssuedInFuture,
        Rejection::Audience,
        Rejection::TenantClaim,
        Rejection::KeysUnavailable,
    ];
    for rejection in every {
        let text = rejection.to_string();
        // RFC 6750, 3.
        assert!(text.bytes().all(|byte| matches!(byte, 0x20..=0x21 | 0x23..=0x5b | 0x5d..=0x7e)), "{text}");
        let expected = match rejection {
            Rejection::Missing | Rejection::NotBearer | Rejection::KeysUnavailable => None,
            Rejection::SeveralHeaders => Some("invalid_request"),
            _ => Some("invalid_token"),
        };
        assert_eq!(rejection.error(), expected);
        assert_eq!(rejection.is_unavailable(), rejection == Rejection::KeysUnavailable);
    }
    let mut reasons = every.map(|rejection| rejection.reason()).to_vec();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), every.len());
}
