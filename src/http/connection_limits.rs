//! Limits the number of connections per tenant, so that other tenants can connect.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpRequest;
use tokio::sync::Semaphore;

use super::connection_state::{ConnectionPlace, ConnectionState};
use crate::domain::ids::TenantId;

/// The maximum number of open connections of each tenant.
pub struct ConnectionLimits(HashMap<TenantId, Arc<Semaphore>>);

/// The tenant has too many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tenant has too many open connections")]
pub struct TooManyConnections;

impl ConnectionLimits {
    /// Creates the limits. A single tenant may use all connections. With several tenants, each may use half of them.
    pub fn new<'a>(max_connections: usize, tenants: impl IntoIterator<Item = &'a TenantId>) -> Self {
        let tenants: Vec<_> = tenants.into_iter().collect();
        let most = if tenants.len() > 1 { max_connections.div_ceil(2) } else { max_connections };
        Self(tenants.into_iter().map(|tenant| (tenant.clone(), Arc::new(Semaphore::new(most)))).collect())
    }

    /// Counts the connection of a request as a connection of the tenant, until the connection closes or another tenant uses the
    /// connection.
    ///
    /// # Errors
    /// [`TooManyConnections`] if the tenant has reached its limit. In this case, the connection ends after the answer.
    pub(super) fn count(&self, request: &HttpRequest, tenant: &TenantId) -> Result<(), TooManyConnections> {
        let (Some(connection), Some(places)) = (ConnectionState::of(request), self.0.get(tenant)) else {
            return Ok(());
        };
        let mut place = connection.place.borrow_mut();
        if place.as_ref().is_some_and(|place| place.tenant == *tenant) {
            return Ok(());
        }
        *place = None;
        let permit = Arc::clone(places).try_acquire_owned().map_err(|_| {
            connection.is_last.set(true);
            TooManyConnections
        })?;
        *place = Some(ConnectionPlace { tenant: tenant.clone(), _permit: permit });
        Ok(())
    }
}
