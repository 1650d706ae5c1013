//! A complete answer that can be sent now, stored, and sent again.

use actix_web::body::MessageBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::http::item_statuses::ItemStatuses;
use crate::http::problem::{ApiError, INTERNAL};

/// Status, headers and body of a handler's response.
pub(super) struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// The statuses of the items of a batch. They are for the audit log of the first request, and are not stored.
    items: Option<ItemStatuses>,
}

/// The first line of a stored answer, as JSON; the body follows.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// Splits the response of a handler into its parts. The body must be complete, because a stream cannot be stored.
    pub(super) fn of(mut response: HttpResponse) -> Result<Self, ApiError> {
        let status = response.status();
        let items = response.extensions_mut().remove();
        let headers = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        match response.into_body().try_into_bytes() {
            Ok(body) => Ok(Self { status, headers, body, items }),
            Err(_) => Err(ApiError::new(INTERNAL, "the answer is a stream")),
        }
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    pub(super) fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.headers.push((name, value));
    }

    pub(super) fn respond(self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        for header in self.headers {
            response.append_header(header);
        }
        if let Some(items) = self.items {
            response.extensions_mut().insert(items);
        }
        response.body(self.body)
    }

    /// Returns the stored form; `None` if the body has more than `limit` bytes.
    pub(super) fn to_bytes(&self, limit: usize) -> Option<Vec<u8>> {
        if self.body.len() > limit {
            return None;
        }
        let texts = |(name, value): &(HeaderName, HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let head = Head {
            status: self.status.as_u16(),
            headers: self.headers.iter().map(texts).collect::<Option<_>>()?,
        };
        let mut bytes = serde_json::to_vec(&head).ok()?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.body);
        Some(bytes)
    }

    /// Parses the stored form; `None` if the bytes do not have this form.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        let parsed = |(name, value): (String, String)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        };
        Some(Self {
            status: StatusCode::from_u16(head.status).ok()?,
            headers: head.headers.into_iter().map(parsed).collect::<Option<_>>()?,
            body: Bytes::copy_from_slice(&bytes[end + 1..]),
            items: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_answer_equals_the_first_answer() {
        let response = HttpResponse::Accepted()
            .append_header(("etag", "\"1\""))
            .append_header(("vary", "a"))
            .append_header(("vary", "b"))
            .body("{\n}\n");
        let given = Answer::of(response).unwrap();
        assert!(given.to_bytes(3).is_none(), "the body has four bytes");
        let kept = Answer::from_bytes(&given.to_bytes(4).unwrap()).unwrap();
        assert_eq!((kept.status, &kept.headers, &kept.body), (given.status, &given.headers, &given.body));
        assert_eq!(kept.headers.len(), 3);
        for other in [&b""[..], b"{}", b"{}\n", b"{\"status\":1000,\"headers\":[]}\n"] {
            assert!(Answer::from_bytes(other).is_none());
        }
    }
}
