//! Bodies, query parameters and path segments, read strictly: what is misspelt must not pass in silence.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::marker::PhantomData;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::{Method, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::StreamExt;
use percent_encoding::percent_decode_str;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::idempotency::BodyDigest;
use super::problem::{
    ApiError, BODY_TOO_LARGE, BODY_TOO_SLOW, INTERNAL, MALFORMED_BODY, NOT_FOUND, UNSUPPORTED_MEDIA_TYPE,
};
use super::state::ApiState;
use crate::domain::ids::{CallId, DeliveryId, InvalidId, ReplayId, WebhookId};

/// A JSON body.
pub struct JsonBody<T>(pub T);

/// A JSON body that may be left out, for what is said by default.
pub struct OptionalBody<T>(pub T);

/// For operations that have nothing to be told: what somebody sends all the same must be an empty object.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFields {}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalBody<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let headers = request.headers();
        let is_empty = headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
            && !headers.contains_key(header::TRANSFER_ENCODING);
        if is_empty {
            return Box::pin(ready(Ok(Self(T::default()))));
        }
        // `null` says as little as nothing.
        let body = body::<Option<Object<T>>>(request.clone(), payload.take());
        Box::pin(async move { Ok(Self(body.await?.map(|body| body.0).unwrap_or_default())) })
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = body::<Object<T>>(request.clone(), payload.take());
        Box::pin(async move { Ok(Self(body.await?.0)) })
    }
}

/// Reads the body in time.
async fn body<T: DeserializeOwned>(request: HttpRequest, payload: Payload) -> Result<T, ApiError> {
    let state = request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| ApiError::new(INTERNAL, "the service is not set up"))?;
    let whole = read(&request, payload, state.max_body_bytes);
    let too_slow = |_| ApiError::new(BODY_TOO_SLOW, "the body did not arrive in time");
    let body = tokio::time::timeout(state.body_timeout, whole).await.map_err(too_slow)??;
    BodyDigest::leave(&request, &body);
    parse(&body)
}

async fn read(request: &HttpRequest, mut payload: Payload, limit: usize) -> Result<web::BytesMut, ApiError> {
    let unsupported = |detail: &str| ApiError::new(UNSUPPORTED_MEDIA_TYPE, detail);
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(unsupported("content encodings are not taken"));
    }
    let is_json = request.mime_type().ok().flatten().is_some_and(|mime| {
        let charset = mime.get_param("charset");
        is_taken(request.method(), mime.essence_str()) && charset.is_none_or(|charset| charset == "utf-8")
    });
    if !is_json {
        let patch = if request.method() == Method::PATCH { " or application/merge-patch+json" } else { "" };
        return Err(unsupported(&format!("the body must be of type application/json{patch} in UTF-8")));
    }
    let too_large = || ApiError::new(BODY_TOO_LARGE, format!("a body may have at most {limit} bytes"));
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| ApiError::new(MALFORMED_BODY, "the body ended early"))?;
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What our patches are has a type of its own (RFC 7396, 4).
fn is_taken(method: &Method, media_type: &str) -> bool {
    media_type == "application/json"
        || (method == Method::PATCH && media_type == "application/merge-patch+json")
}

/// Reads a body: first whether it is JSON at all, then whether it has the right form: the two are different mistakes.
///
/// # Errors
/// Says where it breaks which rule.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let malformed = |error: &serde_json::Error| {
        // serde_json's messages name a position, never more of the text than a key.
        ApiError::new(MALFORMED_BODY, format!("the body is not JSON: {error}"))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let inner = error.inner();
        if inner.is_data() {
            let pointer = shortened(&pointer(error.path()));
            ApiError::invalid_field(pointer, &without_position(inner))
        } else {
            malformed(inner)
        }
    })?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// A path of keys and indices as the JSON pointer of RFC 6901, in the fragment form of RFC 9457's examples.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = "#".to_owned();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    shortened(&rule(text.split(" at line ").next().unwrap_or_default()))
}

/// The rule that was broken, where the reader's message tells of it in a programmer's words.
fn rule(message: &str) -> String {
    if let Some((_, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        return format!("must be {known}");
    }
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "is too large".to_owned(),
        "unsupported value" => "must be given once".to_owned(),
        other => other.to_owned(),
    }
}

/// Messages repeat what the caller sent: enough of it to be recognised.
fn shortened(text: &str) -> String {
    const ENOUGH: usize = 200;
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON object. On its own, a struct of serde's also takes an array of its fields in order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// The query parameters.
pub struct StrictQuery<T>(pub T);

/// For operations that take none.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

impl<T: DeserializeOwned> FromRequest for StrictQuery<T> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let deserializer = serde_html_form::Deserializer::from_bytes(request.query_string().as_bytes());
        ready(serde_path_to_error::deserialize(deserializer).map(Self).map_err(|error| {
            let name = error.path().to_string();
            let pointer = if name == "." { "?".to_owned() } else { format!("?{name}") };
            ApiError::invalid_field(shortened(&pointer), &shortened(&rule(&error.into_inner().to_string())))
                .into()
        }))
    }
}

/// The call of `/v1/analyses/{call_id}…`. A name that no call can have is bad input, as it is in a body.
pub struct CallPath(pub CallId);

impl FromRequest for CallPath {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(
            call_of_path(request)
                .map(Self)
                .map_err(|error| ApiError::invalid_field("{call_id}", &error).into()),
        )
    }
}

/// The call that the path names, if it names one.
pub(super) fn call_of_path(request: &HttpRequest) -> Result<CallId, InvalidId> {
    // The router leaves what RFC 3986 reserves encoded: clients that encode a `+` mean it all the same.
    CallId::parse(&percent_decode_str(request.match_info().query("call_id")).decode_utf8_lossy())
}

macro_rules! id_path {
    ($(#[$doc:meta])* $name:ident, $id:ident, $parameter:literal, $what:literal) => {
        $(#[$doc])*
        pub struct $name(pub $id);

        impl FromRequest for $name {
            type Error = actix_web::Error;
            type Future = Ready<Result<Self, Self::Error>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                // What no id can be is no thing's id.
                let id = $id::parse(request.match_info().query($parameter));
                ready(id.map(Self).ok_or_else(|| {
                    ApiError::new(NOT_FOUND, concat!("there is no ", $what, " of this id")).into()
                }))
            }
        }
    };
}

id_path! {
    /// The endpoint of `/v1/webhooks/{webhook_id}…`.
    WebhookPath, WebhookId, "webhook_id", "webhook"
}
id_path! {
    /// The replay of `/v1/webhooks/{webhook_id}/replays/{replay_id}`.
    ReplayPath, ReplayId, "replay_id", "replay"
}
id_path! {
    /// The delivery of `/v1/deliveries/{delivery_id}…`.
    DeliveryPath, DeliveryId, "delivery_id", "delivery"
}

/// The answer to every path that is none of ours.
pub async fn not_found() -> Result<actix_web::HttpResponse, ApiError> {
    Err(ApiError::new(NOT_FOUND, "there is nothing at this path"))
}
