//! URLs of callbacks, for the command `store reseal`. A delivery has a copy of the URL of its callback.

use super::StoreError;
use super::delivery_rows::call_id;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::values::{Row, values};
use crate::domain::ids::{CallId, TenantId};

/// A table with URLs of callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlTable {
    /// The callbacks of submissions.
    Callbacks,
    /// The deliveries. The URL of a delivery to a webhook is empty.
    Deliveries,
}

/// The URL of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUrl {
    /// Number of the analysis or of the delivery.
    pub row: i64,
    /// The tenant of the call.
    pub tenant: TenantId,
    /// The call; `None` for a delivery about a webhook.
    pub call_id: Option<CallId>,
    /// The text of the URL as stored.
    pub url: String,
}

pub(super) struct StoredUrls {
    pub(super) table: UrlTable,
    pub(super) after: i64,
    pub(super) limit: usize,
}

impl Rule for StoredUrls {
    const NAME: &'static str = "stored_urls";
    type Output = Vec<StoredUrl>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<StoredUrl>, StoreError> {
        let callbacks = sql!(
            "SELECT analysis AS place, url, tenant, call_id FROM callbacks JOIN analyses ON id = analysis \
             WHERE analysis IN (SELECT DISTINCT analysis FROM callbacks WHERE analysis > ?1 ORDER BY analysis LIMIT ?2) \
             ORDER BY analysis"
        );
        let deliveries = sql!(
            "SELECT seq AS place, url, tenant, call_id FROM deliveries WHERE seq > ?1 ORDER BY seq LIMIT ?2"
        );
        let select = match self.table {
            UrlTable::Callbacks => callbacks,
            UrlTable::Deliveries => deliveries,
        };
        transaction.query(select, values![self.after, self.limit], read).await
    }
}

fn read(row: &dyn Row) -> Result<StoredUrl, StoreError> {
    Ok(StoredUrl {
        row: row.get("place")?,
        tenant: row.get("tenant")?,
        call_id: call_id(row)?,
        url: row.get("url")?,
    })
}

pub(super) struct ResealUrls {
    pub(super) table: UrlTable,
    pub(super) urls: Vec<(StoredUrl, String)>,
}

impl Rule for ResealUrls {
    const NAME: &'static str = "reseal_urls";
    const NOTIFIES: bool = false;
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let update = match self.table {
            UrlTable::Callbacks => sql!("UPDATE callbacks SET url = ?3 WHERE analysis = ?1 AND url = ?2"),
            UrlTable::Deliveries => sql!("UPDATE deliveries SET url = ?3 WHERE seq = ?1 AND url = ?2"),
        };
        let mut written = 0;
        for (was, sealed) in &self.urls {
            written += transaction.execute(update, values![was.row, &was.url, sealed]).await?;
        }
        Ok(written)
    }
}
