//! Receivers that accept connections and never answer.

use std::fs;

use alovoice_gateway::domain::webhooks::Health;
use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use serde_json::json;
use tempfile::TempDir;

use crate::stage::{ACME_SECRET, Stage, VENDOR_TOKENS};

/// Number of attempts in flight to one receiver.
const PER_RECEIVER: usize = 8;
/// Number of attempts in flight of one tenant to receivers that are not known to be prompt.
const PER_TENANT: usize = 24;
/// Number of consecutive failures after which a receiver is paused.
const PAUSES_AFTER: usize = Health::PAUSES_AFTER as usize;
/// Number of attempts in flight in slots that all tenants share.
const SHARED: usize = 128;

async fn silent_receiver() -> Receiver {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    receiver.set_held(true);
    receiver
}

#[tokio::test]
async fn silent_receivers_of_other_tenants_delay_no_callback() {
    const TENANTS: usize = 9;
    let files = TempDir::new().unwrap();
    let tenants: Vec<String> = (0..TENANTS).map(|number| format!("silent{number}")).collect();
    let mut settings = vec![("CALLBACKS__TIMEOUT".to_owned(), "5m".to_owned())];
    for tenant in &tenants {
        for (file, key, content) in [
            ("token", "VENDOR_TOKEN_FILE", &format!("token-of-{tenant}")[..]),
            ("secret", "CALLBACK_SECRET_FILE", ACME_SECRET),
        ] {
            let path = files.path().join(format!("{tenant}-{file}"));
            fs::write(&path, content).unwrap();
            settings.push((format!("TENANTS__{}__{key}", tenant.to_uppercase()), path.display().to_string()));
        }
    }
    let settings: Vec<_> = settings.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    let stage = Stage::with(&settings).await;
    let tokens = tenants.iter().map(|tenant| format!("token-of-{tenant}"));
    stage.vendor.set_tokens(VENDOR_TOKENS.map(str::to_owned).into_iter().chain(tokens).collect());
    let mut silent = Vec::new();
    for _ in 0..PER_TENANT / PER_RECEIVER {
        silent.push(silent_receiver().await);
    }
    for tenant in &tenants {
        let caller = stage.caller(tenant);
        for number in 0..PER_TENANT {
            let url = silent[number % silent.len()].hook("ok");
            caller.submitted(json!({"call_id": format!("{number}"), "callback": {"url": url}})).await;
        }
    }
    let taken = SHARED + TENANTS * PER_RECEIVER;
    assert!(taken < TENANTS * PER_TENANT, "the tenants want more slots than there are");
    while silent.iter().map(|receiver| receiver.received().len()).sum::<usize>() < taken {
        stage.admin("livez").await;
    }
    for call_id in ["1", "2", "3"] {
        let callback = json!({"url": stage.hook("ok")});
        stage.globex().submitted(json!({"call_id": call_id, "callback": callback})).await;
        stage.receiver.next().await;
    }
    silent.iter().for_each(|receiver| receiver.set_held(false));
}

#[tokio::test]
async fn a_silent_receiver_of_callbacks_is_paused() {
    // The pauses of the receiver limit the attempts, not the schedule. The prompt receiver may need several attempts on a busy machine.
    let schedule = ["1ms"; 32].join(",");
    let settings = [("CALLBACKS__TIMEOUT", "100ms"), ("CALLBACKS__RETRY_SCHEDULE", schedule.as_str())];
    let stage = Stage::with(&settings).await;
    let silent = silent_receiver().await;
    let calls: Vec<String> = (0..5 * PER_RECEIVER).map(|number| format!("silent-{number}")).collect();
    for call_id in &calls {
        let callback = json!({"url": silent.hook("ok")});
        stage.acme().submitted(json!({"call_id": call_id, "callback": callback})).await;
    }
    for call_id in &calls {
        stage.acme().outcome(call_id).await;
    }
    // The first attempts end with a time-out. The fifth one pauses the receiver for five seconds.
    let timed_out = |page: &str| {
        let (_, rest) = page.split_once("attempt_duration_seconds_count{outcome=\"timeout\"} ")?;
        rest.lines().next()?.parse::<usize>().ok()
    };
    while timed_out(&stage.admin("metrics").await.1).is_none_or(|attempts| attempts < PAUSES_AFTER) {}
    for call_id in ["1", "2"] {
        let callback = json!({"url": stage.hook("ok")});
        stage.acme().submitted(json!({"call_id": call_id, "callback": callback})).await;
        stage.receiver.next().await;
    }
    // Deliveries probe the receiver one at a time, after each pause; the others have used no attempt.
    let attempts = silent.received().len();
    assert!(attempts < calls.len(), "{attempts}");
    silent.set_held(false);
}
