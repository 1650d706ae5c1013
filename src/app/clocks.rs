//! Starts the keeper of the gateway's clock.

use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::alovoice::VendorClient;
use crate::config::{Settings, StoreUrl};
use crate::domain::clock::SteadyClock;
use crate::domain::clock_guard::TOLERANCE;
use crate::domain::clock_status::ClockStatus;
use crate::domain::retries::RetrySchedule;
use crate::env::Env;
use crate::store::Store;
use crate::workers::{ClockKeeper, Clocks};

/// Maximum gradual correction of the clock at one comparison. The correction is so small that it ends no lease early.
const GRADUAL: Duration = Duration::from_millis(200);

/// Creates the keeper of the gateway's clock `own`, and sets `own` to its initial time. `server` shows the time of a
/// PostgreSQL server.
pub(super) async fn keep(
    settings: &Settings,
    (own, server): (Arc<SteadyClock>, Arc<SteadyClock>),
    vendor: Arc<VendorClient>,
    store: Arc<dyn Store>,
    env: &Env,
) -> Result<(ClockKeeper, Arc<ClockStatus>), StartError> {
    let machine = env.wall_clock.clone();
    let clocks = match settings.store.url {
        StoreUrl::Sqlite(_) => Clocks { own, reference: machine, gradual: GRADUAL, machine: None, vendor },
        // All replicas follow the server's clock, so small differences are corrected at once.
        StoreUrl::Postgres(_) => {
            Clocks { own, reference: server, gradual: TOLERANCE, machine: Some(machine), vendor }
        }
    };
    let schedule = RetrySchedule::new(settings.callbacks.retry_schedule.clone());
    let status = Arc::new(ClockStatus::default());
    let keeper = ClockKeeper::start(clocks, store, &schedule, env.clone(), status.clone()).await;
    Ok((keeper.map_err(StartError::part("the clock"))?, status))
}
