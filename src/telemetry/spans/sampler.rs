//! The sampler: it decides which traces are exported.
//!
//! A span follows the sampling decision of its parent, with one exception. A caller can set the sampled flag in `traceparent`,
//! and callers must not make the gateway export all traces if the operator has set a low ratio. So the sampler does not simply
//! follow a caller's sampled flag. Traces with this flag are sampled at the same ratio as new traces, and in addition up to
//! `traces.caller_samples_per_second` traces per second. The sampler does not derive its random decision from the trace id,
//! because the caller chooses the id.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::trace::{Link, SpanKind, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{ParentBasedSampler, Sampler, SamplingDecision, SamplingResult, ShouldSample};

use crate::config::TracesSettings;
use crate::domain::clock::{Entropy, SystemEntropy};

/// Returns the sampler for these settings.
pub(super) fn sampler(settings: &TracesSettings) -> ParentBasedSampler {
    let most = NonZeroU32::new(settings.caller_samples_per_second);
    let of_callers = CallerSampler {
        ratio: settings.sample_ratio,
        allowance: most.map(|most| Arc::new(RateLimiter::direct(Quota::per_second(most)))),
    };
    Sampler::parent_based(Sampler::TraceIdRatioBased(settings.sample_ratio))
        .with_remote_parent_sampled(of_callers)
}

/// Decides whether to sample a span if its parent is outside this process and is sampled.
#[derive(Debug, Clone)]
struct CallerSampler {
    ratio: f64,
    /// Rate limit for traces that are sampled in addition to the ratio. `None` if no additional traces are sampled.
    allowance: Option<Arc<DefaultDirectRateLimiter>>,
}

impl CallerSampler {
    fn admits_caller(&self) -> bool {
        self.ratio >= 1.0
            || (self.ratio > 0.0 && SystemEntropy.fraction() < self.ratio)
            || self.allowance.as_ref().is_some_and(|allowance| allowance.check().is_ok())
    }
}

impl ShouldSample for CallerSampler {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        _: TraceId,
        _: &str,
        kind: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        // Later work continues a trace from the store. The sampler has already decided about that trace at the request.
        let is_sampled = *kind != SpanKind::Server || self.admits_caller();
        SamplingResult {
            decision: if is_sampled { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: parent
                .map(|parent| parent.span().span_context().trace_state().clone())
                .unwrap_or_default(),
        }
    }
}
