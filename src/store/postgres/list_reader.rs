//! Reads pages of analyses, see [`listings`](super::super::listings).

use deadpool_postgres::Object;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::SqlState;

use super::super::StoreError;
use super::super::analysis_rows::{COLUMNS, read_listed};
use super::super::listings::{ListReader, ListWindow, MAX_INDEX_TIME, MAX_MATCHES, read_page};
use super::connect::Session;
use super::fault::Fault;
use super::list_statement::{Statement, expression, whole};
use super::rows::number;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisPage, AnalysisQuery, ListPosition, ListedRow};
use crate::domain::search::{SearchQuery, Term};

/// Maximum number of analyses that one statement examines.
const MAX_WINDOW: usize = 8192;
/// Maximum number of calls that contain a prefix, as estimated by the planner. If more calls contain the prefix, the reader does
/// not look up the prefix in the index of words.
const MAX_ESTIMATED: f64 = 20_000.0;

/// Reads one page of a tenant's analyses.
pub(super) async fn list(
    mut session: Session,
    tenant: &TenantId,
    query: &AnalysisQuery,
) -> Result<AnalysisPage, Fault> {
    let mut reader = PostgresListReader { client: session.client()?, tenant, query };
    Ok(read_page(&mut reader, query).await?)
}

struct PostgresListReader<'a> {
    client: &'a mut Object,
    tenant: &'a TenantId,
    query: &'a AnalysisQuery,
}

impl ListReader for PostgresListReader<'_> {
    async fn window(
        &mut self,
        after: Option<&ListPosition>,
        rows: usize,
        wanted: usize,
    ) -> Result<ListWindow, StoreError> {
        let mut sql = Statement::of(self.tenant);
        let (source, bounds) = match self.query.filter.attributes.first() {
            Some(attribute) => ("attributes", sql.bounds_of_attribute(attribute, self.query, after)),
            None => ("analyses", sql.bounds(self.query, after)),
        };
        let id = if source == "attributes" { "analysis AS id" } else { "id" };
        let matching = sql.joins(self.tenant, self.query, "examined");
        // The number of rows is part of the statement, because the planner's choice depends on it. It is a power of two, so few
        // different statements are prepared.
        let rows = if rows > wanted { 1 << rows.ilog2() } else { rows.next_power_of_two() }.min(MAX_WINDOW);
        let wanted = sql.bind(whole(wanted));
        let text = format!(
            "WITH examined AS MATERIALIZED (SELECT {id}, submitted_at, call_id FROM {source} WHERE {bounds} \
             ORDER BY submitted_at DESC, call_id DESC LIMIT {rows}), \
             matching AS MATERIALIZED (SELECT examined.id FROM examined {matching} \
             ORDER BY examined.submitted_at DESC, examined.call_id DESC LIMIT {wanted}), \
             oldest AS (SELECT submitted_at, call_id FROM examined ORDER BY submitted_at, call_id LIMIT 1) \
             SELECT (SELECT count(*) FROM examined) AS examined, oldest.submitted_at AS oldest_at, \
             oldest.call_id AS oldest_call, page.* FROM oldest LEFT JOIN (SELECT {COLUMNS}, summary FROM matching \
             JOIN analyses USING (id) LEFT JOIN listings ON listings.analysis = id) AS page ON true \
             ORDER BY page.submitted_at DESC, page.call_id DESC"
        );
        let found = sql.query(self.client, &text).await?;
        let Some(first) = found.first() else {
            return Ok(ListWindow { matches: Vec::new(), examined: 0, last: None });
        };
        let examined: usize = number(first, "examined")?;
        let last = ListPosition {
            submitted_at: Timestamp::from_millis(number(first, "oldest_at")?),
            call_id: first.try_get("oldest_call").map_err(Fault::from)?,
        };
        let mut matches = Vec::new();
        for row in &found {
            if row.try_get::<_, Option<i64>>("id")?.is_some() {
                matches.push(read_listed(row)?);
            }
        }
        Ok(ListWindow { matches, examined, last: (examined == rows).then_some(last) })
    }

    async fn find_all(&mut self) -> Result<Option<Vec<ListedRow>>, StoreError> {
        let Some(ids) = self.find_candidates().await? else { return Ok(None) };
        let mut sql = Statement::of(self.tenant);
        let bounds = sql.bounds(self.query, self.query.after.as_ref());
        let matching = sql.joins(self.tenant, self.query, "analyses");
        let (ids, limit) = (sql.bind(ids), sql.bind(whole(self.query.limit)));
        let text = format!(
            "SELECT {COLUMNS}, summary FROM analyses LEFT JOIN listings ON listings.analysis = id {matching} \
             WHERE {bounds} AND id = ANY ({ids}) ORDER BY submitted_at DESC, call_id DESC LIMIT {limit}"
        );
        let found = sql.query(self.client, &text).await?;
        Ok(Some(found.iter().map(|row| read_listed(row)).collect::<Result<_, _>>()?))
    }
}

