//! The limits of CRMs, calls that a CRM does not know yet, and changed credentials. `tests/process/crms.rs` has the way from a
//! submission to each CRM.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, SystemClock, Timestamp};
use alovoice_gateway::sandbox::crm::{CrmEntry, CrmStandIns};
use alovoice_gateway::sandbox::receiver::{ChooseAnswer, Received, Receiver, ReceiverOptions};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::clock::ManualClock;
use crate::stage::Stage;
use crate::webhooks::{delivery_that, registered};

/// The stand-ins and the receiver in front of them.
struct Crms {
    receiver: Receiver,
    stand_ins: Arc<CrmStandIns>,
}

impl Crms {
    async fn start() -> Self {
        Self::start_at(Arc::new(SystemClock)).await
    }

    /// Starts stand-ins that measure their limits with this clock.
    async fn start_at(clock: Arc<dyn Clock>) -> Self {
        let stand_ins = Arc::new(CrmStandIns::default());
        let answers = Arc::clone(&stand_ins);
        let choose_answer = move |received: &Received| answers.answer(received);
        let choose_answer = Some(Arc::new(choose_answer) as ChooseAnswer);
        let options = ReceiverOptions { clock, choose_answer, ..ReceiverOptions::default() };
        Self { receiver: Receiver::start(options).await.unwrap(), stand_ins }
    }

    /// A webhook to the stand-in with this path and preset.
    fn webhook(&self, path: &str, transform: &Value) -> Value {
        let url = format!("{}crm/{path}", self.receiver.base_url());
        json!({"url": url, "transform": transform, "headers": {"Authorization": "Bearer of-the-crm"}})
    }

    /// Waits until the stand-ins have this number of entries.
    async fn entries(&self, count: usize) -> Vec<CrmEntry> {
        self.receiver.wait_for(|_| self.stand_ins.entries().len() >= count).await;
        let entries = self.stand_ins.entries();
        assert_eq!(entries.len(), count, "{entries:?}");
        entries
    }
}

fn preset(name: &str) -> Value {
    json!({"preset": name})
}

/// Facts of a call that the presets need.
fn facts(id: &str) -> Value {
    let ids = json!({"bitrix24_call_id": format!("externalCall.{id}")});
    json!({"direction": "inbound", "phone": "90 123-45-67", "agent": {"name": "Dilnoza"}, "crm": ids})
}

async fn submit(acme: &Caller, call_id: &str) {
    acme.submitted(json!({"call_id": call_id, "call": facts(call_id)})).await;
    assert_eq!(acme.outcome(call_id).await["status"], "completed");
}

/// The path of the only delivery of a call.
async fn delivery_of(acme: &Caller, call_id: &str) -> String {
    let listed = acme.get(&format!("/v1/deliveries?call_id={call_id}")).await.json()["deliveries"].take();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap())
}

#[tokio::test]
async fn bitrix24_gets_each_transcript_once_although_it_limits_the_requests() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h")]).await;
    let (acme, clock) = (stage.acme(), Arc::new(ManualClock::starting_at(Timestamp::from_millis(0))));
    let crms = Crms::start_at(Arc::clone(&clock) as Arc<dyn Clock>).await;
    let path = "bitrix24/rest/1/secret/telephony.call.attachTranscription";
    let mut webhook = crms.webhook(path, &preset("bitrix24.transcript"));
    (webhook["rate"], webhook["burst"]) = (json!(1000), json!(1000));
    registered(&acme, webhook).await;
    let batch: Vec<_> =
        (0..52).map(|n| json!({"call_id": n.to_string(), "call": facts(&n.to_string())})).collect();
    assert_eq!(acme.post("/v1/analyses/batch", json!({"analyses": batch})).await.status, 200);
    // The bucket of Bitrix24 has room for 50 requests, and loses none while its clock stands still.
    let received = crms.receiver.wait_for(|all| all.len() == 52).await;
    assert_eq!((received.len(), crms.stand_ins.entries().len()), (52, 50));
    clock.advance(Duration::from_secs(60));
    let refused = loop {
        let pending = acme.get("/v1/deliveries?status=pending").await.json()["deliveries"].take();
        let pending = pending.as_array().unwrap().clone();
        if pending.len() == 2 && pending.iter().all(|delivery| delivery["under_way"] == false) {
            break pending;
        }
    };
    for delivery in refused {
        let path = format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap());
        let attempt = acme.get(&path).await.json()["attempts"][0].take();
        assert_eq!((&attempt["outcome"], &attempt["status"]), (&json!("declined"), &json!(503)));
        assert_eq!(acme.post(&format!("{path}/redeliver"), json!({})).await.status, 202);
    }
    let entries = crms.entries(52).await;
    let cards: HashSet<_> = entries.iter().map(|entry| &entry.card).collect();
    assert_eq!(cards.len(), 52);
}

