//! What was promised by a 2xx, and whether it was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use alovoice_gateway::sandbox::receiver::Received;
use alovoice_gateway::sandbox::stand_in::{Behaviour, Operation, Scenario, VendorRequest};
use serde_json::Value;

use crate::gateway::{Serving, within};
use crate::stage::{CALLBACK_SECRET, Stage, id};

/// The calls that were sent in, and those of them that were answered 2xx.
#[derive(Default)]
pub(crate) struct Ledger {
    sent: BTreeSet<String>,
    promised: BTreeSet<String>,
}

/// A ledger in numbers.
#[derive(Default)]
pub(crate) struct Tally {
    promised: usize,
    unanswered: usize,
    /// Submits that came to the vendor, and those it took.
    submits: usize,
    accepted: usize,
    callbacks: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { promised, unanswered, submits, accepted, callbacks } = self;
        write!(
            f,
            "{promised} calls promised and kept; {unanswered} sent without an answer; \
             {submits} submits, {accepted} of them taken; {callbacks} callbacks"
        )
    }
}

impl Ledger {
    /// A call is about to be sent.
    pub(crate) fn sent(&mut self, call_id: &str) {
        self.sent.insert(call_id.to_owned());
    }

    /// How many were sent.
    pub(crate) fn sent_so_far(&self) -> usize {
        self.sent.len()
    }

    /// A call was answered 2xx.
    pub(crate) fn promised(&mut self, call_id: &str) {
        self.promised.insert(call_id.to_owned());
    }

    /// All that were.
    pub(crate) fn all_promised(&self) -> &BTreeSet<String> {
        &self.promised
    }

    /// Submits a call, which must be promised.
    pub(crate) async fn submit(&mut self, stage: &Stage, gateway: &Serving, call_id: &str) {
        self.sent(call_id);
        let answer = stage.submit(gateway, call_id).await.unwrap();
        assert_eq!(answer.status(), 202);
        self.promised(call_id);
    }

    /// Waits until every promise is kept, and checks that none was kept twice.
    pub(crate) async fn settle(&self, stage: &Stage, gateway: Serving) -> Tally {
        self.settle_replicas(stage, vec![gateway]).await
    }

    /// The same where several processes share the store: each of them tells the same.
    pub(crate) async fn settle_replicas(&self, stage: &Stage, replicas: Vec<Serving>) -> Tally {
        let callbacks = self.callbacks(stage).await;
        for (call_id, received) in &callbacks {
            check_callbacks(call_id, received);
        }
        for (replica, call_id) in
            replicas.iter().flat_map(|replica| self.promised.iter().map(move |id| (replica, id)))
        {
            let analysis = stage.analysis(replica, call_id).await;
            assert_eq!(analysis["status"], "completed", "{call_id}: {analysis}");
        }
        let vendor = stage.vendor.calls();
        for call_id in &self.sent {
            let accepted = stage.vendor.accepted_submits(&id(call_id));
            check_submits(call_id, &vendor, accepted);
            assert!(accepted > 0 || !self.promised.contains(call_id), "{call_id} was never handed over");
        }
        for replica in replicas {
            replica.stop().await;
        }
        self.check_events(stage).await;
        Tally {
            promised: self.promised.len(),
            unanswered: self.sent.len() - self.promised.len(),
            submits: vendor.iter().filter(|request| request.operation == Operation::Submit).count(),
            accepted: self.sent.iter().map(|call_id| stage.vendor.accepted_submits(&id(call_id))).sum(),
            callbacks: callbacks.values().map(Vec::len).sum(),
        }
    }

    /// What came for each call, when something has come for every promised one.
    pub(crate) async fn callbacks(&self, stage: &Stage) -> BTreeMap<String, Vec<Received>> {
        let mut missing = self.promised.clone();
        let arrive = async {
            while !missing.is_empty() {
                missing.remove(&call_of(&stage.receiver.next().await));
            }
        };
        within("a callback for every promised call", arrive).await;
        self.callbacks_so_far(stage)
    }

    /// What came for each call.
    pub(crate) fn callbacks_so_far(&self, stage: &Stage) -> BTreeMap<String, Vec<Received>> {
        let mut callbacks: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for received in stage.receiver.received() {
            callbacks.entry(call_of(&received)).or_default().push(received);
        }
        callbacks
    }

    /// Each promised call is announced once in the feed, however often its callback had to be sent.
    async fn check_events(&self, stage: &Stage) {
        for call_id in &self.promised {
            assert_eq!(stage.store.events_of(call_id).await, 1, "events of {call_id}");
        }
    }
}

fn call_of(received: &Received) -> String {
    received.path.rsplit('/').next().unwrap().to_owned()
}

/// All callbacks of a call are the same event, signed as the reference library reads it.
pub(crate) fn check_callbacks(call_id: &str, received: &[Received]) {
    let webhook = standardwebhooks::Webhook::new(CALLBACK_SECRET).unwrap();
    for callback in received {
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, callback.header(name).unwrap().parse().unwrap());
        }
        webhook.verify(&callback.body, &headers).unwrap();
        let event: Value = serde_json::from_slice(&callback.body).unwrap();
        assert_eq!(
            (&event["type"], &event["data"]["call_id"]),
            (&"analysis.completed".into(), &call_id.into())
        );
        assert_eq!(callback.header("webhook-id"), received[0].header("webhook-id"), "{call_id}");
        assert_eq!(callback.body, received[0].body, "{call_id}");
    }
}

/// A call was handed over once; again only after the vendor denied that it has it.
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
        // What was sent in vain is denied until a submit is taken, which is then the last one.
        Behaviour::SubmitResetLost | Behaviour::SubmitHangLost | Behaviour::Submit500Lost => {
            assert!(accepted <= 1 && submits <= 1 + denied_before(last), "{call_id}: {requests:?}");
        }
        // This vendor denies calls that it has: after an unknown outcome there is no telling.
        Behaviour::NotReady404 => assert!(submits <= 1 + denied_before(last), "{call_id}: {requests:?}"),
        // The vendor knows a call from its first submit on; only before that it denies it.
        _ => {
            assert!(submits <= 1 + denied_before(first), "{call_id}: {requests:?}");
            assert_eq!(accepted, submits, "{call_id}: {requests:?}");
        }
    }
}
