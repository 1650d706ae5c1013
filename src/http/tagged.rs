//! Answers with an entity tag. A caller that has the current version gets 304.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use super::conditional::is_unchanged;
use super::disposition::inline;
use crate::analyses::entity_tag;

/// The media type and the file name of an answer that is available in several formats.
pub(super) struct File<'a> {
    /// The media type without parameters.
    pub(super) media_type: &'static str,
    /// The file name without its extension. The name may have characters that are not portable; the header replaces them.
    pub(super) stem: &'a str,
    /// The file name extension.
    pub(super) extension: &'static str,
}

/// Returns an answer with a JSON body.
pub(super) fn tagged_json(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let etag = entity_tag(&body);
    answer(request, etag, "Authorization", body, |response| {
        response.content_type(header::ContentType::json());
    })
}

/// Returns an answer with a body of unknown format.
pub(super) fn tagged_bytes(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let etag = entity_tag(&body);
    answer(request, etag, "Authorization", body, |response| {
        response.content_type(header::ContentType::octet_stream());
    })
}

/// Returns an answer with a UTF-8 body in one of several formats.
pub(super) fn tagged_file(request: &HttpRequest, file: &File<'_>, body: Bytes) -> HttpResponse {
    // The tag covers the format, because bodies of two formats may be equal.
    let etag = entity_tag(&[file.extension.as_bytes(), b"\n", &body].concat());
    answer(request, etag, "Accept, Authorization", body, |response| {
        // JSON is always UTF-8 and has no charset parameter.
        let charset = if file.media_type == "application/json" { "" } else { "; charset=utf-8" };
        response
            .content_type(format!("{}{charset}", file.media_type))
            .insert_header((header::CONTENT_DISPOSITION, inline(file.stem, file.extension)));
    })
}

fn answer(
    request: &HttpRequest,
    etag: String,
    vary: &'static str,
    body: Bytes,
    describe: impl FnOnce(&mut HttpResponseBuilder),
) -> HttpResponse {
    let unchanged = is_unchanged(request, &etag);
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    describe(&mut response);
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")))
        .insert_header((header::VARY, HeaderValue::from_static(vary)));
    if unchanged { response.finish() } else { response.body(body) }
}
