//! What all spans of this process say of it.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_semantic_conventions::attribute::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION};

use crate::domain::clock::Entropy;

/// Looks up an environment variable.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The service, its version, and an id of this process; `OTEL_RESOURCE_ATTRIBUTES` adds to it and overrides it, as does
/// `OTEL_SERVICE_NAME` for the name (OpenTelemetry, environment variable specification).
pub(super) fn describe(variables: Variables<'_>, entropy: &dyn Entropy) -> Resource {
    let mut instance = [0; 16];
    entropy.fill(&mut instance);
    let instance = uuid::Builder::from_random_bytes(instance).into_uuid().to_string();
    let builder = Resource::builder_empty()
        .with_attributes([
            KeyValue::new(SERVICE_NAME, env!("CARGO_PKG_NAME")),
            KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
            KeyValue::new(SERVICE_INSTANCE_ID, instance),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match variables("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()) {
        Some(name) => builder.with_service_name(name).build(),
        None => builder.build(),
    }
}
