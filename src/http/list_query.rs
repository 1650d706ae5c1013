//! The query of `list_analyses`: parameters with fixed names, and `metadata.NAME` and `crm.NAME` with names that callers choose.

use actix_web::HttpRequest;
use serde::Deserialize;
use url::form_urlencoded;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::{IntoParams, ToSchema};

use super::field_errors::FieldErrors;
use super::json::shortened;
use super::problem::ApiError;
use super::query::{QueryParameters, QueryTime, parse_query};
use crate::domain::analysis::Status;
use crate::domain::attributes::{Attribute, AttributeSource};
use crate::domain::call_facts::Direction;
use crate::domain::listing::AnalysisFilter;
use crate::domain::phone::{PhoneNumber, Region};
use crate::domain::search::{SearchQuery, SpeakerSide};
use crate::domain::summary::MAX_TAG_CHARS;
use crate::domain::tags::TagKey;

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;
/// Maximum number of `tag` parameters in a request.
const MAX_TAGS: usize = 16;
/// Maximum number of parameters `metadata.NAME` and `crm.NAME` in a request.
const MAX_NAMED: usize = 16;

/// The query parameters of `list_analyses`.
pub struct ListQuery {
    fixed: ListAnalyses,
    /// The parameters `metadata.NAME` and `crm.NAME` with their values.
    named: Vec<(String, String)>,
}

impl QueryParameters for ListQuery {
    fn parse(request: &HttpRequest) -> Result<Self, ApiError> {
        let (mut fixed, mut named) = (Vec::new(), Vec::new());
        for part in request.query_string().split('&') {
            match form_urlencoded::parse(part.as_bytes()).next() {
                Some((name, value)) if source(&name).is_some() => {
                    named.push((name.into_owned(), value.into_owned()));
                }
                _ => fixed.push(part),
            }
        }
        Ok(Self { fixed: parse_query(&fixed.join("&"))?, named })
    }
}

impl ListQuery {
    /// Returns the filter, the cursor and the maximum number of analyses. `region` completes a phone number without a country
    /// code.
    ///
    /// # Errors
    /// `invalid_request`, with all parameters that break a rule.
    pub(super) fn into_filter(
        self,
        region: Region,
    ) -> Result<(AnalysisFilter, Option<String>, usize), ApiError> {
        let mut errors = FieldErrors::default();
        if self.named.len() > MAX_NAMED {
            errors.add("?", format!("must have at most {MAX_NAMED} parameters metadata.NAME and crm.NAME"));
        }
        let mut sources: Vec<_> =
            self.named.iter().filter_map(|(name, value)| Some((source(name)?, name, value))).collect();
        sources.sort_unstable();
        let attribute = |(source, name, value): (_, &String, &String)| {
            errors.take(&shortened(&format!("?{name}")), Attribute::new(source, value))
        };
        let attributes = sources.into_iter().filter_map(attribute).collect();
        self.fixed.into_filter(region, attributes, errors)
    }
}

/// Returns the attribute that a parameter filters by. The parameter is `metadata.NAME` or `crm.NAME`; other parameters return
/// `None`.
fn source(name: &str) -> Option<AttributeSource<'_>> {
    let crm = || name.strip_prefix("crm.").map(AttributeSource::Crm);
    name.strip_prefix("metadata.").map(AttributeSource::Metadata).or_else(crm)
}

impl IntoParams for ListQuery {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = ListAnalyses::into_params(place);
        parameters.push(named_parameters());
        parameters
    }
}

/// Describes the parameters `metadata.NAME` and `crm.NAME`. OpenAPI has no patterns for names of parameters, but each member of an
/// exploded object is a parameter.
fn named_parameters() -> Parameter {
    let text =
        |max: usize| ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(max));
    let names = text(Attribute::MAX_NAME_CHARS + "metadata.".len());
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property_names(Some(names.pattern(Some(r"^(metadata|crm)\.[^\x00]+$")).build()))
        .additional_properties(Some(text(Attribute::MAX_VALUE_CHARS).pattern(Some(r"^[^\x00]+$"))))
        .max_properties(Some(MAX_NAMED));
    ParameterBuilder::new()
        .name("attributes")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .style(Some(ParameterStyle::Form))
        .explode(Some(true))
        .description(Some(
            "Filters by names that you choose: `metadata.NAME=VALUE` and `crm.NAME=VALUE`, up to 16 filters, for example \
             `metadata.ticket=T-1&crm.lead=42`. Each filter is a separate query parameter; there is no parameter called `attributes`. The \
             whole value must match exactly. Write a number as the analysis shows it. For a nested object, the name is a path: \
             `metadata.client.id=7`. An array matches if one of its elements matches. Only the first 32 values of a call's metadata are \
             searchable, with paths of up to 128 and values of up to 256 characters.",
        ))
        .schema(Some(object))
        .build()
}

