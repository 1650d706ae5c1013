//! Cancels the statements of scans whose callers no longer wait.
//!
//! A dropped scan leaves a statement in progress on its connection. The gateway asks the server to cancel this statement, and
//! closes the connection. The connection is not reused, because a cancel request that arrives late would cancel a statement of
//! the next operation.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::CancelToken;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::scan_limits::ScanPermit;
use super::connect::{ReturnedConnection, Session};
use super::fault::Fault;

/// Time limit of a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a scan on a session. Dropping the future cancels the statement in progress.
pub(super) async fn cancel_on_drop<T, F>(
    mut session: Session,
    tls: MakeRustlsConnect,
    permit: Arc<ScanPermit>,
    scan: impl FnOnce(Session) -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let token = session.client()?.cancel_token();
    let connection = session.keep_connection();
    let mut cancel = CancelOnDrop { connection, unfinished: Some((token, tls, permit)) };
    let outcome = scan(session).await;
    cancel.unfinished = None;
    outcome
}

struct CancelOnDrop {
    connection: ReturnedConnection,
    /// The cancel token, the TLS settings and the permit of the scan; `None` once the scan has ended.
    unfinished: Option<(CancelToken, MakeRustlsConnect, Arc<ScanPermit>)>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(connection), Some((token, tls, permit))) = (connection, self.unfinished.take()) else {
            return;
        };
        let connection = Object::take(connection);
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            match timeout(CANCEL_TIMEOUT, token.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "failed to cancel a statement"),
                Err(_) => tracing::warn!("failed to cancel a statement in time"),
            }
            // The statement may run until the connection is closed.
            drop(connection);
            drop(permit);
        });
    }
}
