//! Reads the token from the `Authorization` header.

use super::rejection::Rejection;

/// Returns the token from the values of a request's `Authorization` headers (RFC 6750, 2.1).
///
/// # Errors
/// - [`Rejection::Missing`], [`Rejection::SeveralHeaders`] or [`Rejection::NotBearer`].
/// - [`Rejection::Malformed`] if the text after the scheme is empty or has a character that tokens cannot have.
pub fn bearer<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<&'a str, Rejection> {
    let mut values = values.into_iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    if values.next().is_some() {
        return Err(Rejection::SeveralHeaders);
    }
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Err(Rejection::NotBearer);
    }
    let token = token.trim_ascii_start();
    if token.is_empty() || !token.iter().all(|byte| IS_TOKEN_BYTE[usize::from(*byte)]) {
        return Err(Rejection::Malformed("it is empty or has an invalid character"));
    }
    std::str::from_utf8(token).map_err(|_| Rejection::Malformed("it is not ASCII text"))
}

/// Whether a byte belongs to the alphabet of `b64token` (RFC 6750, 2.1), as a table because every request checks its whole token. The
/// alphabet has no comma, so two headers that a proxy has joined with a comma are refused.
const IS_TOKEN_BYTE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = matches!(byte as u8, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(values: &[&'a str]) -> Result<&'a str, &'static str> {
        bearer(values.iter().map(|value| value.as_bytes())).map_err(|rejection| rejection.reason())
    }

    #[test]
    fn exactly_one_header_with_the_scheme_bearer_is_accepted() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", "Bearer a.b.c "] {
            assert_eq!(read(&[value]), Ok("a.b.c"));
        }
        assert_eq!(read(&[]), Err("missing"));
        assert_eq!(read(&["Bearer a.b.c", "Bearer a.b.c"]), Err("several_headers"));
        assert_eq!(read(&["Basic YTpi", "Bearer a.b.c"]), Err("several_headers"));
        for value in ["Basic YTpi", "a.b.c", "", "Bearer:a.b.c", "BearerX a", "DPoP a.b.c"] {
            assert_eq!(read(&[value]), Err("not_bearer"), "{value:?}");
        }
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a, Bearer b", "Bearer \u{e9}", "Bearer a\tb"]
        {
            assert_eq!(read(&[value]), Err("malformed"), "{value:?}");
        }
        assert_eq!(bearer([&b"Bearer \xff"[..]]).unwrap_err().reason(), "malformed");
    }
}
