//! Call facts: data about a call that the caller has and AloVoice does not return, such as the agent and the phone number.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::clock::Timestamp;
use super::phone::PhoneNumber;

/// The direction of the call: `inbound` (the client called the company) or `outbound` (the agent called the client).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The client called the company.
    Inbound,
    /// The agent called the client.
    Outbound,
}

impl Direction {
    /// Returns the name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl<'de> Deserialize<'de> for Direction {
    /// Reads a string first, because the derived code would report a value of another type as malformed JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        [Self::Inbound, Self::Outbound]
            .into_iter()
            .find(|direction| direction.as_str() == word)
            .ok_or_else(|| D::Error::unknown_variant(&word, &["inbound", "outbound"]))
    }
}

/// A text of a call fact: 1 to 256 characters on one line, and not only spaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct FactText(String);

/// Reason why a text is not a [`FactText`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFactText {
    /// The text is empty or too long, or has only white space.
    #[error("must have 1 to {max} characters that are not all spaces", max = FactText::MAX_CHARS)]
    Length,
    /// The text has a control character such as a line break.
    #[error("must not have control characters such as line breaks")]
    Control,
}

impl FactText {
    /// Maximum length in characters.
    pub const MAX_CHARS: usize = 256;

    /// Checks the length and the characters.
    ///
    /// # Errors
    /// [`InvalidFactText`] names the broken rule.
    pub fn parse(text: String) -> Result<Self, InvalidFactText> {
        // A byte order mark is invisible too, although Unicode does not count it as white space.
        let is_blank = text.chars().all(|c| c.is_whitespace() || c == '\u{feff}');
        if is_blank || text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(InvalidFactText::Length);
        }
        if text.contains(char::is_control) {
            return Err(InvalidFactText::Control);
        }
        Ok(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FactText {
    type Error = InvalidFactText;

    fn try_from(text: String) -> Result<Self, InvalidFactText> {
        Self::parse(text)
    }
}

/// Name of an id in a CRM, for example `bitrix24_call_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CrmName(String);

/// The text is not a [`CrmName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a name of 1 to {max} characters of A-Z a-z 0-9 _ . -", max = CrmName::MAX_CHARS)]
pub struct InvalidCrmName;

impl CrmName {
    /// Maximum length in characters.
    pub const MAX_CHARS: usize = 64;

    /// Checks the length and the characters.
    ///
    /// # Errors
    /// [`InvalidCrmName`] if a rule is broken.
    pub fn parse(text: String) -> Result<Self, InvalidCrmName> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let is_name = (1..=Self::MAX_CHARS).contains(&text.len()) && text.chars().all(is_allowed);
        if is_name { Ok(Self(text)) } else { Err(InvalidCrmName) }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CrmName {
    type Error = InvalidCrmName;

    fn try_from(text: String) -> Result<Self, InvalidCrmName> {
        Self::parse(text)
    }
}

/// The agent of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CallAgent)]
pub struct Agent {
    /// Id of the agent in your telephony or CRM.
    #[schema(required = true, value_type = Option<String>, max_length = 256, example = "17")]
    pub id: Option<FactText>,
    /// Name of the agent.
    #[schema(required = true, value_type = Option<String>, max_length = 256, example = "Dilnoza")]
    pub name: Option<FactText>,
}

/// Ids of the call in CRMs, by name.
pub type CrmIds = BTreeMap<CrmName, FactText>;

/// The facts of a call from its submissions. A fact that no submission gave is `null`. If no submission gave ids, `crm` is an
/// empty object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct CallFacts {
    /// The direction of the call.
    #[schema(required = true)]
    pub direction: Option<Direction>,
    /// The agent of the call.
    #[schema(required = true)]
    pub agent: Option<Agent>,
    /// Phone number of the client in E.164.
    #[schema(required = true, value_type = Option<String>, max_length = 16, example = "+998901234567")]
    pub phone: Option<PhoneNumber>,
    /// The queue or line that took the call.
    #[schema(required = true, value_type = Option<String>, max_length = 256, example = "support")]
    pub queue: Option<FactText>,
    /// Start of the call according to your telephony system.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// Ids of the call in your CRM.
    #[serde(serialize_with = "or_empty", deserialize_with = "unless_empty")]
    #[schema(required = true, value_type = HashMap<String, String>, default = json!({}), example = json!({"bitrix24_call_id": "externalCall.a1b2"}))]
    pub crm: Option<CrmIds>,
}

fn or_empty<S: Serializer>(crm: &Option<CrmIds>, serializer: S) -> Result<S::Ok, S::Error> {
    crm.as_ref().unwrap_or(&CrmIds::new()).serialize(serializer)
}

fn unless_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CrmIds>, D::Error> {
    Ok(Some(CrmIds::deserialize(deserializer)?).filter(|crm| !crm.is_empty()))
}

impl CallFacts {
    /// Maximum number of ids in [`CallFacts::crm`].
    pub const MAX_CRM_IDS: usize = 16;

    /// Replaces the facts that `given` has, and keeps the other facts. The agent and the ids in CRMs are each replaced as a
    /// whole, because the name of one agent must not stay beside the id of another agent. An empty map of ids removes the ids.
    pub fn replace_by(&mut self, given: &Self) {
        let Self { direction, agent, phone, queue, started_at, crm } = given;
        replace(&mut self.direction, direction);
        replace(&mut self.agent, agent);
        replace(&mut self.phone, phone);
        replace(&mut self.queue, queue);
        replace(&mut self.started_at, started_at);
        replace(&mut self.crm, crm);
        self.crm.take_if(|crm| crm.is_empty());
    }
}

fn replace<T: Clone>(fact: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        fact.clone_from(given);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(value: serde_json::Value) -> CallFacts {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn facts_keep_their_form() {
        let all = json!({
            "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567",
            "queue": "support", "started_at": "2024-05-20T12:20:17Z", "crm": {"bitrix24_call_id": "a.1"},
        });
        assert_eq!(serde_json::to_value(facts(all.clone())).unwrap(), all);
        let none = json!({
            "direction": null, "agent": null, "phone": null, "queue": null, "started_at": null, "crm": {},
        });
        assert_eq!(serde_json::to_value(CallFacts::default()).unwrap(), none);
        assert_eq!((facts(none), facts(json!({}))), (CallFacts::default(), CallFacts::default()));
    }

    #[test]
    fn a_submission_replaces_the_facts_that_it_has() {
        let mut call = facts(json!({
            "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567",
            "crm": {"lead": "1", "deal": "2"},
        }));
        call.replace_by(&CallFacts::default());
        call.replace_by(&facts(
            json!({"agent": {"id": "18", "name": null}, "queue": "sales", "crm": {"lead": "3"}}),
        ));
        let expected = facts(json!({
            "direction": "inbound", "agent": {"id": "18", "name": null}, "phone": "+998901234567", "queue": "sales",
            "crm": {"lead": "3"},
        }));
        assert_eq!(call, expected);
        call.replace_by(&CallFacts { crm: Some(CrmIds::new()), ..CallFacts::default() });
        assert_eq!(call, CallFacts { crm: None, ..expected });
    }

    #[test]
    fn texts_and_names_have_bounds() {
        let text = |text: &str| FactText::parse(text.to_owned()).map(|text| text.0);
        let longest = "ў".repeat(256);
        assert_eq!(text(&longest).as_ref(), Ok(&longest));
        for invalid in ["", "  ", "\u{feff}", &"ў".repeat(257)] {
            assert_eq!(text(invalid), Err(InvalidFactText::Length), "{invalid:?}");
        }
        for invalid in ["a\nb", "a\0", "\u{85}a"] {
            assert_eq!(text(invalid), Err(InvalidFactText::Control), "{invalid:?}");
        }
        let name = |name: &str| CrmName::parse(name.to_owned()).is_ok();
        assert!(name("bitrix24_call-id.2") && name(&"a".repeat(64)));
        assert!(!name("") && !name(&"a".repeat(65)) && !name("a b") && !name("ў") && !name("a\0"));
    }
}
