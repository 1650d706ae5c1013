//! Parameters that operations share: those in paths, and `Idempotency-Key`.

use serde_json::json;
use utoipa::openapi::path::{Operation as Documented, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Required};

use crate::domain::ids::CallId;
use crate::http::operations::ApiOperation;

struct PathParameter {
    name: &'static str,
    description: &'static str,
    max_length: usize,
    pattern: &'static str,
    example: &'static str,
}

const PATH_PARAMETERS: [PathParameter; 6] = [
    PathParameter {
        name: "call_id",
        description: "The CALL_ID of AloVoice.",
        max_length: 128,
        pattern: CallId::PATTERN,
        example: "1716207617.42",
    },
    PathParameter {
        name: "link",
        description: "The token of a link that `create_audio_link` returned.",
        max_length: 512,
        pattern: "^[A-Za-z0-9_-]+$",
        example: "ZIcUHmK7kcE_PuSBbE7ItaNMelRzNufqhLnqbHrjOq9QNcVRVI5mtr0Jc5yceSQTpo3LBLerJCzuyLrl",
    },
    PathParameter {
        name: "preset",
        description: "The name of a preset; `list_renderings` lists them.",
        max_length: 64,
        pattern: r"^[a-z0-9]+(\.[a-z]+)?$",
        example: "slack.message",
    },
    PathParameter {
        name: "webhook_id",
        description: "The id of the webhook.",
        max_length: 36,
        pattern: "^whk_[0-9a-f]{32}$",
        example: "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e",
    },
    PathParameter {
        name: "replay_id",
        description: "The id of the replay.",
        max_length: 36,
        pattern: "^rpl_[0-9a-f]{32}$",
        example: "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e",
    },
    PathParameter {
        name: "delivery_id",
        description: "The id of the delivery.",
        max_length: 36,
        pattern: "^dlv_[0-9a-f]{32}$",
        example: "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e",
    },
];

/// The name of the parameter `Idempotency-Key` under `components/parameters`.
const IDEMPOTENCY_KEY: &str = "IdempotencyKey";

/// Returns the definitions of the shared parameters. `Idempotency-Key` has no example, because Swagger UI would send it
/// with every request.
pub(super) fn shared() -> impl Iterator<Item = (String, RefOr<Parameter>)> {
    let of_paths =
        PATH_PARAMETERS.into_iter().map(|parameter| (parameter.name.to_owned(), parameter.define()));
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A unique key of 1 to 255 visible ASCII characters, for example a UUID. If you repeat a request with its key within \
             24 hours, you get the first answer, with `Idempotency-Replayed: true`. A different request with the same key is \
             refused (422).",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(257))
                .pattern(Some(r#"^("[!#-\[\]-~]{1,255}"|[!#-~][!-~]{0,254})$"#)),
        ));
    of_paths.chain([(IDEMPOTENCY_KEY.to_owned(), RefOr::T(key.build()))])
}

impl PathParameter {
    fn define(self) -> RefOr<Parameter> {
        let schema = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(1))
            .max_length(Some(self.max_length))
            .pattern(Some(self.pattern));
        let parameter = ParameterBuilder::new()
            .name(self.name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(self.description))
            .schema(Some(schema))
            .example(Some(json!(self.example)));
        RefOr::T(parameter.build())
    }
}

/// Adds the parameters that follow from the path and from the row of an operation.
pub(super) fn complete(documented: &mut Documented, operation: &ApiOperation) {
    let reference = |name: &str| RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")));
    let in_path = PATH_PARAMETERS
        .iter()
        .filter(|parameter| operation.path.contains(&format!("{{{}}}", parameter.name)))
        .map(|parameter| reference(parameter.name));
    let others = documented.parameters.take().unwrap_or_default();
    let key = operation.keyed_answer.map(|_| reference(IDEMPOTENCY_KEY));
    let all: Vec<_> = in_path.chain(others).chain(key).collect();
    documented.parameters = (!all.is_empty()).then_some(all);
}
