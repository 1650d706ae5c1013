//! Builds the statements that read pages of analyses, and the parameters of these statements.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use crate::domain::analysis::Status;
use crate::domain::attributes::Attribute;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListPosition, UpperBound};
use crate::domain::search::Term;

/// The parameters of a statement, which are collected while the text of the statement is built.
#[derive(Default)]
pub(super) struct Statement(Vec<Box<dyn ToSql + Sync + Send>>);

impl Statement {
    /// Creates a list of parameters that begins with the tenant.
    pub(super) fn of(tenant: &TenantId) -> Self {
        Self(vec![Box::new(tenant.as_str().to_owned())])
    }

    /// Adds a parameter and returns its name.
    pub(super) fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.0.push(Box::new(value));
        format!("${}", self.0.len())
    }

    /// Returns the conditions that select a range of an index of `analyses`.
    pub(super) fn bounds(&mut self, query: &AnalysisQuery, after: Option<&ListPosition>) -> String {
        let filter = &query.filter;
        let mut conditions = vec!["analyses.tenant = $1".to_owned()];
        // PostgreSQL uses a partial index only if its condition is written in the same way.
        match filter.status {
            Some(status) if status != Status::Completed => {
                conditions.push(format!("status = {} AND status <> 'completed'", self.bind(status.as_str())));
            }
            _ if filter.needs_result() => conditions.push("revision > 0".to_owned()),
            _ => {}
        }
        conditions.extend(self.bounds_of_position(query, after));
        conditions.join(" AND ")
    }

    /// Returns the conditions that select a range of the index of attributes: the entries of one attribute.
    pub(super) fn bounds_of_attribute(
        &mut self,
        attribute: &Attribute,
        query: &AnalysisQuery,
        after: Option<&ListPosition>,
    ) -> String {
        let mut conditions = vec!["tenant = $1".to_owned(), self.attribute(attribute)];
        conditions.extend(self.bounds_of_position(query, after));
        conditions.join(" AND ")
    }

    /// Returns the condition on a row of the table `attributes`, without the condition on the tenant.
    pub(super) fn attribute(&mut self, attribute: &Attribute) -> String {
        let name = self.bind(attribute.name().to_owned());
        format!("name = {name} AND value = {}", self.bind(attribute.value().to_owned()))
    }

    /// Returns the conditions on the time of submission and the position.
    fn bounds_of_position(&mut self, query: &AnalysisQuery, after: Option<&ListPosition>) -> Vec<String> {
        let (filter, mut conditions) = (&query.filter, Vec::new());
        if let Some(after) = filter.submitted_after {
            conditions.push(format!("submitted_at > {}", self.bind(after.as_millis())));
        }
        match filter.upper_bound(after) {
            Some(UpperBound::Before(before)) => {
                conditions.push(format!("submitted_at < {}", self.bind(before.as_millis())));
            }
            Some(UpperBound::After(position)) => {
                let submitted_at = self.bind(position.submitted_at.as_millis());
                let call_id = self.bind(position.call_id.clone());
                conditions.push(format!("(submitted_at, call_id) < ({submitted_at}, {call_id})"));
            }
            None => {}
        }
        conditions
    }

    /// Returns joins that keep only those rows of `table` that match the query. Because of the `LIMIT` in each join, the planner
    /// looks up one row at a time and does not read all matching rows.
    pub(super) fn joins(&mut self, tenant: &TenantId, query: &AnalysisQuery, table: &str) -> String {
        let filter = &query.filter;
        let mut joins = String::new();
        let mut join = |index: usize, condition: &str| {
            joins += &format!(" CROSS JOIN LATERAL (SELECT 1 FROM {condition} LIMIT 1) AS match{index}");
        };
        // The bounds of the walk already select any other status, unless the walk reads along an attribute.
        if let Some(status) = filter.status
            && (status == Status::Completed || !filter.attributes.is_empty())
        {
            join(0, &format!("analyses AS a WHERE a.id = {table}.id AND a.status = '{}'", status.as_str()));
        }
        if let Some(search) = &filter.search {
            let words = self.bind(expression(&search.terms(tenant)));
            join(
                1,
                &format!(
                    "search WHERE search.analysis = {table}.id AND words @@ (SELECT {words}::text::tsquery)"
                ),
            );
        }
        for (index, key) in filter.tags.iter().enumerate() {
            let name = self.bind(key.as_str().to_owned());
            join(
                index + 2,
                &format!("tags WHERE tags.tenant = $1 AND name = {name} AND tags.analysis = {table}.id"),
            );
        }
        for (index, attribute) in filter.attributes.iter().enumerate() {
            let is_attribute = self.attribute(attribute);
            join(
                index + 2 + filter.tags.len(),
                &format!("attributes WHERE attributes.analysis = {table}.id AND {is_attribute}"),
            );
        }
        joins
    }

    /// Runs the statement that has this text and these parameters.
    pub(super) async fn query(
        &self,
        client: &impl GenericClient,
        text: &str,
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        let select = client.prepare_cached(text).await?;
        let values: Vec<&(dyn ToSql + Sync)> =
            self.0.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
        client.query(&select, &values).await
    }
}

/// Returns a number for a parameter. The number saturates at `i64::MAX`.
pub(super) fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns terms as a `tsquery`. The words contain no quotes.
pub(super) fn expression(terms: &[Term]) -> String {
    let terms = terms.iter().map(|term| {
        let star = if term.prefix { ":*" } else { "" };
        let forms: Vec<String> = term.forms.iter().map(|form| format!("'{form}'{star}")).collect();
        format!("({})", forms.join(" | "))
    });
    terms.collect::<Vec<_>>().join(" & ")
}
