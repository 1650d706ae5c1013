//! Tests of the spellings of a token.

use super::*;

const TOKEN: &str = "tok-Ac/me+7";

fn erased(bytes: &[u8]) -> Option<Vec<u8>> {
    Echo::of(TOKEN, "[token]").erased_from(bytes)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn a_token_is_removed_in_each_spelling() {
    for spelling in [
        "tok-Ac/me+7",
        "tok%2DAc%2fme%2B7",
        "%74%6F%6b-Ac%252Fme%25252b7",
        r"tok-Ac\/me+7",
        r"tok\u002dAc\u002Fme\u002b7",
        r"tok\\u002dAc\\\/me\x2b7",
        "tok&#45;Ac&#x2F;me&#x2b;7",
        "tok-Ac/me%2B7",
        "TOK-AC/ME+7",
        "tok-ac%2Fme+7",
        r"tok-\u0041c\u{2f}me\053\x37",
        r"tok-\u0026#65;c/me+7",
        r"tok\u00252DAc/me+7",
        "tok&#37;2dAc&amp;#47;me+7",
        "%26%23116%3Bok-Ac/me+7",
        "tok-%5Cu0041c/me+7",
        "746f6b2d41632f6d652b37",
        "746F6B2D41632F6D652B37",
    ] {
        let text = format!("before {spelling} after {spelling}");
        let erased = String::from_utf8(erased(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(erased, "before [token] after [token]", "{spelling}");
    }
}

#[test]
fn a_token_is_removed_from_wide_encodings() {
    let text = r#"{"Ж": "tok-Ac\/me+7"}"#;
    let expected = r#"{"Ж": "[token]"}"#;
    assert_eq!(erased(&utf16(text)).unwrap(), utf16(expected));
    let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    assert_eq!(erased(&little(text)).unwrap(), little(expected));
    let wide = |text: &str| text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>();
    assert_eq!(erased(&wide(text)).unwrap(), wide(expected));
    let wide = |text: &str| text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<_>>();
    assert_eq!(erased(&wide(text)).unwrap(), wide(expected));
}

#[test]
fn a_token_is_removed_from_base64() {
    for before in ["", "x", "xy"] {
        let encoded = STANDARD_NO_PAD.encode(format!("{before}{TOKEN} and more"));
        for encoded in [encoded.replace('/', r"\/"), encoded.replace('/', "%2F"), encoded] {
            let erased = String::from_utf8(erased(encoded.as_bytes()).unwrap()).unwrap();
            assert!(erased.contains("[token]") && erased.len() < encoded.len(), "{erased}");
        }
    }
}

#[test]
fn other_bytes_stay_unchanged() {
    for bytes in [&b""[..], b"tok-Ac/me+", b"tok-Ac/me+8", b"%", b"%7", b"\\", b"\\u00", b"&#45", b"\0\0t"] {
        assert_eq!(erased(bytes), None, "{bytes:?}");
    }
    assert_eq!(erased(b"\xff tok-Ac/me+7 \xfe").unwrap(), b"\xff [token] \xfe");
}

/// Each layer of a nested escape reads several characters of the layer below, so the work for a run of escapes must not grow
/// exponentially with the number of layers.
#[test]
fn long_runs_of_escapes_are_read_once() {
    for escape in ["&", "\\", "%", "%25", "&amp;", r"\u005c", "&#38;#38;", r"\&", "&\\%"] {
        let run = escape.repeat((1 << 16) / escape.len());
        assert_eq!(erased(run.as_bytes()), None, "{escape}");
        let text = format!("{run} {TOKEN}");
        assert_eq!(erased(text.as_bytes()).unwrap(), format!("{run} [token]").into_bytes(), "{escape}");
    }
}
