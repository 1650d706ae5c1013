//! The trace a call belongs to, carried over the hours between its submission and its callback.
//!
//! W3C Trace Context, level 1: `00-{trace id}-{parent id}-{flags}`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::clock::Entropy;

/// A trace's id and flags; the parent id is made fresh for every outgoing request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    trace_id: u128,
    flags: u8,
}

impl TraceContext {
    /// Starts a new, unsampled trace.
    pub fn start(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self { trace_id: u128::from_be_bytes(bytes).max(1), flags: 0 }
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
        u64::from_str_radix(parent_id, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace_id, flags: u8::from_str_radix(flags, 16).ok()? })
    }

    /// The `traceparent` of one outgoing request.
    pub fn child(&self, entropy: &dyn Entropy) -> String {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        let parent_id = u64::from_be_bytes(bytes).max(1);
        format!("00-{:032x}-{parent_id:016x}-{:02x}", self.trace_id, self.flags)
    }
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

    #[test]
    fn reads_the_specifications_example_and_keeps_the_trace() {
        let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        let child = trace.child(&SystemEntropy);
        assert!(child.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{child}");
        assert!(child.ends_with("-01"), "{child}");
        assert_eq!(TraceContext::parse(&child), Some(trace));
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
