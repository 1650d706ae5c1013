//! Checks that each acknowledged call of the normal tenants was processed exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::sandbox::receiver::Received;
use alovoice_gateway::sandbox::stand_in::Operation;
use serde_json::Value;
use tokio::time::timeout;

use super::Soak;
use super::caller::{Caller, time_of};
use crate::crash::ledger::check_callbacks;

/// Time after the last completion in which its callback must come. It is longer than the first two pauses of the retry schedule.
const LAST_CALLBACKS: Duration = Duration::from_secs(360);

/// Describes each fault.
pub(super) async fn check(soak: &Arc<Soak>, callers: &[Caller]) -> Vec<String> {
    let expected: usize = callers.iter().map(|caller| caller.acknowledged.len()).sum();
    // A missing callback is reported below.
    let _ = timeout(LAST_CALLBACKS, soak.stage.receiver.wait_for(|all| all.len() >= expected)).await;
    let mut callbacks: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    for received in soak.stage.receiver.received() {
        let event: Value = serde_json::from_slice(&received.body).unwrap();
        if event["type"] == "analysis.completed" {
            soak.report.answered("event to callback", received.at.since(time_of(&event)));
        }
        let call_id = received.path.rsplit('/').next().unwrap().to_owned();
        callbacks.entry(call_id).or_default().push(received);
    }
    let mut submits: BTreeMap<String, usize> = BTreeMap::new();
    for request in soak.stage.vendor.calls() {
        if request.operation == Operation::Submit {
            *submits.entry(request.call_id.to_string()).or_default() += 1;
        }
    }
    let mut faults = Vec::new();
    for caller in callers {
        let events = events_of(soak, &caller.tenant).await;
        let completed = completed_calls_of(soak, &caller.tenant).await;
        for call_id in &caller.acknowledged {
            let received = callbacks.get(call_id).map_or(&[][..], Vec::as_slice);
            check_callbacks(call_id, received);
            if !completed.contains(call_id) {
                faults.push(format!("{call_id} is not completed"));
            }
            for (what, count) in [
                ("callbacks", received.len()),
                ("submits to the vendor", submits.get(call_id).copied().unwrap_or(0)),
                ("events in the feed", events.get(call_id).copied().unwrap_or(0)),
                ("events on the stream", caller.streamed.lock().unwrap().get(call_id).copied().unwrap_or(0)),
            ] {
                if count != 1 {
                    faults.push(format!("{call_id} has {count} {what}"));
                }
            }
        }
    }
    println!(
        "{expected} acknowledged calls of {} tenants, {} of them lost or doubled",
        callers.len(),
        faults.len()
    );
    faults
}

/// Returns the number of events of each call in the feed of a tenant.
async fn events_of(soak: &Soak, tenant: &str) -> BTreeMap<String, usize> {
    let (mut events, mut after) = (BTreeMap::new(), "earliest".to_owned());
    loop {
        let path = format!("v1/events?limit=500&after={after}");
        let Some(page) = soak.get(tenant, "page of events", &path).await else { continue };
        let page_events = page["events"].as_array().unwrap();
        if page_events.is_empty() {
            return events;
        }
        for event in page_events.iter().filter(|event| event["type"] == "analysis.completed") {
            *events.entry(event["data"]["call_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        after = page["next"].as_str().unwrap().to_owned();
    }
}

/// Returns the ids of all completed calls of a tenant.
async fn completed_calls_of(soak: &Soak, tenant: &str) -> BTreeSet<String> {
    let (mut completed, mut after) = (BTreeSet::new(), String::new());
    loop {
        let path = format!("v1/analyses?status=completed&limit=200{after}");
        let Some(page) = soak.get(tenant, "page of calls", &path).await else { continue };
        let calls = page["analyses"].as_array().unwrap();
        completed.extend(calls.iter().map(|call| call["call_id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { return completed };
        after = format!("&cursor={cursor}");
    }
}
