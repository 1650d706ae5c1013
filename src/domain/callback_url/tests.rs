//! Tests of callback URLs.

use super::*;

#[test]
fn a_valid_url_is_normalized() {
    let url = CallbackUrl::parse("HTTPS://CRM.example.uz:443/hook?x=1").unwrap();
    assert_eq!(url.as_str(), "https://crm.example.uz/hook?x=1");
    assert_eq!(url.receiver(), "https://crm.example.uz");
    assert_eq!(format!("{url:?}"), "CallbackUrl(https://crm.example.uz/…)");
}

#[test]
fn other_urls_are_refused() {
    use InvalidCallbackUrl as E;
    assert!(matches!(CallbackUrl::parse("/hook"), Err(E::Syntax(_))));
    assert!(matches!(CallbackUrl::parse("https://"), Err(E::Syntax(_))));
    assert_eq!(CallbackUrl::parse("ftp://a.uz/"), Err(E::Scheme("ftp".into())));
    assert_eq!(CallbackUrl::parse("https://u@a.uz/"), Err(E::UserInfo));
    assert_eq!(CallbackUrl::parse("https://:p@a.uz/"), Err(E::UserInfo));
    assert_eq!(CallbackUrl::parse("https://a.uz/#f"), Err(E::Fragment));
    let long = format!("https://a.uz/{}", "x".repeat(2048));
    assert_eq!(CallbackUrl::parse(&long), Err(E::TooLong(long.len())));
    // The URL is short as written, and too long after encoding.
    let encoded = format!("https://a.uz/{}", "ё".repeat(700));
    assert_eq!(CallbackUrl::parse(&encoded), Err(E::TooLong(13 + 6 * 700)));
}

fn ids(pairs: &[(&str, &str)]) -> CrmIds {
    serde_json::from_value(pairs.iter().map(|(name, id)| (*name, *id)).collect()).unwrap()
}

#[test]
fn placeholders_are_filled_with_encoded_ids() {
    let url = CallbackUrl::parse("https://a.uz/t/{crm.ticket}.json/{CRM.key-1.a}?x={y}").unwrap();
    assert_eq!(url.as_str(), "https://a.uz/t/{crm.ticket}.json/{crm.key-1.a}?x={y}");
    assert_eq!(CallbackUrl::parse(url.as_str()), Ok(url.clone()));
    assert!(url.has_placeholders());
    let filled = |ticket: &str| {
        url.fill(&ids(&[("ticket", ticket), ("key-1.a", "P-1")])).map(|url| url.as_str().to_owned())
    };
    for (id, segment) in [
        ("42", "42"),
        ("..", ".."),
        ("a/b?c#d%2F", "a%2Fb%3Fc%23d%252F"),
        ("\\..\\ё {crm.x}", "%5C..%5C%D1%91%20%7Bcrm.x%7D"),
    ] {
        assert_eq!(filled(id), Ok(format!("https://a.uz/t/{segment}.json/P-1?x={{y}}")), "{id}");
    }
    assert_eq!(filled(&"🙂".repeat(256)), Err(UnfilledUrl::TooLong(InvalidCallbackUrl::TooLong(3102))));
    let missing = url.fill(&ids(&[("other", "1")])).unwrap_err().to_string();
    assert!(missing.starts_with("call.crm.ticket, call.crm.key-1.a are missing"), "{missing}");
    let plain = CallbackUrl::parse("https://a.uz/%7Bx%7D").unwrap();
    assert_eq!((plain.has_placeholders(), plain.fill(&CrmIds::new())), (false, Ok(plain.clone())));
}

#[test]
fn an_id_cannot_leave_its_segment() {
    let url = CallbackUrl::parse("https://a.uz/v1/{crm.a}{crm.b}/notes").unwrap();
    assert_eq!(url.fill(&ids(&[("a", "."), ("b", ".")])), Err(UnfilledUrl::Dots));
    let joined = url.fill(&ids(&[("a", ".."), ("b", "1")])).unwrap();
    assert_eq!(joined.as_str(), "https://a.uz/v1/..1/notes");
    let single = CallbackUrl::parse("https://a.uz/v1/{crm.a}").unwrap();
    for dots in [".", ".."] {
        assert_eq!(single.fill(&ids(&[("a", dots)])), Err(UnfilledUrl::Dots));
    }
    // An encoded dot is a dot, but the percent sign of an id is encoded.
    let encoded = single.fill(&ids(&[("a", "%2e%2e")])).unwrap();
    assert_eq!(encoded.as_str(), "https://a.uz/v1/%252e%252e");
}

#[test]
fn placeholders_elsewhere_and_misspelt_ones_are_refused() {
    use InvalidCallbackUrl::{Placeholder, PlaceholderPlace};
    for (url, error) in [
        ("https://{crm.host}.example.uz/", PlaceholderPlace),
        ("https://%7Bcrm.host%7D.example.uz/", PlaceholderPlace),
        ("https://a.uz/?id={crm.id}", PlaceholderPlace),
        ("https://a.uz/?id=%7bcrm.id%7d", PlaceholderPlace),
        ("https://a.uz/{crm.}", Placeholder),
        ("https://a.uz/{crm.a b}", Placeholder),
        ("https://a.uz/{crm.a", Placeholder),
        ("https://a.uz/%7Bcrm.a", Placeholder),
        ("https://a.uz/{crm.a/b}", Placeholder),
        ("https://a.uz/{metadata.ticket}", Placeholder),
        ("https://a.uz/{}", Placeholder),
        ("https://a.uz/}{", Placeholder),
        ("https://a.uz/{{crm.a}}", Placeholder),
    ] {
        assert_eq!(CallbackUrl::parse(url), Err(error), "{url}");
    }
}
