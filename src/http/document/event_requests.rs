//! The requests that the gateway sends: events to webhooks (`webhooks`) and to the callback of a submission (`callbacks`).

use std::collections::BTreeMap;

use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, Required, Response, Schema};

/// A request that the gateway sends.
struct EventRequest {
    /// Name in the section `webhooks`: the type of the event.
    event_type: &'static str,
    operation_id: &'static str,
    summary: &'static str,
    /// Names of the schemas of the body.
    bodies: &'static [&'static str],
}

const ANALYSIS: &[&str] = &["AnalysisEventBody", "ThinEventBody"];

const REQUESTS: [EventRequest; 5] = [
    EventRequest {
        event_type: "analysis.completed",
        operation_id: "receive_analysis_completed",
        summary: "The result of an analysis is available",
        bodies: ANALYSIS,
    },
    EventRequest {
        event_type: "analysis.failed",
        operation_id: "receive_analysis_failed",
        summary: "An analysis has failed",
        bodies: ANALYSIS,
    },
    EventRequest {
        event_type: "analysis.updated",
        operation_id: "receive_analysis_updated",
        summary: "The result of an analysis has changed",
        bodies: ANALYSIS,
    },
    EventRequest {
        event_type: "webhook.disabled",
        operation_id: "receive_webhook_disabled",
        summary: "The gateway has disabled a webhook",
        bodies: &["WebhookDisabledBody"],
    },
    EventRequest {
        event_type: "webhook.test",
        operation_id: "receive_webhook_test",
        summary: "A test event",
        bodies: &["TestEventBody", "ThinTestEventBody"],
    },
];

const CALLBACK: EventRequest = EventRequest {
    event_type: "event",
    operation_id: "receive_callback",
    summary: "An event of the submitted call",
    bodies: ANALYSIS,
};

/// Headers of a request: name, description, pattern and example.
const HEADERS: [(&str, &str, &str, &str); 3] = [
    (
        "webhook-id",
        "The id of the event. It is the same in every attempt.",
        "^evt_[0-9a-f]{32}$",
        "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e",
    ),
    ("webhook-timestamp", "Time of the attempt, in Unix seconds.", "^[0-9]{1,20}$", "1716207617"),
    (
        "webhook-signature",
        "Signatures as Standard Webhooks specifies, separated by spaces.",
        "^v1,[A-Za-z0-9+/=]+( v1,[A-Za-z0-9+/=]+)*$",
        "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
    ),
];

/// Adds the requests to the document.
pub(super) fn complete(document: &mut Document) {
    let add =
        |paths: PathsBuilder, request: &EventRequest| paths.path(request.event_type, request.path_item());
    let mut webhooks = REQUESTS.iter().fold(PathsBuilder::new(), add).build();
    // Without this extension, code generators make methods that send these requests to the gateway.
    let receives = Extensions::from_iter([("x-internal", true)]);
    for operation in webhooks.paths.values_mut().filter_map(|item| item.post.as_mut()) {
        operation.extensions = Some(receives.clone());
    }
    document.webhooks = Some(webhooks);
    let submit = document.paths.paths.get_mut("/v1/analyses").and_then(|item| item.post.as_mut());
    if let Some(submit) = submit {
        let url = "{$request.body#/callback/url}".to_owned();
        let callback = BTreeMap::from([(url, RefOr::T(CALLBACK.path_item()))]);
        submit.callbacks.insert(CALLBACK.event_type.to_owned(), RefOr::T(callback));
    }
}

impl EventRequest {
    fn path_item(&self) -> PathItem {
        let body = |name: &&str| Ref::from_schema_name(*name);
        let content = match self.bodies {
            [only] => Content::new(Some(body(only))),
            several => {
                let bodies = several.iter().map(body).fold(AnyOfBuilder::new(), AnyOfBuilder::item);
                Content::new(Some(Schema::AnyOf(bodies.build())))
            }
        };
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content("application/json", content)
            .build();
        let operation = OperationBuilder::new()
            .operation_id(Some(self.operation_id))
            .tag("webhooks")
            .summary(Some(self.summary))
            .description(Some(
                "The gateway sends this request to your server. Check the signature over the bytes of the body. A `transform` changes \
                 the body, its type and the method.",
            ))
            .parameters(Some(HEADERS.map(header)))
            .request_body(Some(body))
            .response("2XX", Response::new("The event is accepted."))
            .response("410", Response::new("The receiver wants no more events. If it is a webhook, the gateway disables it."))
            .response("default", Response::new("The event is not accepted. The gateway retries."))
            .security(SecurityRequirement::default());
        PathItem::new(HttpMethod::Post, operation)
    }
}

fn header((name, description, pattern, example): (&str, &str, &str, &str)) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(
            ObjectBuilder::new().schema_type(Type::String).max_length(Some(1024)).pattern(Some(pattern)),
        ))
        .example(Some(example.into()))
        .build()
}
