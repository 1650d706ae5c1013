//! Checks responses against the OpenAPI document: the status, the media type, the headers and the schema.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use alovoice_gateway::commands;
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::Answer;
use crate::stage::VENDOR_TOKENS;

/// The OpenAPI document that the command prints.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let text = commands::openapi().unwrap_or_else(|error| panic!("{error:?}"));
    serde_json::from_str(&text).unwrap()
});

/// The schemas of the document, changed so that objects must not have undocumented fields.
static SEALED: LazyLock<Value> = LazyLock::new(|| {
    let mut components = DOCUMENT["components"].clone();
    seal(&mut components);
    components
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Validator>>> = LazyLock::new(Mutex::default);

/// An operation of the document.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// The path, with parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) definition: &'static Value,
}

impl Operation {
    /// Every operation of the document.
    pub(crate) fn all() -> Vec<Self> {
        let paths = DOCUMENT["paths"].as_object().unwrap();
        let of_path = |(path, methods): (&'static String, &'static Value)| {
            methods.as_object().unwrap().iter().map(move |(method, definition)| Self {
                method: method.to_ascii_uppercase().parse().unwrap(),
                path,
                definition,
            })
        };
        paths.iter().flat_map(of_path).collect()
    }

    /// The operations that require a token.
    pub(crate) fn of_bearers() -> Vec<Self> {
        Self::all().into_iter().filter(|operation| operation.definition["security"] != json!([{}])).collect()
    }

    /// The operation that handles a request. HEAD is GET without a body.
    fn find(method: &Method, path: &str) -> Option<Self> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        Self::all().into_iter().find(|operation| operation.method == method && operation.serves(path))
    }

    /// Whether the path of the operation matches this path.
    pub(crate) fn serves(&self, path: &str) -> bool {
        let (wanted, given) = (self.path.split('/'), path.split('/'));
        wanted.clone().count() == given.clone().count()
            && wanted
                .zip(given)
                .all(|(wanted, given)| wanted == given || wanted.starts_with('{') && !given.is_empty())
    }

    /// The definition of a response, with a reference to `components` resolved.
    pub(crate) fn response(&self, status: &str) -> &'static Value {
        resolved(&self.definition["responses"][status])
    }

    pub(crate) fn scope(&self) -> &'static str {
        self.definition["security"][0]["bearer"][0].as_str().unwrap()
    }
}

/// Resolves a `$ref`.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// Checks a response against the document. Only the security headers are checked for paths that are not in the document. No
/// response may contain a vendor token.
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let whole = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
    assert!(
        VENDOR_TOKENS.iter().all(|token| !whole.contains(token)),
        "{method} {path} exposes a vendor token"
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "-origin"),
    ] {
        assert!(answer.header(name).contains(value), "{method} {path} lacks the header {name}: {answer:?}");
    }
    for name in ["server", "x-powered-by", "via"] {
        assert!(!answer.headers.contains_key(name), "{method} {path} names its software in a header");
    }
    let Some(operation) = Operation::find(method, path) else { return };
    let (name, status) = (&operation.definition["operationId"], answer.status);
    let definition = operation.response(&status.to_string());
    assert!(definition.is_object(), "{name} has an undocumented status {status}: {answer:?}");
    for field in ["ratelimit", "ratelimit-policy"] {
        // Unauthorized callers get no rate limit headers. A server error may occur before authorization.
        let is_present = answer.headers.contains_key(field);
        let has_token = operation.definition["security"] != json!([{}]);
        assert!(
            !has_token || is_present || [401, 403, 500, 503].contains(&status),
            "{name} {status} lacks the header {field}"
        );
    }
    let content = definition["content"].as_object();
    let Some(content) = content else {
        assert!(answer.body.is_empty(), "{name} {status} must have no body");
        return;
    };
    let given = answer.header("content-type").trim_end_matches("; charset=utf-8");
    // A media range, such as `audio/*`, covers all of its media types.
    let fits = |media_type: &str| {
        media_type.strip_suffix('*').map_or(given == media_type, |kind| given.starts_with(kind))
    };
    let Some((media_type, content)) = content.iter().find(|(media_type, _)| fits(media_type)) else {
        panic!("{name} {status} has an undocumented media type {given}: {content:?}")
    };
    for (header, _) in definition["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, definition)| resolved(definition)["required"] == true)
    {
        assert!(answer.headers.contains_key(header.as_str()), "{name} {status} lacks the header {header}");
    }
    if method == Method::HEAD {
        assert!(answer.body.is_empty());
        return;
    }
    if !media_type.ends_with("json") {
        return;
    }
    let instance = answer.json();
    let errors = errors(&content["schema"], &instance);
    assert!(errors.is_empty(), "{name} {status}: {errors:#?} in {instance:#}");
}

/// Checks an event of a stream against the document.
pub(crate) fn check_event(event: &Value) {
    let errors = errors(&json!({"$ref": "#/components/schemas/Event"}), event);
    assert!(errors.is_empty(), "{errors:#?} in {event:#}");
}

/// The places where a value violates a schema of the document.
pub(crate) fn errors(schema: &Value, instance: &Value) -> Vec<String> {
    let mut validators = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let mut root = schema.clone();
        root["components"] = SEALED.clone();
        jsonschema::draft202012::new(&root).unwrap()
    });
    validator.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn seal(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("object")) && fields.contains_key("properties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(seal);
        }
        Value::Array(items) => items.iter_mut().for_each(seal),
        _ => {}
    }
}
