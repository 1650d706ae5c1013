//! `kill -9` at random moments. The test prints its seed. `CRASH_SEED` replays a run, as far as the timing of the machine allows.

use std::sync::Arc;

use alovoice_gateway::domain::clock::{Entropy, SystemEntropy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::ledger::Ledger;
use crate::gateway::within;
use crate::stage::Stage;

const ROUNDS: usize = 20;
const CALLS: usize = 10;

/// Behaviours of the vendor for the calls of these tests. All calls complete, some of them after faults.
pub(super) const VENDOR_BEHAVIOURS: [&str; 14] = [
    "documented",
    "documented",
    "documented",
    "not-ready-404",
    "not-ready-empty",
    "gzip",
    "submit-204",
    "submit-reset",
    "submit-reset-lost",
    "submit-500-taken",
    "submit-500-lost",
    "submit-hang",
    "result-500",
    "reset",
];

/// The seed in the environment variable, or a random seed.
pub(super) fn seed(variable: &str) -> u64 {
    let chosen = std::env::var(variable).ok();
    chosen.map_or_else(
        || {
            let mut bytes = [0; 8];
            SystemEntropy.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        },
        |seed| seed.parse().unwrap(),
    )
}

/// Event before the kill, counted from the beginning of the round.
#[derive(Debug)]
enum Moment {
    Answers(usize),
    VendorRequests(usize),
    Callbacks(usize),
}

impl Moment {
    fn choose(random: &mut StdRng) -> Self {
        // Each event is certain to happen: every call is acknowledged, submitted, polled and announced.
        match random.random_range(0..3) {
            0 => Self::Answers(random.random_range(0..=CALLS)),
            1 => Self::VendorRequests(random.random_range(1..=2 * CALLS)),
            _ => Self::Callbacks(random.random_range(1..=CALLS)),
        }
    }
}

super::on_every_store! { kill_at_random_moments }

async fn kill_at_random_moments(stage: Stage) {
    let seed = seed("CRASH_SEED");
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (stage, mut ledger) = (Arc::new(stage), Ledger::default());
    for round in 0..ROUNDS {
        let gateway = Arc::new(stage.serve().await);
        let (requests, received) = (stage.vendor.calls().len(), stage.receiver.received().len());
        let mut submissions = JoinSet::new();
        for call in 0..CALLS {
            let behaviour = VENDOR_BEHAVIOURS[random.random_range(0..VENDOR_BEHAVIOURS.len())];
            let call_id = format!("{behaviour}~{round}-{call}");
            ledger.sent(&call_id);
            let (stage, gateway) = (stage.clone(), gateway.clone());
            submissions.spawn(async move {
                let answer = stage.submit(&gateway, &call_id).await;
                answer.is_ok_and(|answer| answer.status().is_success()).then_some(call_id)
            });
        }
        let moment = Moment::choose(&mut random);
        println!("round {round}: {moment:?}");
        match moment {
            Moment::Answers(count) => {
                for _ in 0..count {
                    let answered = within("an answer", submissions.join_next()).await.unwrap().unwrap();
                    ledger.acknowledged(&answered.unwrap());
                }
            }
            Moment::VendorRequests(count) => {
                let enough = stage.vendor.wait_for(|all| all.len() >= requests + count);
                within("requests to the vendor", enough).await;
            }
            Moment::Callbacks(count) => {
                let enough = stage.receiver.wait_for(|all| all.len() >= received + count);
                within("callbacks", enough).await;
            }
        }
        gateway.kill();
        while let Some(answered) = submissions.join_next().await {
            answered.unwrap().iter().for_each(|call_id| ledger.acknowledged(call_id));
        }
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("{ROUNDS} kills at random moments: {tally}");
}
