//! `[vendor]`: requests to AloVoice.

use std::time::Duration;

use url::Url;

use super::declare::settings;
use super::keys::{Contents, table};
use super::loopback::is_loopback;
use super::rules::{base_url, boolean, duration, integer, number, size};
use super::units::{DAY, GIB, HumanDuration, KIB, MILLISECOND, MINUTE};
use crate::domain::polling::PollingPolicy;

/// Bounds of the settings `max_concurrency`.
pub(super) const CONCURRENCY: std::ops::RangeInclusive<i64> = 1..=1024;
/// Bounds of a pause, which may be zero.
const PAUSE: std::ops::RangeInclusive<Duration> = Duration::ZERO..=DAY.saturating_mul(365);
/// Bounds of an interval. An interval of zero would send requests to the vendor without a pause.
const INTERVAL: std::ops::RangeInclusive<Duration> = MILLISECOND..=DAY.saturating_mul(365);

settings! {
    /// Requests to AloVoice.
    struct VendorSettings {
        /// Base URL of AloVoice. A path in the URL is kept as a prefix.
        base_url: Url = base_url().default("https://cld.alovoice.uz").example("https://vendor.example.uz"),
        /// Allows a base_url with http://. The vendor's URLs contain the tenants' tokens, so everyone on the network path can
        /// read them. Set this key if a proxy next to the gateway adds TLS. Without this key, "alovoice-gateway check" fails
        /// and the gateway logs a warning, unless the host is a loopback address.
        allow_http: bool = boolean().default(false),
        /// Deadline of one request, from connecting to the end of the answer.
        request_timeout: Duration = duration(MILLISECOND..=5 * MINUTE).default("10s"),
        /// Maximum size of an answer after decompression. At most two answers of this size are read at the same time.
        max_response_bytes: usize = size(KIB..=GIB).default("8MiB"),
        /// Maximum number of submits and polls in flight per tenant, over all replicas. If several replicas start work at the
        /// same time, they can exceed this number briefly.
        max_concurrency: usize = integer(CONCURRENCY).default(32),
        /// Schedule of the polls for a result.
        polling: PollingPolicy = table(),
    }
}

impl VendorSettings {
    /// Returns whether the tenants' tokens cross the network without TLS, and `allow_http` is off.
    pub fn exposes_tokens(&self) -> bool {
        !self.allow_http && self.base_url.scheme() != "https" && !is_loopback(&self.base_url)
    }
}

settings! {
    /// Schedule of the polls for a result.
    fields of PollingPolicy {
        /// Time from the vendor's acceptance of a call to the first poll, while the gateway does not know the tenant's
        /// processing times yet. After a submit without an answer, the call is submitted again only if the vendor reports the
        /// call as unknown for this time.
        first_after: Duration = duration(PAUSE).default("10s"),
        /// Minimum interval between two polls. It must not exceed max_interval.
        min_interval: Duration = duration(INTERVAL).default("5s"),
        /// Maximum interval between two polls.
        max_interval: Duration = duration(INTERVAL).default("5m"),
        /// Next interval as a share of the time since the vendor accepted the call. The gateway finds a result with a delay of
        /// at most this share of the call's processing time.
        growth: f64 = number(0.0..=10.0).default(0.1),
        /// Maximum time from the submission to the outcome. After this time, the analysis fails with deadline_exceeded.
        deadline: Duration = duration(INTERVAL).default("24h"),
        /// Time for which the vendor's "not found" means "not ready yet".
        not_found_grace: Duration = duration(PAUSE).default("10m"),
        /// Time for which an answer without turns means "not ready yet".
        empty_grace: Duration = duration(PAUSE).default("10m"),
        /// Time from completion to one more poll, which finds late tags.
        settle_after: Duration = duration(PAUSE).default("2m"),
    }
    check |section| {
        if let (Some(least), Some(most)) = (min_interval, max_interval)
            && least > most
        {
            let (least, most) = (HumanDuration(least), HumanDuration(most));
            let detail = format!("must be at most max_interval, which is \"{most}\"; got \"{least}\"");
            section.problem("min_interval", detail);
        }
    }
}
