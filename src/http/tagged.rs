//! A JSON answer with an entity tag of its own, or 304 to who knows it already.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;

use super::conditional::is_unchanged;
use crate::analyses::entity_tag;

/// Answers `body`, which is JSON.
pub fn tagged_json(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let etag = entity_tag(&body);
    let unchanged = is_unchanged(request, &etag);
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .content_type(header::ContentType::json())
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")))
        .insert_header((header::VARY, HeaderValue::from_static("Authorization")));
    if unchanged { response.finish() } else { response.body(body) }
}
