//! The log of refused requests: a line for an answer 401 or 403, with the reason and the claim concerned and without
//! the token.
//!
//! Callers determine the number of refused requests, so the lines are limited for each reason and issuer. The next
//! line has the number of suppressed lines. The metric `token_rejections_total` counts all refusals of tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::auth::{Caller, RejectedToken};
use crate::config::{IssuerSettings, claim_names};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::ids::TenantId;

/// Maximum number of lines for a reason and an issuer in each window.
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);

/// The fields of a log line about a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal, as in the metric `token_rejections_total`.
    pub reason: &'static str,
    /// The configured issuer that the token names.
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

/// Limits the lines. There are few reasons and configured issuers, so the memory is bounded.
pub struct RefusalLog {
    clock: Arc<dyn Clock>,
    windows: Mutex<HashMap<(&'static str, Option<String>), Window>>,
}

struct Window {
    began: Timestamp,
    lines: u32,
    /// Number of lines suppressed since the last written line.
    suppressed: u64,
}

impl RefusalLog {
    /// Creates a log without lines.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, windows: Mutex::default() }
    }

    /// Writes the line of a refused request, unless there are too many.
    pub(super) fn write(&self, refusal: &Refusal, detail: &str, request_id: &str) {
        let Some(suppressed) = self.admit(refusal) else { return };
        let Refusal { reason, issuer, claim, tenant } = refusal;
        tracing::info!(
            reason,
            detail,
            issuer,
            claim,
            tenant = tenant.as_ref().map(TenantId::as_str),
            request_id,
            suppressed = (suppressed > 0).then_some(suppressed),
            "request refused"
        );
    }

    /// Counts a line. Returns the number of lines that were suppressed before it, or `None` if it is suppressed too.
    fn admit(&self, refusal: &Refusal) -> Option<u64> {
        let now = self.clock.now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.entry((refusal.reason, refusal.issuer.clone())).or_insert(Window {
            began: now,
            lines: 0,
            suppressed: 0,
        });
        if now.since(window.began) >= WINDOW {
            (window.began, window.lines) = (now, 0);
        }
        if window.lines == MAX_LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
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
        let of = |reason, issuer: &str| Refusal {
            issuer: Some(issuer.to_owned()),
            ..Refusal::without_token(reason)
        };
        let admitted = |refusal: &Refusal, count| (0..count).filter(|_| log.admit(refusal).is_some()).count();
        let expired = of("expired", "https://a.test");
        assert_eq!(admitted(&expired, 25), 10);
        for other in [
            of("audience", "https://a.test"),
            of("expired", "https://b.test"),
            Refusal::without_token("missing"),
        ] {
            assert_eq!(admitted(&other, 25), 10, "{other:?}");
        }
        clock.0.store(9_999, Ordering::SeqCst);
        assert_eq!(log.admit(&expired), None);
        clock.0.store(10_000, Ordering::SeqCst);
        assert_eq!(
            log.admit(&expired),
            Some(16),
            "the first line of a window counts those that were suppressed"
        );
        assert_eq!(log.admit(&expired), Some(0));
    }
}
