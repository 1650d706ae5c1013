//! The trace a call belongs to, carried over the hours between its submission and its callback.
//!
//! W3C Trace Context, level 1: `00-{trace id}-{parent id}-{flags}`.

use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::clock::Entropy;

/// Where in a trace something happens: the trace's id and flags, and the span that what follows is a child of.
///
/// It is stored with what is to be done later. Rows that an earlier version wrote have no span, and an earlier version
/// passes over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    trace_id: u128,
    flags: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    span_id: Option<NonZeroU64>,
}

/// The flag of a trace that somebody records ("sampled").
const SAMPLED: u8 = 1;

impl TraceContext {
    /// Starts a new trace that nobody records, without a span so far.
    pub fn start(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self { trace_id: u128::from_be_bytes(bytes).max(1), flags: 0, span_id: None }
    }

    /// Reads a `traceparent` header; `None` if it breaks the format, as the specification asks.
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
        Some(Self { trace_id, flags: u8::from_str_radix(flags, 16).ok()?, span_id: Some(span_id) })
    }

    /// The trace's id; never 0.
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The span that what follows is a child of.
    pub const fn span_id(self) -> Option<NonZeroU64> {
        self.span_id
    }

    /// Whether the trace is recorded.
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, recorded or not.
    #[must_use]
    pub const fn sampled(self, is_sampled: bool) -> Self {
        let flags = if is_sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self, entropy: &dyn Entropy) -> Self {
        Self { span_id: Some(new_span_id(entropy)), ..self }
    }

    /// The `traceparent` of a request that is made in this span. In a trace that nobody has told of a span, one of chance
    /// stands in, as the header needs one.
    pub fn traceparent(self, entropy: &dyn Entropy) -> String {
        let parent_id = self.span_id.unwrap_or_else(|| new_span_id(entropy));
        format!("00-{:032x}-{parent_id:016x}-{:02x}", self.trace_id, self.flags)
    }
}

fn new_span_id(entropy: &dyn Entropy) -> NonZeroU64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    NonZeroU64::new(u64::from_be_bytes(bytes)).unwrap_or(NonZeroU64::MIN)
}

impl fmt::Display for TraceContext {
    /// The trace's id alone, as logs show it.
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
    fn reads_the_specifications_example_and_passes_it_on() {
        let trace = TraceContext::parse(PARENT).unwrap();
        assert_eq!(trace.traceparent(&SystemEntropy), PARENT);
        assert_eq!(trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(trace.is_sampled());
    }

    #[test]
    fn a_child_stays_in_the_trace_under_an_id_of_its_own() {
        let trace = TraceContext::parse(PARENT).unwrap();
        let child = trace.child(&SystemEntropy);
        assert_ne!(child.span_id(), trace.span_id());
        let header = child.traceparent(&SystemEntropy);
        assert!(header.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{header}");
        assert!(header.ends_with("-01"), "{header}");
        assert_eq!(TraceContext::parse(&header), Some(child));
    }

    #[test]
    fn the_sampled_flag_alone_changes() {
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03").unwrap();
        assert!(trace.sampled(false).traceparent(&SystemEntropy).ends_with("-00f067aa0ba902b7-02"));
        assert_eq!(trace.sampled(false).sampled(true), trace);
    }

    /// As version 0.1.0 wrote and read it: both run on one store during an upgrade.
    #[test]
    fn earlier_rows_are_read_and_earlier_versions_read_these() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Earlier {
            trace_id: u128,
            flags: u8,
        }
        let trace = TraceContext::parse(PARENT).unwrap();
        let earlier = Earlier { trace_id: trace.trace_id(), flags: 1 };
        let old_row = serde_json::to_string(&earlier).unwrap();
        assert_eq!(old_row, r#"{"trace_id":100985939111033328018442752961257817910,"flags":1}"#);
        let read: TraceContext = serde_json::from_str(&old_row).unwrap();
        assert_eq!(read, TraceContext { span_id: None, ..trace });
        assert_eq!(serde_json::to_string(&read).unwrap(), old_row);
        // Without a span, the header gets one of chance.
        assert_ne!(read.traceparent(&SystemEntropy), read.traceparent(&SystemEntropy));
        let new_row = serde_json::to_string(&trace).unwrap();
        assert_eq!(serde_json::from_str::<Earlier>(&new_row).unwrap(), earlier);
        assert_eq!(serde_json::from_str::<TraceContext>(&new_row).unwrap(), trace);
    }

    #[test]
    fn refuses_what_the_specification_refuses() {
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
