//! The bodies of answers without a result.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::answer::without_token;
use super::encoding::decode;
use super::words;
use crate::domain::answer_warnings::AnswerWarnings;
use crate::domain::vendor_token::VendorToken;

/// Maximum number of bytes that are read from the body of an error, to find the vendor's explanation.
const MAX_ERROR_BYTES: usize = 16 << 10;
/// Number of bytes that are dropped at the end of a body of [`MAX_ERROR_BYTES`] bytes. Only a part of the token may be there, and
/// such a part would not be recognized.
const CUT_BYTES: usize = 4 << 10;
/// Maximum time for reading the body of an error. A slow body must not delay the outcome.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the status is an error, or a redirect other than 304.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    status != StatusCode::NOT_MODIFIED && (status.is_redirection() || status.as_u16() >= 400)
}

/// Reads the vendor's words in the body of an error. If the body is incomplete or slow, the received part is used.
pub(super) async fn words_of_error(response: Response, token: &VendorToken) -> Option<String> {
    let content_type = content_type_of(response.headers());
    words_of_body(&read_beginning(response, token).await, content_type.as_deref(), token)
}

/// Reads the beginning of a body and removes the token. If the body is incomplete or slow, the received part is used.
pub(super) async fn read_beginning(mut response: Response, token: &VendorToken) -> Bytes {
    let deadline = Instant::now() + ERROR_BODY_TIMEOUT;
    let mut body = BytesMut::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR_BYTES - body.len())]);
        if body.len() == MAX_ERROR_BYTES {
            break;
        }
    }
    let mut body = without_token(body.freeze(), token);
    // A token at the cut would not be recognized.
    body.truncate(MAX_ERROR_BYTES - CUT_BYTES);
    body
}

/// Returns the vendor's words in a body from which the token was removed.
pub(super) fn words_of_body(body: &[u8], content_type: Option<&str>, token: &VendorToken) -> Option<String> {
    words::of_body(&decode(body, content_type, &mut AnswerWarnings::default()), token)
}

/// Returns the `Content-Type`; `None` unless the header is present and ASCII.
pub(super) fn content_type_of(headers: &HeaderMap) -> Option<String> {
    text_of(headers, CONTENT_TYPE)
}

/// Returns the value of a header; `None` unless the value is ASCII.
pub(super) fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