/// Filters and paging of a list of analyses. The parameters have no examples, because Swagger UI would send them and find
/// nothing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListAnalyses {
    /// Filter by status.
    #[param(inline)]
    status: Option<Status>,
    /// Filter by the exact name of a matched quality rule, for example `Прощание`. Repeat the parameter to require several rules.
    /// Different Unicode spellings of the same characters are equal.
    #[serde(default)]
    #[param(inline, required = false, value_type = Vec<TagName>, max_items = 16)]
    tag: Vec<String>,
    /// Search for up to 16 words; all of them must occur in the transcript. `qabul*` matches every word with that prefix.
    /// Case, diacritics and apostrophes (`oʻ`, `o'`, `o‘`, none) do not matter. Uzbek words match in Latin and in Cyrillic
    /// script, and in the alphabets of 1995 and 2026: `salom` finds `салом`, `shahar` finds `şahar`.
    #[param(min_length = 1, max_length = 256, pattern = r"\S")]
    q: Option<String>,
    /// Search only the words of this speaker. Without `q`, the filter selects calls in which this speaker has at least one turn.
    #[param(inline)]
    speaker: Option<SpeakerSide>,
    /// Only calls with this agent: the exact `call.agent.id` or `call.agent.name`.
    #[param(min_length = 1, max_length = 256, pattern = r"\S")]
    agent: Option<String>,
    /// Only calls with this exact `call.queue`.
    #[param(min_length = 1, max_length = 256, pattern = r"\S")]
    queue: Option<String>,
    /// Only calls with this `call.direction`.
    #[param(inline)]
    direction: Option<Direction>,
    /// Only calls with this `call.phone`, in any spelling: `+998901234567` or `90 123-45-67`. Encode `+` as `%2B`; a space before
    /// the country code also counts as `+`.
    #[param(min_length = 2, max_length = 40, pattern = r"^[0-9\s+()./\u2010-\u2015\u2212-]+$")]
    phone: Option<String>,
    /// Only calls whose first submission was after this time, for example `2026-11-01T00:00:00Z`.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_after: Option<QueryTime>,
    /// Only calls whose first submission was before this time.
    #[param(value_type = Option<String>, format = DateTime, max_length = 40)]
    submitted_before: Option<QueryTime>,
    /// The `next_cursor` of the previous page. Use it with the same filters.
    #[param(min_length = 1, max_length = 256, pattern = r"^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// Maximum number of analyses on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// The name of a quality rule.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 256, pattern = r"^[^\x00]+$")]
#[expect(dead_code, reason = "only describes a schema of the document")]
pub struct TagName(String);

impl ListAnalyses {
    /// Checks the rules that the types do not express.
    ///
    /// # Errors
    /// `invalid_request`, with all parameters that break a rule.
    fn into_filter(
        self,
        region: Region,
        mut attributes: Vec<Attribute>,
        mut errors: FieldErrors,
    ) -> Result<(AnalysisFilter, Option<String>, usize), ApiError> {
        let limit = errors.page_size(self.limit, DEFAULT_LIMIT, MAX_LIMIT);
        if self.tag.len() > MAX_TAGS {
            errors.add("?tag", format!("must be given at most {MAX_TAGS} times"));
        }
        if self
            .tag
            .iter()
            .any(|tag| !(1..=MAX_TAG_CHARS).contains(&tag.chars().count()) || tag.contains('\0'))
        {
            errors.add("?tag", format!("must have 1 to {MAX_TAG_CHARS} characters without NUL"));
        }
        let search = match &self.q {
            None => self.speaker.map(SearchQuery::spoken_by),
            Some(text) => errors.take("?q", SearchQuery::parse(text, self.speaker)),
        };
        attributes.extend(self.facts(region, &mut errors));
        errors.check()?;
        let filter = AnalysisFilter {
            attributes,
            status: self.status,
            tags: self.tag.iter().map(|name| TagKey::of(name)).collect(),
            search,
            submitted_after: self.submitted_after.map(|time| time.0),
            submitted_before: self.submitted_before.map(|time| time.0),
        };
        Ok((filter, self.cursor, limit))
    }

    /// Returns the filters by call facts, in the order of [`AttributeSource`].
    fn facts(&self, region: Region, errors: &mut FieldErrors) -> Vec<Attribute> {
        let phone = self.phone.as_deref().map(with_plus);
        let phone = phone.and_then(|phone| errors.take("?phone", PhoneNumber::parse(&phone, region)));
        let facts = [
            ("?phone", AttributeSource::Phone, phone.as_ref().map(PhoneNumber::as_str)),
            ("?agent", AttributeSource::Agent, self.agent.as_deref()),
            ("?queue", AttributeSource::Queue, self.queue.as_deref()),
            ("?direction", AttributeSource::Direction, self.direction.map(Direction::as_str)),
        ];
        let mut filter = |(pointer, source, value): (&str, _, Option<&str>)| {
            errors.take(pointer, Attribute::new(source, value?))
        };
        facts.into_iter().filter_map(&mut filter).collect()
    }
}

/// Returns a phone number from a query, with a leading space replaced by `+`. In a query, a `+` that is not encoded means a
/// space.
fn with_plus(phone: &str) -> String {
    phone.strip_prefix(' ').map_or_else(|| phone.to_owned(), |number| format!("+{number}"))
}
