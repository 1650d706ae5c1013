//! The attributes that all spans of this process share.

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};

use crate::domain::clock::{Entropy, SystemEntropy};

/// Returns the name and version of the service and an id of this process. `OTEL_RESOURCE_ATTRIBUTES` adds further attributes, and
/// can override the name, the version and the id. `OTEL_SERVICE_NAME` overrides the name (OpenTelemetry, environment variable
/// specification).
pub(super) fn describe() -> Resource {
    let mut instance = [0; 16];
    SystemEntropy.fill(&mut instance);
    let instance = uuid::Builder::from_random_bytes(instance).into_uuid().to_string();
    let builder = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match std::env::var("OTEL_SERVICE_NAME") {
        Ok(name) if !name.is_empty() => builder.with_service_name(name).build(),
        _ => builder.build(),
    }
}
