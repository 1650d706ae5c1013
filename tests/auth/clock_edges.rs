//! The limits of a token's times to the millisecond, and all notations of a time.

use std::time::Duration;

use alovoice_gateway::config::KeySource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::HS256;

use crate::signer::Signer;
use crate::stage::{AUDIENCE, ISSUER, NOW, SECRET, Stage, file, issuer};

/// The verdict on a token with these times in its claims, `millis` after [`NOW`].
async fn verdict_after(millis: u64, times: &str) -> &'static str {
    let (_directory, path) = file(SECRET);
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path))]);
    stage.clock.advance(Duration::from_millis(millis));
    let claims = format!(r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","tenant":"acme",{times}}}"#);
    let message =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
    let token = Signer::Hmac(SECRET.to_vec()).sign("HS256", &message);
    let first = stage.verdict(&token).await;
    assert_eq!(stage.verdict(&token).await, first, "cached or not");
    first
}

#[tokio::test]
async fn the_leeway_is_exact_to_the_millisecond() {
    let later = |seconds: i64| NOW + seconds;
    for (millis, times, verdict) in [
        (29_999, format!("\"exp\":{NOW}"), "ok"),
        (30_000, format!("\"exp\":{NOW}"), "expired"),
        (30_499, format!("\"exp\":{NOW}.5"), "ok"),
        (30_500, format!("\"exp\":{NOW}.5"), "expired"),
        (0, format!("\"exp\":{},\"nbf\":{}", later(999), later(30)), "ok"),
        (999, format!("\"exp\":{},\"nbf\":{}", later(999), later(31)), "not_yet_valid"),
        (1000, format!("\"exp\":{},\"nbf\":{}", later(999), later(31)), "ok"),
        (0, format!("\"exp\":{},\"iat\":{}", later(999), later(30)), "ok"),
        (999, format!("\"exp\":{},\"iat\":{}", later(999), later(31)), "issued_in_future"),
        (1000, format!("\"exp\":{},\"iat\":{}", later(999), later(31)), "ok"),
        (249, format!("\"exp\":{},\"iat\":{}.25", later(999), later(30)), "issued_in_future"),
        (250, format!("\"exp\":{},\"iat\":{}.25", later(999), later(30)), "ok"),
        // Expired before it was valid: both times are checked.
        (0, format!("\"exp\":{},\"nbf\":{}", later(-60), later(60)), "expired"),
    ] {
        assert_eq!(verdict_after(millis, &times).await, verdict, "{millis} {times}");
    }
}

#[tokio::test]
async fn very_large_and_small_times_are_compared_correctly() {
    for exp in [
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e18",
        "1e308",
    ] {
        assert_eq!(verdict_after(0, &format!("\"exp\":{exp}")).await, "ok", "{exp}");
        for claim in ["nbf", "iat"] {
            let verdict = verdict_after(0, &format!("\"exp\":{exp},\"{claim}\":{exp}")).await;
            assert_eq!(verdict, if claim == "nbf" { "not_yet_valid" } else { "issued_in_future" }, "{exp}");
        }
    }
    for exp in ["0", "-0", "-0.0", "-1", "-9223372036854775808", "-9223372036854775809", "-1e308", "1e-308"] {
        assert_eq!(verdict_after(0, &format!("\"exp\":{exp}")).await, "expired", "{exp}");
        for claim in ["nbf", "iat"] {
            let times = format!("\"exp\":{},\"{claim}\":{exp}", NOW + 60);
            assert_eq!(verdict_after(0, &times).await, "ok", "{claim} {exp}");
        }
    }
}

#[tokio::test]
async fn a_time_must_be_a_number() {
    let strange =
        ["\"1716294017\"", "\"\"", "\"never\"", "null", "true", "false", "[]", "[1716294017]", "{}"];
    for strange in strange {
        for claim in ["exp", "nbf", "iat"] {
            let exp = if claim == "exp" { String::new() } else { format!("\"exp\":{},", NOW + 60) };
            let verdict = verdict_after(0, &format!("{exp}\"{claim}\":{strange}")).await;
            assert_eq!(verdict, "time_claim", "{claim} {strange}");
        }
    }
    // Not JSON (RFC 8259, 6).
    for strange in ["NaN", "Infinity", "0x66", "+1716294017", "01716294017", "1e999", "1716294017."] {
        assert_eq!(verdict_after(0, &format!("\"exp\":{strange}")).await, "malformed", "{strange}");
    }
}
