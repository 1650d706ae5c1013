//! The environment of all parts of the gateway: clocks, randomness and metrics.
//!
//! The composition root builds one [`Env`] and passes clones of it down. A test builds an [`Env`] with its own clock
//! and randomness.

use std::sync::Arc;

use crate::domain::clock::{Clock, Entropy};
use crate::telemetry::metrics::Metrics;

/// The clocks, the source of randomness and the metrics of a process. Clones share them.
#[derive(Clone)]
pub struct Env {
    /// Clock used for schedules and leases. It does not jump. With PostgreSQL it follows the clock of the database server.
    pub clock: Arc<dyn Clock>,
    /// Clock of the machine, used for tokens and signatures.
    pub wall_clock: Arc<dyn Clock>,
    /// Source of randomness for ids, secrets and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Metrics of the process, as `/metrics` exposes them.
    pub metrics: Arc<Metrics>,
}
