//! The OpenAPI document as a contract: an operation's answers have a status, a type and a form that it tells of.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use alovoice_gateway::commands;
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::Answer;
use crate::stage::VENDOR_TOKENS;

/// The document, as the command prints it.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let text = commands::openapi().unwrap_or_else(|error| panic!("{error:?}"));
    serde_json::from_str(&text).unwrap()
});

/// The document's schemas, in which no object has fields that are not told of.
static SEALED: LazyLock<Value> = LazyLock::new(|| {
    let mut components = DOCUMENT["components"].clone();
    seal(&mut components);
    components
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Validator>>> = LazyLock::new(Mutex::default);

/// An operation of the document.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// With its parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) definition: &'static Value,
}

impl Operation {
    /// Every one.
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

    /// Those that need a token.
    pub(crate) fn of_bearers() -> Vec<Self> {
        Self::all().into_iter().filter(|operation| operation.definition["security"] != json!([{}])).collect()
    }

    /// The one that a request is for. HEAD is GET without a body.
    fn find(method: &Method, path: &str) -> Option<Self> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let fits = |template: &str| {
            let (wanted, given) = (template.split('/'), path.split('/'));
            wanted.clone().count() == given.clone().count()
                && wanted
                    .zip(given)
                    .all(|(wanted, given)| wanted == given || wanted.starts_with('{') && !given.is_empty())
        };
        Self::all().into_iter().find(|operation| operation.method == method && fits(operation.path))
    }

    /// The definition of a response, which may stand under `components`.
    pub(crate) fn response(&self, status: &str) -> &'static Value {
        resolved(&self.definition["responses"][status])
    }

    pub(crate) fn scope(&self) -> &'static str {
        self.definition["security"][0]["bearer"][0].as_str().unwrap()
    }
}

/// Follows a `$ref`.
pub(crate) fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}

/// Holds an answer against the document; other paths than the document's may answer what they like. No answer at all
/// may have a vendor token in it.
pub(crate) fn check(method: &Method, path: &str, answer: &Answer) {
    let whole = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
    assert!(VENDOR_TOKENS.iter().all(|token| !whole.contains(token)), "{method} {path} shows a token");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "-origin"),
    ] {
        assert!(answer.header(name).contains(value), "{method} {path} answers with {name}: {answer:?}");
    }
    for name in ["server", "x-powered-by", "via"] {
        assert!(!answer.headers.contains_key(name), "{method} {path} says what it is made of");
    }
    let Some(operation) = Operation::find(method, path) else { return };
    let (name, status) = (&operation.definition["operationId"], answer.status);
    let definition = operation.response(&status.to_string());
    assert!(definition.is_object(), "{name} may answer {status}: {answer:?}");
    for field in ["ratelimit", "ratelimit-policy"] {
        // Those who were not let in are told nothing, and what broke may have done so before anybody was.
        let is_told = answer.headers.contains_key(field);
        let has_token = operation.definition["security"] != json!([{}]);
        assert!(
            !has_token || is_told || [401, 403, 500, 503].contains(&status),
            "{name} answers {status} with {field}"
        );
    }
    let content = definition["content"].as_object();
    let Some(content) = content else {
        assert!(answer.body.is_empty(), "{name} answers {status} without a body");
        return;
    };
    let given = answer.header("content-type").trim_end_matches("; charset=utf-8");
    // A media range, such as `audio/*`, stands for all of its kind.
    let fits = |media_type: &str| {
        media_type.strip_suffix('*').map_or(given == media_type, |kind| given.starts_with(kind))
    };
    let Some((media_type, content)) = content.iter().find(|(media_type, _)| fits(media_type)) else {
        panic!("{name} answers {status} with {given}: {content:?}")
    };
    for (header, _) in definition["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, definition)| resolved(definition)["required"] == true)
    {
        assert!(answer.headers.contains_key(header.as_str()), "{name} answers {status} with {header}");
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

/// Holds an event of a stream against the document.
pub(crate) fn check_event(event: &Value) {
    let errors = errors(&json!({"$ref": "#/components/schemas/Event"}), event);
    assert!(errors.is_empty(), "{errors:#?} in {event:#}");
}

/// Where a value is not as a schema of the document says.
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
