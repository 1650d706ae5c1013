//! The call facts of a submission.

use serde::Deserialize;
use serde_json::json;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema as _, ToSchema};

use super::exact_object::ExactObject;
use super::field_errors::FieldErrors;
use super::json::Object;
use crate::domain::call_facts::{Agent, CallFacts, CrmIds, CrmName, Direction, FactText};
use crate::domain::clock::Timestamp;
use crate::domain::phone::{PhoneNumber, Region};

/// A text of 1 to 256 characters without control characters. At least one character is not white space.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256,
    pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\x00- \x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff][^\x00-\x1f\x7f-\x9f]*$")]
#[expect(dead_code, reason = "only describes a schema of the document")]
pub struct FactTextSchema(String);

/// Facts of the call that AloVoice does not know. All are optional; send those that you have. A later submission replaces only
/// the facts that it contains; `agent` and `crm` are each replaced as a whole.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubmittedCall, example = json!({"direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"},
    "phone": "+998901234567", "queue": "support", "crm": {"bitrix24_call_id": "externalCall.a1b2"}}))]
pub struct CallInput {
    /// The direction of the call.
    #[serde(default)]
    direction: Option<Direction>,
    /// The agent of the call.
    #[serde(default)]
    #[schema(value_type = Option<AgentInput>)]
    agent: Option<Object<AgentInput>>,
    /// Phone number of the client, without an extension. It is stored in E.164. The `default_region` of the tenant (`UZ` unless the
    /// operator changed it) completes a number without a country code.
    #[serde(default)]
    #[schema(
        min_length = 2,
        max_length = 40,
        pattern = r"^[0-9\s+()./\u2010-\u2015\u2212-]+$",
        example = "+998901234567"
    )]
    phone: Option<String>,
    /// The queue or line that took the call.
    #[serde(default)]
    #[schema(inline, value_type = Option<FactTextSchema>, example = "support")]
    queue: Option<String>,
    /// Start of the call according to your telephony system.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[serde(default)]
    #[schema(schema_with = crm_schema)]
    crm: Option<ExactObject>,
}

/// The agent of a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubmittedAgent)]
pub struct AgentInput {
    /// Id of the agent in your telephony or CRM.
    #[serde(default)]
    #[schema(inline, value_type = Option<FactTextSchema>, example = "17")]
    id: Option<String>,
    /// Name of the agent.
    #[serde(default)]
    #[schema(inline, value_type = Option<FactTextSchema>, example = "Dilnoza")]
    name: Option<String>,
}

/// Returns the schema of the ids in CRMs.
fn crm_schema() -> Schema {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(CrmName::MAX_CHARS))
        .pattern(Some("^[A-Za-z0-9_.-]+$"));
    ObjectBuilder::new()
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some("Ids of the call in your CRM. You choose the name of each id."))
        .property_names(Some(name.build()))
        .additional_properties(Some(AdditionalProperties::RefOr(FactTextSchema::schema())))
        .max_properties(Some(CallFacts::MAX_CRM_IDS))
        .examples([json!({"bitrix24_call_id": "externalCall.a1b2"})])
        .into()
}

impl CallInput {
    /// Checks every fact. Adds the errors of invalid facts.
    pub(super) fn into_facts(self, region: Region, errors: &mut FieldErrors) -> CallFacts {
        let Self { direction, agent, phone, queue, started_at, crm } = self;
        let mut text =
            |name: &str, text: Option<String>| errors.take(&format!("#/call/{name}"), FactText::parse(text?));
        let agent = agent.map(|Object(agent)| Agent {
            id: text("agent/id", agent.id),
            name: text("agent/name", agent.name),
        });
        let queue = text("queue", queue);
        let phone = phone.and_then(|phone| errors.take("#/call/phone", PhoneNumber::parse(&phone, region)));
        let crm = crm.map(|ids| crm_ids(ids, errors));
        // An agent without an id and without a name is ignored.
        let agent = agent.filter(|agent| agent.id.is_some() || agent.name.is_some());
        CallFacts { direction, agent, phone, queue, started_at, crm }
    }
}

fn crm_ids(ids: ExactObject, errors: &mut FieldErrors) -> CrmIds {
    if ids.0.len() > CallFacts::MAX_CRM_IDS {
        let rule = format!("must have at most {} names, has {}", CallFacts::MAX_CRM_IDS, ids.0.len());
        errors.add("#/call/crm", rule);
        return CrmIds::new();
    }
    let mut found = CrmIds::new();
    for (name, id) in ids.0 {
        let Some(name) = errors.take("#/call/crm", CrmName::parse(name)) else { continue };
        let pointer = format!("#/call/crm/{}", name.as_str());
        let serde_json::Value::String(id) = id else {
            errors.add(pointer, "must be a string");
            continue;
        };
        found.extend(errors.take(&pointer, FactText::parse(id)).map(|id| (name, id)));
    }
    found
}
