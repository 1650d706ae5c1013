//! The environment of all parts of the gateway: clocks, randomness, encryption keys, metrics and the public URL.
//!
//! The composition root builds one [`Env`] and passes clones of it down. A test builds an [`Env`] with its own clock
//! and randomness.

use std::sync::Arc;

use crate::domain::clock::{Clock, Entropy};
use crate::domain::public_url::PublicUrl;
use crate::secrets::Encryption;
use crate::telemetry::metrics::Metrics;

/// The clocks, the source of randomness, the encryption keys, the metrics and the public URL of a process. Clones share them.
#[derive(Clone)]
pub struct Env {
    /// Clock used for schedules, leases, deadlines, expiries and retention. This clock does not follow a jump of its reference
    /// ([`clock_guard`](crate::domain::clock_guard)). The reference is the clock of the machine, or with PostgreSQL the clock of
    /// the database server.
    pub clock: Arc<dyn Clock>,
    /// Clock of the machine, used for tokens and signatures.
    pub wall_clock: Arc<dyn Clock>,
    /// Source of randomness for ids, secrets and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Keys that seal stored secrets and links.
    pub encryption: Arc<Encryption>,
    /// Metrics of the process, as `/metrics` exposes them.
    pub metrics: Arc<Metrics>,
    /// Public URL of the service, for links in answers and events.
    pub public_url: PublicUrl,
}
