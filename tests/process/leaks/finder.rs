//! Finds secrets in a text, in every encoding that a program could have used.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// The forms to search for, each with the name of its secret.
#[derive(Default)]
pub(crate) struct Finder(Vec<(&'static str, String)>);

/// Minimum length of a secret. A shorter one could match by chance.
const MIN_NEEDLE: usize = 12;

impl Finder {
    /// Adds a secret in plain form, percent-encoded, in hexadecimal, and in base64 at every offset.
    pub(crate) fn add(&mut self, name: &'static str, secret: &str) {
        assert!(secret.len() >= MIN_NEEDLE && secret.is_ascii());
        let percent = |byte: u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        let hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![
            secret.to_owned(),
            secret.replace('/', "\\/"),
            secret.bytes().map(percent).collect(),
            secret.bytes().map(percent).collect::<String>().to_lowercase(),
            secret.replace('/', "%2F"),
            hexadecimal.to_uppercase(),
            hexadecimal,
        ];
        for before in 0..3 {
            forms.push(within_base64(&STANDARD_NO_PAD, secret, before));
            forms.push(within_base64(&URL_SAFE_NO_PAD, secret, before));
        }
        forms.sort();
        forms.dedup();
        self.0.extend(forms.into_iter().map(|form| (name, form)));
    }

    /// Adds a secret in plain form only, for long secrets that are encoded already.
    pub(crate) fn add_plain(&mut self, name: &'static str, secret: &str) {
        assert!(secret.len() >= MIN_NEEDLE);
        self.0.push((name, secret.to_owned()));
    }

    /// The secrets found in a text, each with its context.
    pub(crate) fn find(&self, text: &str) -> Vec<String> {
        let found = self.0.iter().filter_map(|(name, form)| {
            // The texts have many megabytes, and `str::find` is slow without optimization.
            let at = memmem::find(text.as_bytes(), form.as_bytes())?;
            let from = text.floor_char_boundary(at.saturating_sub(200));
            let to = text.ceil_char_boundary((at + form.len() + 60).min(text.len()));
            Some(format!("{name}, as {form}: …{}…", &text[from..to]))
        });
        found.collect()
    }
}

/// The base64 characters that depend only on the secret, if `before` bytes (modulo 3) precede it.
fn within_base64(engine: &impl Engine, secret: &str, before: usize) -> String {
    let encoded = engine.encode([&b"..."[..before], secret.as_bytes()].concat());
    let (start, end) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
    encoded[start..end].to_owned()
}

#[test]
fn the_finder_finds_every_form() {
    let mut finder = Finder::default();
    finder.add("secret", "canary/7f3c+9a==");
    assert_eq!(finder.find("no secret here: canary/7f3c+9a"), [""; 0]);
    let hexadecimal: String = "canary/7f3c+9a==".bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut planted = vec![
        "GET /callsendai/canary%2F7f3c+9a==/1".to_owned(),
        "token=canary%2F7f3c%2B9a%3D%3D".to_owned(),
        "token=canary%2f7f3c%2b9a%3d%3d".to_owned(),
        "{\"token\": \"canary\\/7f3c+9a==\"}".to_owned(),
        "the token canary/7f3c+9a== was refused".to_owned(),
        hexadecimal.to_uppercase(),
        hexadecimal,
    ];
    for before in ["", "a", "ab", "abc"] {
        let surrounded = format!("{before}canary/7f3c+9a== and more");
        planted.push(STANDARD.encode(&surrounded));
        planted.push(URL_SAFE_NO_PAD.encode(&surrounded));
    }
    for text in planted {
        assert!(!finder.find(&format!("[{text}]")).is_empty(), "not found in {text}");
    }
}
