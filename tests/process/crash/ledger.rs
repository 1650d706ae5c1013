//! The calls that the gateway acknowledged with 2xx, and checks that each was processed exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alovoice_gateway::sandbox::receiver::Received;
use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation, Scenario, VendorRequest};
use serde_json::Value;

use crate::gateway::{Serving, within};
use crate::stage::{CALLBACK_SECRET, Stage, id};

/// The calls that were sent, and the calls that were acknowledged with 2xx.
#[derive(Default)]
pub(crate) struct Ledger {
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

/// Counts of a finished test.
#[derive(Default)]
pub(crate) struct Tally {
    acknowledged: usize,
    unanswered: usize,
    /// Submits that reached the vendor, accepted or not.
    submits: usize,
    accepted: usize,
    callbacks: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, unanswered, submits, accepted, callbacks } = self;
        write!(
            f,
            "{acknowledged} calls acknowledged and completed; {unanswered} sent without a response; \
             {submits} submits, {accepted} of them accepted; {callbacks} callbacks"
        )
    }
}

impl Ledger {
    /// Records a call before it is sent.
    pub(crate) fn sent(&mut self, call_id: &str) {
        self.sent.insert(call_id.to_owned());
    }

    /// Number of calls sent so far.
    pub(crate) fn sent_so_far(&self) -> usize {
        self.sent.len()
    }

    /// Records a call that was acknowledged with 2xx.
    pub(crate) fn acknowledged(&mut self, call_id: &str) {
        self.acknowledged.insert(call_id.to_owned());
    }

    /// All acknowledged calls.
    pub(crate) fn all_acknowledged(&self) -> &BTreeSet<String> {
        &self.acknowledged
    }

    /// Submits a call and expects success.
    pub(crate) async fn submit(&mut self, stage: &Stage, gateway: &Serving, call_id: &str) {
        self.sent(call_id);
        let answer = stage.submit(gateway, call_id).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        self.acknowledged(call_id);
    }

    /// Waits until every acknowledged call is announced, and checks that each was processed exactly once.
    pub(crate) async fn settle(&self, stage: &Stage, gateway: Serving) -> Tally {
        self.settle_replicas(stage, vec![gateway]).await
    }

    /// Like [`settle`](Self::settle), with several replicas. Each replica must return the same analyses.
    pub(crate) async fn settle_replicas(&self, stage: &Stage, replicas: Vec<Serving>) -> Tally {
        let callbacks = self.callbacks(stage).await;
        for (call_id, received) in &callbacks {
            check_callbacks(call_id, received);
        }
        for (replica, call_id) in
            replicas.iter().flat_map(|replica| self.acknowledged.iter().map(move |id| (replica, id)))
        {
            let analysis = stage.analysis(replica, call_id).await;
            assert_eq!(analysis["status"], "completed", "{call_id}: {analysis}");
        }
        let vendor = stage.vendor.calls();
        for call_id in &self.sent {
            let accepted = stage.vendor.accepted_submits(&id(call_id));
            check_submits(call_id, &vendor, accepted);
            assert!(
                accepted > 0 || !self.acknowledged.contains(call_id),
                "{call_id} was never submitted to the vendor"
            );
        }
        for replica in replicas {
            replica.stop().await;
        }
        self.check_events(stage).await;
        Tally {
            acknowledged: self.acknowledged.len(),
            unanswered: self.sent.len() - self.acknowledged.len(),
            submits: vendor.iter().filter(|request| request.operation == Operation::Submit).count(),
            accepted: self.sent.iter().map(|call_id| stage.vendor.accepted_submits(&id(call_id))).sum(),
            callbacks: callbacks.values().map(Vec::len).sum(),
        }
    }

    /// Waits for a callback for every acknowledged call, and returns all callbacks by call.
    pub(crate) async fn callbacks(&self, stage: &Stage) -> BTreeMap<String, Vec<Received>> {
        let mut missing = self.acknowledged.clone();
        let arrive = async {
            while !missing.is_empty() {
                missing.remove(&call_of(&stage.receiver.next().await));
            }
        };
        within("a callback for every acknowledged call", arrive).await;
        self.callbacks_so_far(stage)
    }

    /// All callbacks so far, by call.
    pub(crate) fn callbacks_so_far(&self, stage: &Stage) -> BTreeMap<String, Vec<Received>> {
        let mut callbacks: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for received in stage.receiver.received() {
            callbacks.entry(call_of(&received)).or_default().push(received);
        }
        callbacks
    }

    /// Checks that each acknowledged call has exactly one event, even if its callback was sent several times.
    async fn check_events(&self, stage: &Stage) {
        for call_id in &self.acknowledged {
            assert_eq!(stage.store.events_of(call_id).await, 1, "events of {call_id}");
        }
    }
}

fn call_of(received: &Received) -> String {
    received.path.rsplit('/').next().unwrap().to_owned()
}

/// Checks that all callbacks of a call carry the same event, with a signature that the reference library accepts.
pub(crate) fn check_callbacks(call_id: &str, received: &[Received]) {
    let webhook = standardwebhooks::Webhook::new(CALLBACK_SECRET).unwrap();
    for callback in received {
        let header = |name| callback.header(name).unwrap();
        // Not `verify`, which compares the timestamp with the clock: at the end of a storm the callback can be too old for it.
        let timestamp = header("webhook-timestamp").parse().unwrap();
        let signature = webhook.sign(header("webhook-id"), timestamp, &callback.body).unwrap();
        assert_eq!(header("webhook-signature"), signature, "{call_id}");
        let event: Value = serde_json::from_slice(&callback.body).unwrap();
        assert_eq!(
            (&event["type"], &event["data"]["call_id"]),
            (&"analysis.completed".into(), &call_id.into())
        );
        assert_eq!(callback.header("webhook-id"), received[0].header("webhook-id"), "{call_id}");
        assert_eq!(callback.body, received[0].body, "{call_id}");
    }
}

/// Checks that a call was submitted once, and again only after the vendor answered that it does not know the call.
pub(crate) fn check_submits(call_id: &str, vendor: &[VendorRequest], accepted: usize) {
    let requests: Vec<_> = vendor
        .iter()
        .filter(|request| request.call_id.as_str() == call_id)
        .map(|request| request.operation)
        .collect();
    let submits = requests.iter().filter(|operation| **operation == Operation::Submit).count();
    let denied_before = |submit: Option<usize>| {
        let earlier = &requests[..submit.unwrap_or(0)];
        earlier.iter().filter(|operation| **operation == Operation::Result).count()
    };
    let first = requests.iter().position(|operation| *operation == Operation::Submit);
    let last = requests.iter().rposition(|operation| *operation == Operation::Submit);
    match Scenario::parse(&id(call_id)).behaviour {
        // The vendor does not know the call until it accepts a submit. No submit follows the accepted one.
        Behaviour::SubmitResetLost | Behaviour::SubmitHangLost | Behaviour::Submit500Lost => {
            assert!(accepted <= 1 && submits <= 1 + denied_before(last), "{call_id}: {requests:?}");
        }
        // This vendor denies calls that it has, so the gateway cannot know the outcome.
        Behaviour::NotReady404 => assert!(submits <= 1 + denied_before(last), "{call_id}: {requests:?}"),
        // The vendor knows a call from the first submit on.
        _ => {
            assert!(submits <= 1 + denied_before(first), "{call_id}: {requests:?}");
            assert_eq!(accepted, submits, "{call_id}: {requests:?}");
        }
    }
}