#[tokio::test]
async fn a_rate_keeps_a_burst_of_calls_within_the_limit_of_bitrix24() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h")]).await;
    let (acme, clock) = (stage.acme(), Arc::new(ManualClock::starting_at(Timestamp::from_millis(0))));
    let crms = Crms::start_at(Arc::clone(&clock) as Arc<dyn Clock>).await;
    let path = "bitrix24/rest/1/secret/telephony.call.attachTranscription";
    let mut webhook = crms.webhook(path, &preset("bitrix24.transcript"));
    // The bucket of the preset, but no further token during the test.
    (webhook["rate"], webhook["burst"]) = (json!(0.01), json!(50));
    let (webhook, _) = registered(&acme, webhook).await;
    let batch: Vec<_> =
        (0..52).map(|n| json!({"call_id": n.to_string(), "call": facts(&n.to_string())})).collect();
    assert_eq!(acme.post("/v1/analyses/batch", json!({"analyses": batch})).await.status, 200);
    crms.entries(50).await;
    clock.advance(Duration::from_secs(1));
    // The tokens that the clock of Bitrix24 has brought.
    acme.patch(&webhook, json!({"rate": 1000, "burst": 2})).await;
    crms.entries(52).await;
    assert_eq!(stage.close().await.receiver.received().len(), 0);
    assert_eq!(crms.receiver.received().len(), 52, "no request was refused");
}

#[tokio::test]
async fn a_call_that_bitrix24_does_not_have_yet_gets_its_transcript_later() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h")]).await;
    let (acme, crms) = (stage.acme(), Crms::start().await);
    let values = json!({"bitrix24_call_id": "unfinished.1"});
    let transform = json!({"preset": "bitrix24.transcript", "values": values});
    let path = "bitrix24/rest/1/secret/telephony.call.attachTranscription";
    registered(&acme, crms.webhook(path, &transform)).await;
    submit(&acme, "1").await;
    let delivery = delivery_of(&acme, "1").await;
    let waiting =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    assert_eq!(waiting["attempts"][0]["outcome"], "declined");
    assert_eq!(crms.stand_ins.entries(), []);
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    crms.entries(1).await;
}

#[tokio::test]
async fn a_crm_that_refuses_the_credentials_gets_the_entry_after_they_are_changed() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let (acme, crms) = (stage.acme(), Crms::start().await);
    let mut webhook = crms.webhook("amocrm/api/v4/calls", &preset("amocrm.call"));
    webhook["headers"] = json!({});
    let (path, _) = registered(&acme, webhook).await;
    submit(&acme, "1").await;
    let delivery = delivery_of(&acme, "1").await;
    let refused =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    assert_eq!((&refused["attempts"][0]["status"], &refused["status"]), (&json!(401), &json!("pending")));
    acme.patch(&path, json!({"headers": {"Authorization": "Bearer new"}})).await;
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    assert_eq!(crms.entries(1).await[0].crm, "amocrm");
}