impl PostgresListReader<'_> {
    /// Finds candidates, a superset of the matches. The function tries several searches: one for each attribute, one for each
    /// tag, and one for all words together. The first search that is selective enough and fast enough supplies the candidates.
    /// Returns `None` if no search is selective and fast enough.
    async fn find_candidates(&mut self) -> Result<Option<Vec<i64>>, Fault> {
        let filter = &self.query.filter;
        let mut searches = Vec::new();
        for attribute in &filter.attributes {
            let mut sql = Statement::of(self.tenant);
            let is_attribute = sql.attribute(attribute);
            searches
                .push((sql, format!("SELECT analysis FROM attributes WHERE tenant = $1 AND {is_attribute}")));
        }
        for key in &filter.tags {
            let mut sql = Statement::of(self.tenant);
            let name = sql.bind(key.as_str().to_owned());
            searches.push((sql, format!("SELECT analysis FROM tags WHERE tenant = $1 AND name = {name}")));
        }
        if let Some(search) = &filter.search {
            let terms = self.selective_terms(search).await?;
            if !terms.is_empty() {
                let mut sql = Statement::default();
                let query = sql.bind(expression(&terms));
                let text =
                    format!("SELECT analysis FROM search WHERE words @@ (SELECT {query}::text::tsquery)");
                searches.push((sql, text));
            }
        }
        for (sql, text) in searches {
            let text = format!("{text} LIMIT {}", MAX_MATCHES + 1);
            if let Some(ids) = self.find_in_time(&sql, &text).await?
                && ids.len() <= MAX_MATCHES
            {
                return Ok(Some(ids));
            }
        }
        Ok(None)
    }

    /// Returns those terms of a search that the index of words can find. If only the tenant's term is left, returns no terms,
    /// because this term does not exclude any call of the tenant.
    ///
    /// At most one prefix is among the terms: the one with the lowest estimate, if this estimate is at most [`MAX_ESTIMATED`].
    /// PostgreSQL first collects all calls that contain a prefix. Nothing can interrupt PostgreSQL while it collects them.
    async fn selective_terms(&self, search: &SearchQuery) -> Result<Vec<Term>, Fault> {
        let (prefixes, mut terms): (Vec<_>, Vec<_>) =
            search.terms(self.tenant).into_iter().partition(|term| term.prefix);
        let (mut rarest, mut fewest) = (None, MAX_ESTIMATED);
        for prefix in prefixes {
            let calls = self.estimate(&prefix).await?;
            if calls <= fewest {
                (rarest, fewest) = (Some(prefix), calls);
            }
        }
        terms.extend(rarest);
        // The first term is the tenant.
        Ok(if terms.len() > 1 { terms } else { Vec::new() })
    }

    /// Returns the planner's estimate of the number of calls that contain a word that matches the term. The planner has statistics of
    /// frequent words only.
    async fn estimate(&self, term: &Term) -> Result<f64, Fault> {
        let query = expression(std::slice::from_ref(term));
        let explain = format!(
            "EXPLAIN (FORMAT JSON) SELECT 1 FROM search WHERE words @@ $query${query}$query$::tsquery"
        );
        let answer = self.client.simple_query(&explain).await?;
        let plan = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        let plan: Option<serde_json::Value> = plan.and_then(|plan| serde_json::from_str(plan).ok());
        Ok(plan.and_then(|plan| plan.pointer("/0/Plan/Plan Rows")?.as_f64()).unwrap_or(f64::INFINITY))
    }

    /// Reads a column of numbers. Returns `None` if the read takes longer than [`MAX_INDEX_TIME`]. If this future is dropped, its
    /// connection is closed, so no operation finds the open transaction.
    async fn find_in_time(&mut self, sql: &Statement, text: &str) -> Result<Option<Vec<i64>>, Fault> {
        let limit = MAX_INDEX_TIME.as_millis();
        self.client.batch_execute(&format!("BEGIN; SET LOCAL statement_timeout = {limit}")).await?;
        let found = sql.query(&*self.client, text).await;
        // A failed transaction has no limit any more. In a healthy one the limit must end before `ROLLBACK`. Otherwise the server
        // might cancel `ROLLBACK`, or, if the time passes at its end, the next statement of the connection.
        let end = if found.is_ok() { "SET LOCAL statement_timeout = 0; ROLLBACK" } else { "ROLLBACK" };
        match self.client.batch_execute(end).await {
            Err(error) if is_cancelled(&error) => self.client.batch_execute("ROLLBACK").await?,
            ended => ended?,
        }
        match found {
            Ok(rows) => Ok(Some(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)),
            Err(error) if is_cancelled(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the server cancelled the statement.
fn is_cancelled(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::QUERY_CANCELED)
}
