//! Checks and counts after a storm.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::sandbox::receiver::Received;
use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation, Scenario};
use serde_json::Value;

use super::client::RequestCounts;
use super::fleet::{Fleet, memory};
use super::plan::Plan;
use crate::crash::ledger::{Ledger, check_callbacks, check_submits};
use crate::gateway::within;
use crate::stage::{Stage, id};

/// Maximum growth of a process in KiB.
const MAX_GROWTH: u64 = 64 << 10;

pub(super) struct Tally {
    seed: u64,
    faults: BTreeMap<&'static str, usize>,
    calls: usize,
    acknowledged: usize,
    requests: RequestCounts,
    submits: usize,
    /// Second submits of calls that the vendor did not know.
    second_submits: usize,
    /// Second submits of calls that the vendor has, but denies.
    denied_submits: usize,
    callbacks: usize,
    growth: u64,
    /// Outcomes that came after the end of a lease, and requests skipped because the lease was about to end.
    fenced: usize,
    failed_starts: usize,
}

impl Tally {
    /// Waits until every acknowledged call is announced, and checks that each was processed exactly once.
    pub(super) async fn settle(
        seed: u64,
        plan: &Plan,
        (ledger, requests): &(Ledger, RequestCounts),
        stage: &Arc<Stage>,
        mut fleet: Fleet,
    ) -> Self {
        let growth = fleet.replicas().map(|replica| memory(&replica.serving).saturating_sub(replica.memory));
        let growth = growth.max().unwrap();
        assert!(growth <= MAX_GROWTH, "a process grew by {growth} KiB");
        fleet.renew().await;
        let callbacks = ledger.callbacks(stage).await;
        within("the end of all deliveries", until_delivered(stage)).await;
        check_views(ledger, stage, &fleet, &callbacks).await;
        fleet.stop().await;

        // All processes have ended, so no further callback can arrive.
        let callbacks = ledger.callbacks_so_far(stage);
        for (call_id, received) in &callbacks {
            check_callbacks(call_id, received);
        }
        let vendor = stage.vendor.calls();
        let (mut second_submits, mut denied_submits) = (0, 0);
        for call_id in ledger.all_acknowledged() {
            let accepted = stage.vendor.accepted_submits(&id(call_id));
            assert!(accepted > 0, "{call_id} was never submitted to the vendor");
            check_submits(call_id, &vendor, accepted);
            match Scenario::parse(&id(call_id)).behaviour {
                Behaviour::NotReady404 => denied_submits += accepted - 1,
                _ => second_submits += accepted - 1,
            }
        }
        check_store(ledger, stage, callbacks.values().map(Vec::len).sum()).await;
        let mut faults = BTreeMap::new();
        for (fault, _) in plan.steps.iter().flat_map(|step| &step.faults) {
            *faults.entry(fault.name()).or_default() += 1;
        }
        Self {
            seed,
            faults,
            calls: ledger.sent_so_far(),
            acknowledged: ledger.all_acknowledged().len(),
            requests: *requests,
            submits: vendor.iter().filter(|request| request.operation == Operation::Submit).count(),
            second_submits,
            denied_submits,
            callbacks: callbacks.values().map(Vec::len).sum(),
            growth,
            fenced: fleet.logged("the lease was lost") + fleet.logged("request skipped: the lease would end"),
            failed_starts: fleet.failed_starts,
        }
    }
}

/// Waits until the outcome of every delivery is recorded.
async fn until_delivered(stage: &Stage) {
    while stage.store.count("SELECT count(*) FROM deliveries WHERE status = 'pending'").await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Checks that every replica returns the analysis that the receiver got.
async fn check_views(
    ledger: &Ledger,
    stage: &Stage,
    fleet: &Fleet,
    callbacks: &BTreeMap<String, Vec<Received>>,
) {
    for call_id in ledger.all_acknowledged() {
        let announced: Value = serde_json::from_slice(&callbacks[call_id][0].body).unwrap();
        for replica in fleet.replicas() {
            let analysis = stage.analysis(&replica.serving, call_id).await;
            assert_eq!(analysis["status"], "completed", "{call_id}: {analysis}");
            assert_eq!(analysis, announced["data"], "{call_id}");
        }
    }
}

/// Checks that each call has one event and one finished delivery, and that every callback was recorded before it was sent.
async fn check_store(ledger: &Ledger, stage: &Stage, callbacks: usize) {
    let calls = i64::try_from(ledger.all_acknowledged().len()).unwrap();
    for table in ["analyses", "events", "deliveries"] {
        let rows = stage.store.count(&format!("SELECT count(*) FROM {table}")).await;
        let of = stage.store.count(&format!("SELECT count(DISTINCT call_id) FROM {table}")).await;
        assert_eq!((rows, of), (calls, calls), "{table}");
    }
    let delivered = "SELECT count(*) FROM deliveries WHERE status = 'delivered'";
    assert_eq!(stage.store.count(delivered).await, calls, "some deliveries failed");
    let attempts = stage.store.count("SELECT count(*) FROM attempts").await;
    assert!(usize::try_from(attempts).unwrap() >= callbacks, "{callbacks} callbacks in {attempts} attempts");
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, calls, acknowledged, submits, second_submits, callbacks, growth, fenced, .. } = self;
        let RequestCounts { good, refused, failed, .. } = self.requests;
        let faults: Vec<_> = self.faults.iter().map(|(name, count)| format!("{count} {name}")).collect();
        write!(
            f,
            "STORM_SEED={seed}: {}; {calls} calls, {acknowledged} acknowledged; requests: {good} answered, {refused} refused, \
             {failed} lost; {submits} submits, second submits: {second_submits} after a denial, {} of calls that the vendor has and denies; {callbacks} \
             callbacks, {} of them repeated; {fenced} outcomes fenced; {} failed starts; memory grew by {growth} KiB; \
             lost 0, doubled 0",
            faults.join(", "),
            self.denied_submits,
            callbacks - acknowledged,
            self.failed_starts,
        )
    }
}
