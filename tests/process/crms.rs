//! From a submission to the entry in each stand-in for a CRM, with faults of the CRM and a crash of the gateway, on both stores.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use alovoice_gateway::sandbox::crm::CrmStandIns;
use alovoice_gateway::sandbox::receiver::{Received, Receiver, ReceiverOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::{Serving, within};
use crate::stage::{SCOPES, Stage, send};

/// A webhook to a CRM.
struct Route {
    preset: &'static str,
    path: &'static str,
    on_unknown: &'static str,
    /// The card of the CRM; `#` stands for the number of the call.
    card: (&'static str, &'static str),
    /// Number of entries after one attempt of unknown outcome that has arrived.
    after_unknown: usize,
}

const fn route(
    (preset, on_unknown): (&'static str, &'static str),
    path: &'static str,
    card: (&'static str, &'static str),
    after_unknown: usize,
) -> Route {
    Route { preset, path, on_unknown, card, after_unknown }
}

const ROUTES: [Route; 8] = [
    // The second transcript of a call replaces the first.
    route(
        ("bitrix24.transcript", "retry"),
        "bitrix24/rest/1/secret/telephony.call.attachTranscription",
        ("bitrix24", "externalCall.#"),
        1,
    ),
    route(
        ("bitrix24.comment", "retry"),
        "bitrix24/rest/1/secret/crm.timeline.comment.add",
        ("bitrix24", "deal 10#"),
        2,
    ),
    route(("amocrm.call", "retry"), "amocrm/api/v4/calls", ("amocrm", "890123456#"), 2),
    route(("amocrm.note", "retry"), "amocrm/api/v4/leads/notes", ("amocrm", "leads 20#"), 2),
    route(
        ("zendesk.comment", "retry"),
        "zendesk/api/v2/tickets/{crm.zendesk_ticket_id}",
        ("zendesk", "30#"),
        2,
    ),
    route(
        ("zendesk.comment", "give_up"),
        "zendesk/api/v2/tickets/{crm.other_ticket_id}",
        ("zendesk", "40#"),
        1,
    ),
    route(
        ("jira.comment", "retry"),
        "jira/rest/api/3/issue/{crm.jira_issue_key}/comment",
        ("jira", "CALL-50#"),
        2,
    ),
    route(
        ("hubspot.transcript", "retry"),
        "hubspot/crm/extensions/calling/2026-09/transcripts",
        ("hubspot", "60#"),
        2,
    ),
];

/// The facts of a call with the ids that the presets need.
fn facts(call: usize) -> Value {
    json!({
        "direction": "inbound", "phone": format!("90 123-45-6{call}"),
        "crm": {
            "bitrix24_call_id": format!("externalCall.{call}"), "bitrix24_entity_id": format!("10{call}"),
            "amocrm_entity_id": format!("20{call}"), "zendesk_ticket_id": format!("30{call}"),
            "other_ticket_id": format!("40{call}"), "jira_issue_key": format!("CALL-50{call}"),
            "hubspot_engagement_id": format!("60{call}"),
        },
    })
}

/// Status of the fault with which the CRMs answer the first request of each delivery.
type Fault = Option<u16>;

/// The answer of a CRM with a fault, as its documentation describes it.
fn faulty_answer(crm: &str, fault: u16) -> (u16, String) {
    let error = |code: &str| json!({"error": code, "error_description": ""}).to_string();
    match (crm, fault) {
        ("bitrix24", 429) => (503, error("QUERY_LIMIT_EXCEEDED")),
        ("bitrix24", 401) => (401, error("expired_token")),
        ("bitrix24", status) => (status, error("INTERNAL_SERVER_ERROR")),
        (_, 429) => (429, json!({"title": "Too Many Requests", "status": 429}).to_string()),
        (_, 401) => (401, json!({"title": "Unauthorized", "status": 401}).to_string()),
        (_, status) => (status, "<html>Bad Gateway</html>".to_owned()),
    }
}

/// The stand-ins behind one receiver.
struct Crms {
    receiver: Receiver,
    stand_ins: Arc<CrmStandIns>,
    fault: Arc<Mutex<Fault>>,
    /// Event and path of each delivery that has arrived.
    arrived: Arc<Mutex<HashSet<(String, String)>>>,
}

impl Crms {
    async fn start() -> Self {
        let (stand_ins, fault) = (Arc::new(CrmStandIns::default()), Arc::new(Mutex::new(None)));
        let arrived = Arc::new(Mutex::new(HashSet::new()));
        let (answers, present, seen) = (Arc::clone(&stand_ins), Arc::clone(&fault), Arc::clone(&arrived));
        let choose_answer = move |received: &Received| {
            let event = received.header("webhook-id").unwrap().to_owned();
            let is_first = seen.lock().unwrap().insert((event, received.path.clone()));
            let crm = received.path.split('/').nth(2).unwrap();
            match *present.lock().unwrap() {
                Some(fault) if is_first => Some(faulty_answer(crm, fault)),
                _ => answers.answer(received),
            }
        };
        let options =
            ReceiverOptions { choose_answer: Some(Arc::new(choose_answer)), ..ReceiverOptions::default() };
        Self { receiver: Receiver::start(options).await.unwrap(), stand_ins, fault, arrived }
    }

    /// Waits until the deliveries of this number of calls have arrived at all CRMs.
    async fn arrivals(&self, calls: usize) {
        let have_arrived = |_: &[Received]| self.arrived.lock().unwrap().len() == calls * ROUTES.len();
        within("a request to each CRM", self.receiver.wait_for(have_arrived)).await;
    }

    /// The number of entries of each card.
    fn entries(&self) -> BTreeMap<(String, String), usize> {
        let mut entries = BTreeMap::new();
        for entry in self.stand_ins.entries() {
            *entries.entry((entry.crm.to_owned(), entry.card)).or_default() += 1;
        }
        entries
    }
}

async fn ask(stage: &Stage, gateway: &Serving, method: Method, path: &str, body: Option<Value>) -> Value {
    let url = gateway.api.join(path).unwrap();
    let mut request = stage.client.request(method, url).bearer_auth(stage.token(SCOPES));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = send(request).await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{path}: {status} {body}");
    serde_json::from_str(&body).unwrap()
}

async fn submit(stage: &Stage, gateway: &Serving, call: usize) {
    let submission = json!({"call_id": call.to_string(), "call": facts(call)});
    ask(stage, gateway, Method::POST, "v1/analyses", Some(submission)).await;
}

/// Waits until all deliveries of a call meet the condition. Returns them by the id of their webhook.
async fn deliveries(
    stage: &Stage,
    gateway: &Serving,
    call: usize,
    is_so: impl Fn(&Value) -> bool,
) -> HashMap<String, Value> {
    let read = async {
        let list = ask(stage, gateway, Method::GET, &format!("v1/deliveries?call_id={call}"), None).await;
        let mut deliveries = HashMap::new();
        for delivery in list["deliveries"].as_array().unwrap() {
            let path = format!("v1/deliveries/{}", delivery["id"].as_str().unwrap());
            let webhook = delivery["webhook"].as_str().unwrap().to_owned();
            loop {
                let delivery = ask(stage, gateway, Method::GET, &path, None).await;
                if is_so(&delivery) {
                    deliveries.insert(webhook, delivery);
                    break;
                }
            }
        }
        deliveries
    };
    within("the deliveries of a call", read).await
}

/// Whether the gateway makes no further attempt by itself.
fn is_over(delivery: &Value) -> bool {
    delivery["status"] != "pending"
}

/// Outcome and status of each attempt.
fn attempts(delivery: &Value) -> Vec<(Option<&str>, Option<u64>)> {
    let attempts = delivery["attempts"].as_array().unwrap().iter();
    attempts.map(|attempt| (attempt["outcome"].as_str(), attempt["status"].as_u64())).collect()
}

async fn check(mut stage: Stage) {
    let crms = Crms::start().await;
    let gateway = stage.serve().await;
    let mut webhooks = Vec::new();
    for Route { preset, path, on_unknown, .. } in &ROUTES {
        let url = format!("{}crm/{path}", crms.receiver.base_url());
        let transform = json!({"preset": preset, "on_unknown": on_unknown});
        let webhook =
            json!({"url": url, "transform": transform, "headers": {"Authorization": "Bearer of-the-crm"}});
        let registered = ask(&stage, &gateway, Method::POST, "v1/webhooks", Some(webhook)).await;
        webhooks.push(registered["id"].as_str().unwrap().to_owned());
    }

    // Faults with an answer: nothing was added, and the gateway tries again by itself.
    for (call, fault) in [None, Some(429), Some(401), Some(502)].into_iter().enumerate() {
        *crms.fault.lock().unwrap() = fault;
        submit(&stage, &gateway, call).await;
        crms.arrivals(call + 1).await;
    }
    *crms.fault.lock().unwrap() = None;
    for (call, fault) in [None, Some(429), Some(401), Some(502)].into_iter().enumerate() {
        let deliveries = deliveries(&stage, &gateway, call, is_over).await;
        for (webhook, route) in webhooks.iter().zip(&ROUTES) {
            let crm = route.card.0;
            let outcome = if crm == "bitrix24" { "declined" } else { "refused" };
            let failed = fault.map(|fault| (Some(outcome), Some(u64::from(faulty_answer(crm, fault).0))));
            let made = attempts(&deliveries[webhook]);
            let last = *made.last().unwrap();
            assert_eq!(made, failed.into_iter().chain([last]).collect::<Vec<_>>(), "{}", route.preset);
            assert_eq!(last.0, Some("delivered"), "{}", route.preset);
        }
    }

    // The gateway dies after its requests have arrived and before it has an answer.
    crms.receiver.set_held(true);
    submit(&stage, &gateway, 4).await;
    crms.arrivals(5).await;
    gateway.kill();
    crms.receiver.set_held(false);
    // The leases of the dead process end now, so that the test need not wait.
    stage.store.change("UPDATE deliveries SET due_at = 1716207617000 WHERE leased", 8).await;
    let gateway = stage.serve().await;
    let restarted = deliveries(&stage, &gateway, 4, is_over).await;
    gateway.stop().await;

    // The requests arrive, and their answers come too late.
    stage.set("CALLBACKS__TIMEOUT", "1s");
    stage.set("CALLBACKS__RETRY_SCHEDULE", "1h,1h");
    let gateway = stage.serve().await;
    crms.receiver.set_held(true);
    submit(&stage, &gateway, 5).await;
    crms.arrivals(6).await;
    let has_failed = |delivery: &Value| delivery["attempts"][0]["outcome"] == "timeout";
    deliveries(&stage, &gateway, 5, has_failed).await;
    gateway.stop().await;
    crms.receiver.set_held(false);
    stage.set("CALLBACKS__TIMEOUT", "1m");
    let gateway = stage.serve().await;
    for delivery in deliveries(&stage, &gateway, 5, has_failed).await.values() {
        if delivery["status"] == "pending" {
            let path = format!("v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
            ask(&stage, &gateway, Method::POST, &path, None).await;
        }
    }
    let late = deliveries(&stage, &gateway, 5, is_over).await;
    for (unknown, deliveries) in [(None, &restarted), (Some("timeout"), &late)] {
        for (webhook, route) in webhooks.iter().zip(&ROUTES) {
            let delivery = &deliveries[webhook];
            let outcomes: Vec<_> = attempts(delivery).into_iter().map(|(outcome, _)| outcome).collect();
            let expected = match (route.on_unknown, unknown) {
                ("retry", _) => vec![unknown, Some("delivered")],
                (_, None) => vec![None, Some("unknown")],
                (_, Some(_)) => vec![unknown],
            };
            assert_eq!(outcomes, expected, "{}: {delivery}", route.preset);
        }
    }

    // Each call is in each card, and only attempts of unknown outcome have doubled entries.
    let mut expected = BTreeMap::new();
    for (call, is_unknown) in [false, false, false, false, true, true].into_iter().enumerate() {
        for Route { card: (crm, card), after_unknown, .. } in &ROUTES {
            let card = card.replace('#', &call.to_string());
            expected.insert(((*crm).to_owned(), card), if is_unknown { *after_unknown } else { 1 });
        }
    }
    let entries = crms.entries();
    assert_eq!(entries, expected);
    for call in 0..6 {
        let transcript =
            ask(&stage, &gateway, Method::GET, &format!("v1/analyses/{call}/transcript"), None).await;
        let cards: Vec<_> = ROUTES.iter().map(|route| route.card.1.replace('#', &call.to_string())).collect();
        for entry in crms.stand_ins.entries().iter().filter(|entry| cards.contains(&entry.card)) {
            for turn in transcript["transcript"].as_array().unwrap() {
                let words = turn["text"].as_str().unwrap().trim();
                assert!(entry.text.contains(words), "{entry:?} has no {words:?}");
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn calls_reach_each_crm_through_faults_on_sqlite() {
    check(Stage::set_up().await).await;
}

#[tokio::test]
async fn calls_reach_each_crm_through_faults_on_postgres() {
    check(Stage::set_up_on_postgres().await).await;
}
