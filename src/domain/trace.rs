//! The trace context of a call. The gateway keeps it from the submission to the callback.
//!
//! The header is `traceparent` of W3C Trace Context, level 1: `00-{trace id}-{parent id}-{flags}`.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::clock::Entropy;

/// A position in a trace: the id of the trace, the id of the span that becomes the parent of later work, and the
/// flags.
///
/// The position is stored with analyses, deliveries and replays. A stored position without the id of a span stays readable: its
/// span id becomes 1, the id of a span that was never exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    trace_id: u128,
    flags: u8,
    #[serde(default = "unknown_span")]
    span_id: NonZeroU64,
}

/// The flag of a sampled trace. The spans of a sampled trace are exported.
const SAMPLED: u8 = 1;

const fn unknown_span() -> NonZeroU64 {
    NonZeroU64::MIN
}

impl TraceContext {
    /// Starts a new trace that is not sampled.
    pub fn start(entropy: &dyn Entropy) -> Self {
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        entropy.fill(&mut trace_id);
        entropy.fill(&mut span_id);
        Self {
            trace_id: u128::from_be_bytes(trace_id).max(1),
            flags: 0,
            span_id: NonZeroU64::new(u64::from_be_bytes(span_id)).unwrap_or(NonZeroU64::MIN),
        }
    }

    /// Creates the trace context for work inside an exported span.
    pub const fn of_span(trace_id: u128, span_id: NonZeroU64) -> Self {
        Self { trace_id, flags: SAMPLED, span_id }
    }

    /// Parses a `traceparent` header. Returns `None` if the header is malformed. The specification requires that such a
    /// header is ignored.
    pub fn parse(header: &str) -> Option<Self> {
        let mut fields = header.split('-');
        let (version, trace_id) = (fields.next()?, fields.next()?);
        let (parent_id, flags) = (fields.next()?, fields.next()?);
        let is_hex = |text: &str, len| {
            text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let known = is_hex(version, 2) && version != "ff" && (version != "00" || fields.next().is_none());
        if !known || !is_hex(trace_id, 32) || !is_hex(parent_id, 16) || !is_hex(flags, 2) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace_id, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(parent_id, 16).ok().and_then(NonZeroU64::new)?;
        Some(Self { trace_id, flags: u8::from_str_radix(flags, 16).ok()?, span_id })
    }

    /// Returns the id of the trace, which is never 0.
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// Returns the id of the span that becomes the parent of later work.
    pub const fn span_id(self) -> NonZeroU64 {
        self.span_id
    }

    /// Whether the spans of the trace are exported.
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the same context with the sampled flag set or cleared.
    #[must_use]
    pub const fn sampled(self, is_sampled: bool) -> Self {
        let flags = if is_sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }

    /// Returns the `traceparent` header of a request that is sent inside this span.
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Display for TraceContext {
    /// Writes only the trace id, as log lines show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemEntropy;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_specification_is_read_and_written_unchanged() {
        let trace = TraceContext::parse(PARENT).unwrap();
        assert_eq!(trace.traceparent(), PARENT);
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(trace.is_sampled());
        assert_eq!(TraceContext::of_span(trace.trace_id(), trace.span_id()), trace);
    }

    #[test]
    fn new_traces_differ_and_are_not_sampled() {
        let (one, other) = (TraceContext::start(&SystemEntropy), TraceContext::start(&SystemEntropy));
        assert_ne!((one.trace_id(), one.span_id()), (other.trace_id(), other.span_id()));
        assert_eq!(TraceContext::parse(&one.traceparent()), Some(one));
        assert!(!one.is_sampled());
    }

    #[test]
    fn changing_the_sampled_flag_changes_nothing_else() {
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03").unwrap();
        assert!(trace.sampled(false).traceparent().ends_with("-00f067aa0ba902b7-02"));
        assert_eq!(trace.sampled(false).sampled(true), trace);
    }

    #[test]
    fn a_stored_context_is_read_back() {
        let trace = TraceContext::parse(PARENT).unwrap();
        let stored = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<TraceContext>(&stored).unwrap(), trace);

        let without_span: TraceContext = serde_json::from_str(r#"{"trace_id":1015,"flags":0}"#).unwrap();
        assert_eq!(without_span.trace_id(), 1015);
    }

    #[test]
    fn malformed_headers_are_ignored() {
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
