//! Durations of the normal tenants' operations, and the timeline of the gateway.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Soak;
use crate::floods::{MIB, memory};
use crate::gateway::Serving;

/// Bound of the memory with default settings (docs/limits.md).
const MAX_MEMORY: u64 = 512 * MIB;
/// Number of rows of the timeline.
const SECTIONS: usize = 15;
/// Operations that must stay fast.
const CHEAP: [&str; 2] = ["get", "submit"];

/// Durations of operations, before and during the attack.
#[derive(Default)]
pub(super) struct Report {
    is_attacked: AtomicBool,
    operations: Mutex<BTreeMap<&'static str, [Outcomes; 2]>>,
    /// The slowest cheap operation since the last sample of the timeline.
    slowest_ms: AtomicU64,
}

#[derive(Default)]
struct Outcomes {
    answered: Vec<Duration>,
    /// Number of requests without an answer of 2xx, by reason.
    refused: BTreeMap<String, usize>,
}

impl Report {
    pub(super) fn begin_attack(&self) {
        self.is_attacked.store(true, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, operation: &'static str, took: Duration) {
        if CHEAP.contains(&operation) {
            self.slowest_ms.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        }
        self.add(operation, |outcomes| outcomes.answered.push(took));
    }

    pub(super) fn refused(&self, operation: &'static str, reason: &str) {
        self.add(operation, |outcomes| *outcomes.refused.entry(reason.to_owned()).or_default() += 1);
    }

    fn add(&self, operation: &'static str, add: impl FnOnce(&mut Outcomes)) {
        let phase = usize::from(self.is_attacked.load(Ordering::Relaxed));
        add(&mut self.operations.lock().unwrap().entry(operation).or_default()[phase]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| normal tenants (ms) | phase | answered | p50 | p99 | max | not 2xx |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for (operation, phases) in &*self.operations.lock().unwrap() {
            for (phase, outcomes) in ["quiet", "attack"].iter().zip(phases) {
                let mut times: Vec<_> = outcomes.answered.iter().map(Duration::as_millis).collect();
                times.sort_unstable();
                let at =
                    |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
                let [p50, p99, max] = [50, 99, 100].map(|share| at(share).copied().unwrap_or(0));
                let answered = times.len();
                write!(f, "| {operation} | {phase} | {answered} | {p50} | {p99} | {max} | ")?;
                writeln!(f, "{:?} |", outcomes.refused)?;
            }
        }
        Ok(())
    }
}

/// The gateway over time: its resident memory in each second, and the slowest cheap request of the normal tenants.
pub(super) struct Timeline(Arc<Mutex<Vec<(u64, u64)>>>);

impl Timeline {
    /// Watches the gateway until its process ends.
    pub(super) fn watch(soak: &Arc<Soak>) -> Self {
        let samples = Arc::<Mutex<Vec<_>>>::default();
        let (written, soak) = (samples.clone(), soak.clone());
        tokio::spawn(async move {
            while let Some(bytes) = memory(soak.gateway.process.id(), "VmRSS") {
                let slowest = soak.report.slowest_ms.swap(0, Ordering::Relaxed);
                written.lock().unwrap().push((bytes, slowest));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self(samples)
    }

    /// Describes the fault if the memory exceeded its bound at any time.
    pub(super) fn fault(&self, gateway: &Serving) -> Option<String> {
        let Some(peak) = memory(gateway.process.id(), "VmHWM") else {
            return Some("the gateway ended".to_owned());
        };
        println!("Peak of the memory: {} MiB of {} MiB", peak / MIB, MAX_MEMORY / MIB);
        (peak > MAX_MEMORY).then(|| format!("the memory had a peak of {} MiB", peak / MIB))
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.0.lock().unwrap();
        writeln!(f, "| until second | memory (MiB) | slowest `get` or `submit` (ms) |\n| --- | --- | --- |")?;
        let mut end = 0;
        for section in samples.chunks(samples.len().div_ceil(SECTIONS).max(1)) {
            end += section.len();
            let bytes = section.iter().map(|(bytes, _)| bytes).max().unwrap_or(&0);
            let slowest = section.iter().map(|(_, slowest)| slowest).max().unwrap_or(&0);
            writeln!(f, "| {end} | {} | {slowest} |", bytes / MIB)?;
        }
        Ok(())
    }
}
