//! An answer with an entity tag of its own, or 304 to who knows it already.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;

use super::conditional::is_unchanged;
use super::disposition::inline;
use crate::analyses::entity_tag;

/// What a caller saves an answer as. There are others at the same address, and `Accept` chooses.
pub(super) struct File<'a> {
    /// Without parameters.
    pub(super) media_type: &'static str,
    /// The name up to the dot, not yet made safe.
    pub(super) stem: &'a str,
    /// The name after it.
    pub(super) extension: &'static str,
}

/// Answers `body`, which is JSON.
pub(super) fn tagged_json(request: &HttpRequest, body: Bytes) -> HttpResponse {
    let etag = entity_tag(&body);
    answer(request, etag, "Authorization", body, |response| {
        response.content_type(header::ContentType::json());
    })
}

/// Answers `body`, which is UTF-8, as one of several forms.
pub(super) fn tagged_file(request: &HttpRequest, file: &File<'_>, body: Bytes) -> HttpResponse {
    // Of the form too: that of an empty text is not that of no subtitles.
    let etag = entity_tag(&[file.extension.as_bytes(), b"\n", &body].concat());
    answer(request, etag, "Accept, Authorization", body, |response| {
        // JSON is UTF-8 by definition and has no such parameter.
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
