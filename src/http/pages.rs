//! Pages for people: Swagger UI, and a page for each kind of problem.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use utoipa_swagger_ui::Config;

use super::answer_body::shared;
use super::problem::{self, ApiError, INTERNAL, NOT_FOUND};
use super::security_headers::CSP_OF_PAGES;
use super::state::ApiState;

const INDEX: &str = include_str!("swagger_ui/index.html");
const INITIALIZER: &str = include_str!("swagger_ui/initializer.js");

/// Returns a file of Swagger UI. The gateway has its own page and start script.
pub(super) async fn get_swagger_ui(name: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let page = |content_type: &str, body: Bytes| {
        let mut response = HttpResponse::Ok();
        response.content_type(content_type).insert_header((header::CONTENT_SECURITY_POLICY, CSP_OF_PAGES));
        response.body(body)
    };
    let text =
        |content_type, text: &'static str| shared(page(content_type, Bytes::from_static(text.as_bytes())));
    match name.as_str() {
        "" | "index.html" => return Ok(text("text/html; charset=utf-8", INDEX)),
        "swagger-initializer.js" => return Ok(text("text/javascript; charset=utf-8", INITIALIZER)),
        _ => {}
    }
    let file = utoipa_swagger_ui::serve(&name, Arc::new(Config::from("")))
        .map_err(|error| ApiError::new(INTERNAL, error.to_string()))?
        .ok_or_else(|| ApiError::new(NOT_FOUND, "Swagger UI has no such file"))?;
    Ok(match file.bytes {
        Cow::Borrowed(bytes) => shared(page(&file.content_type, Bytes::from_static(bytes))),
        Cow::Owned(bytes) => page(&file.content_type, bytes.into()),
    })
}

/// Redirects to the page of Swagger UI. An ingress may serve the gateway below a path, so the redirect uses the public URL.
pub(super) async fn redirect_to_swagger_ui(state: web::Data<ApiState>) -> HttpResponse {
    let page = state.env.public_url.link("/swagger-ui/");
    HttpResponse::TemporaryRedirect().insert_header((header::LOCATION, page)).finish()
}

/// Returns the page that explains a kind of problem.
pub(super) async fn get_problem(code: web::Path<String>) -> Result<HttpResponse, ApiError> {
    let kind = problem::ALL
        .iter()
        .find(|kind| kind.code == *code)
        .ok_or_else(|| ApiError::new(NOT_FOUND, "there is no such kind of problem"))?;
    // Text between backticks is code.
    let parts = kind.advice.split('`').enumerate();
    let advice: String = parts
        .map(|(index, part)| if index % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect();
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <h1>{title}</h1><p>Code <code>{code}</code>, status {status}.</p><p>{advice}</p></html>",
        code = kind.code,
        title = kind.title,
        status = kind.status.as_u16(),
    );
    Ok(HttpResponse::Ok()
        .content_type(header::ContentType::html())
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .body(page))
}
