//! Clients that ask for renderings of the largest results, and read nothing, read slowly or hang up.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::flood_server::{FloodServer, json};
use super::unread::submission;
use super::{Flooded, MIB};
use crate::gateway::within;
use crate::stage::Stage;

/// The tenants of these clients.
const HOSTILE: [&str; 3] = ["acme", "globex", "initech"];
const OTHER: &str = "umbrella";
/// Of these bodies, `html` is the largest.
const PRESETS: [&str; 3] = ["html", "markdown", "bitrix24.transcript"];

/// A vendor. The results of calls with the prefix `large` have almost the maximum size of a rendering after HTML escapes.
async fn vendor() -> FloodServer {
    let turn = |number: usize, text: &str| {
        format!(r#"{{"begin":{number},"end":1{number},"direction":"client","text":"{text}"}}"#)
    };
    let text = "salom & ".repeat(1250);
    let turns: Vec<_> = (0..500).map(|number| turn(number, &text)).collect();
    let result = |turns: &str| json(&format!(r#"{{"answer":{{"stalk":[{turns}],"tags":[]}}}}"#));
    let turns = turns.join(",");
    assert!((4 * MIB..5 * MIB).contains(&(turns.len() as u64)));
    let (large, small) = (result(&turns), result(&turn(0, "salom")));
    FloodServer::start(move |path, _| match path {
        path if path.starts_with("/callsendai/") => {
            json(r#"{"answer":{"aicallid":"664b400ccccc3235a7cd17f"}}"#)
        }
        path if path.rsplit('/').next().unwrap().starts_with("large") => large.clone(),
        _ => small.clone(),
    })
    .await
}

impl Flooded {
    async fn until_completed(&self, tenant: &str, call: &str) {
        loop {
            let answer = self.get_as(tenant, &format!("v1/analyses/{call}")).await;
            if answer.text().await.is_ok_and(|analysis| analysis.contains(r#""status":"completed""#)) {
                return;
            }
        }
    }
}

#[tokio::test]
async fn renderings_of_the_largest_results_stay_within_the_memory_of_the_process() {
    let vendor = vendor().await;
    let mut stage = Stage::set_up().await;
    stage.set("VENDOR__BASE_URL", vendor.url.as_str());
    stage.set("VENDOR__REQUEST_TIMEOUT", "1m");
    stage.set("SERVER__BODY_TIMEOUT", "1h");
    for tenant in [HOSTILE[1], HOSTILE[2], OTHER] {
        let key = format!("TENANTS__{}__VENDOR_TOKEN_FILE", tenant.to_uppercase());
        stage.set_file(&key, &format!("token-of-{tenant}-0123456789"));
    }
    let flooded = Flooded::on(stage).await;
    for (tenant, call) in [(HOSTILE[0], "large"), (HOSTILE[1], "large"), (HOSTILE[2], "large"), (OTHER, "1")]
    {
        assert_eq!(flooded.submit_as(tenant, submission(call, 100)).await, 202);
        within("a result", flooded.until_completed(tenant, call)).await;
    }

    let large = async {
        while flooded.get_as(HOSTILE[0], "v1/analyses/large/renderings/html").await.status() != 200 {}
    };
    within("a large rendering", large).await;

    let (mut unread, mut slow) = (Vec::new(), JoinSet::new());
    for number in 0..4 {
        for tenant in HOSTILE {
            let path = format!("GET /v1/analyses/large/renderings/{}", PRESETS[number % PRESETS.len()]);
            let connection = flooded.ask(tenant, &path, "").await;
            match number % 4 {
                0 => drop(connection),
                1 => _ = slow.spawn(connection.read_slowly()),
                _ => unread.push(connection),
            }
        }
    }
    let rendered = async {
        while flooded.get_as(OTHER, "v1/analyses/1/renderings/html").await.status() != 200 {
            assert_eq!(flooded.get_as(OTHER, "v1/analyses/1").await.status(), 200);
        }
    };
    within("a rendering of another tenant", rendered).await;
    let mut statuses = BTreeSet::new();
    for connection in &mut unread {
        statuses.insert(within("a status", connection.status()).await);
    }
    // On a busy machine, every rendering may have to wait too long for its memory. The preset of Bitrix24 needs a CRM id (422).
    assert!(statuses.is_subset(&[200, 422, 503].into()), "{statuses:?}");
    // The allocator keeps freed memory for a while, so only the bound of the whole process is certain.
    let room = 512 * MIB - flooded.before;
    flooded.check_healthy_within(room).await;
}
