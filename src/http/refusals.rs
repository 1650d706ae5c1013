//! The log of refused requests: one line for each answer with status 401 or 403. The line contains the reason and the claim
//! that caused the refusal, but not the token.
//!
//! Callers determine the number of refused requests. Therefore the number of lines is limited for each pair of reason and
//! issuer. If lines were suppressed, a later line says how many. The metric `token_rejections_total` counts all refusals of
//! tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::auth::{Caller, RejectedToken};
use crate::config::{IssuerSettings, claim_names};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::ids::TenantId;

/// Maximum number of lines for a pair of reason and issuer in each window.
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// The fields of a log line about a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal, as in the metric `token_rejections_total`.
    pub reason: &'static str,
    /// The issuer that the token names, if it is configured.
    pub issuer: Option<String>,
    /// The claims that caused the refusal.
    pub claim: Option<String>,
    /// The tenant of a verified token.
    pub tenant: Option<TenantId>,
}

impl Refusal {
    /// Creates a refusal for a reason that does not concern a token.
    pub fn without_token(reason: &'static str) -> Self {
        Self { reason, issuer: None, claim: None, tenant: None }
    }

    /// Creates the refusal of a rejected token.
    pub fn of_token(rejected: RejectedToken) -> Self {
        let RejectedToken { rejection, issuer, claim } = rejected;
        Self { reason: rejection.reason(), issuer, claim, tenant: None }
    }

    /// Creates the refusal of a verified token whose tenant is not configured.
    pub fn unknown_tenant(caller: &Caller, issuer: Option<&IssuerSettings>) -> Self {
        Self::of_caller("unknown_tenant", caller, issuer.map(|issuer| claim_names(&issuer.tenant_claim)))
    }

    /// Creates the refusal of a verified token without the scope of the operation.
    pub fn insufficient_scope(caller: &Caller, issuer: Option<&IssuerSettings>) -> Self {
        Self::of_caller("insufficient_scope", caller, issuer.map(|issuer| claim_names(&issuer.scope_claim)))
    }

    fn of_caller(reason: &'static str, caller: &Caller, claim: Option<String>) -> Self {
        Self { reason, issuer: Some(caller.issuer.clone()), claim, tenant: Some(caller.tenant.clone()) }
    }
}

/// Writes the log lines about refused requests, and limits their number. Each pair of reason and issuer has its own counter.
/// There are few such pairs, so the memory of the counters is bounded.
pub struct RefusalLog {
    clock: Arc<dyn Clock>,
    windows: Mutex<HashMap<Kind, Window>>,
}

/// The reason and the issuer of a refusal.
type Kind = (&'static str, Option<String>);

struct Window {
    began: Timestamp,
    lines: u32,
    /// Number of suppressed lines that no log line has reported yet.
    suppressed: u64,
}

/// The decision whether to write the line of a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Written,
    /// The line is suppressed, and all earlier suppressed lines were already reported. The caller must report the number of
    /// suppressed lines later.
    SuppressedFirst,
    Suppressed,
}

impl RefusalLog {
    /// Creates a log that has written no lines yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, windows: Mutex::default() })
    }

    /// Writes the line of a refused request, unless there are too many. The number of suppressed lines follows after [`WINDOW`].
    pub(super) fn write(self: &Arc<Self>, refusal: &Refusal, detail: &str, request_id: &str) {
        let kind = (refusal.reason, refusal.issuer.clone());
        match self.admit(&kind) {
            Admission::Written => {
                let Refusal { reason, issuer, claim, tenant } = refusal;
                let tenant = tenant.as_ref().map(TenantId::as_str);
                tracing::info!(reason, detail, issuer, claim, tenant, request_id, "request refused");
            }
            Admission::SuppressedFirst => {
                let log = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(WINDOW).await;
                    let suppressed = log.take_suppressed(&kind);
                    tracing::info!(
                        reason = kind.0,
                        issuer = kind.1,
                        suppressed,
                        "further refusals were not logged one by one"
                    );
                });
            }
            Admission::Suppressed => {}
        }
    }

    fn admit(&self, kind: &Kind) -> Admission {
        let now = self.clock.now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry(kind.clone()).or_insert(Window { began: now, lines: 0, suppressed: 0 });
        if now.since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines < MAX_LINES {
            window.lines += 1;
            return Admission::Written;
        }
        window.suppressed += 1;
        if window.suppressed == 1 { Admission::SuppressedFirst } else { Admission::Suppressed }
    }

    /// Returns the number of lines suppressed since the last call, and resets this number.
    fn take_suppressed(&self, kind: &Kind) -> u64 {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.get_mut(kind).map_or(0, |window| std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[derive(Default)]
    struct ManualClock(AtomicI64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn lines_are_limited_for_each_reason_and_issuer() {
        let clock = Arc::new(ManualClock::default());
        let log = RefusalLog::new(clock.clone());
        let of = |reason, issuer: &str| (reason, Some(issuer.to_owned()));
        let expired = of("expired", "https://a.test");
        for kind in [
            expired.clone(),
            of("audience", "https://a.test"),
            of("expired", "https://b.test"),
            ("missing", None),
        ] {
            let admitted: Vec<_> = (0..25).map(|_| log.admit(&kind)).collect();
            assert!(admitted[..10].iter().all(|admission| *admission == Admission::Written), "{kind:?}");
            assert_eq!(admitted[10], Admission::SuppressedFirst);
            assert!(admitted[11..].iter().all(|admission| *admission == Admission::Suppressed), "{kind:?}");
        }
        clock.0.store(9_999, Ordering::SeqCst);
        assert_eq!(log.admit(&expired), Admission::Suppressed);
        assert_eq!((log.take_suppressed(&expired), log.take_suppressed(&expired)), (16, 0));
        assert_eq!(
            log.admit(&expired),
            Admission::SuppressedFirst,
            "a count follows each count with new lines"
        );
        clock.0.store(10_000, Ordering::SeqCst);
        assert_eq!(log.admit(&expired), Admission::Written);
        assert_eq!(log.take_suppressed(&expired), 1);
    }
}
