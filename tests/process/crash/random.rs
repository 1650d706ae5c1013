//! Kills at random moments. The seed is printed; `CRASH_SEED` replays it, as far as the machine's timing allows.

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

/// How the calls of these tests play out at the vendor: all end well, some after trouble.
pub(super) const PLOTS: [&str; 14] = [
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

/// That of the variable, or a new one.
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

/// What is waited for before the kill, counted from the round's begin.
#[derive(Debug)]
enum Moment {
    Answers(usize),
    VendorRequests(usize),
    Callbacks(usize),
}

impl Moment {
    fn choose(random: &mut StdRng) -> Self {
        // Each is sure to come: every call is answered, handed over, asked for and announced.
        match random.random_range(0..3) {
            0 => Self::Answers(random.random_range(0..=CALLS)),
            1 => Self::VendorRequests(random.random_range(1..=2 * CALLS)),
            _ => Self::Callbacks(random.random_range(1..=CALLS)),
        }
    }
}

super::on_every_store! { at_random_moments }

async fn at_random_moments(stage: Stage) {
    let seed = seed("CRASH_SEED");
    println!("CRASH_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (stage, mut ledger) = (Arc::new(stage), Ledger::default());
    for round in 0..ROUNDS {
        let gateway = Arc::new(stage.serve().await);
        let (requests, received) = (stage.vendor.calls().len(), stage.receiver.received().len());
        let mut submissions = JoinSet::new();
        for call in 0..CALLS {
            let plot = PLOTS[random.random_range(0..PLOTS.len())];
            let call_id = format!("{plot}~{round}-{call}");
            ledger.sent(&call_id);
            let (stage, gateway) = (stage.clone(), gateway.clone());
            submissions.spawn(async move {
                let answer = stage.submit(&gateway, &call_id).await;
                answer.is_ok_and(|answer| answer.status() == 202).then_some(call_id)
            });
        }
        let moment = Moment::choose(&mut random);
        println!("round {round}: {moment:?}");
        match moment {
            Moment::Answers(count) => {
                for _ in 0..count {
                    let answered = within("an answer", submissions.join_next()).await.unwrap().unwrap();
                    ledger.promised(&answered.unwrap());
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
            answered.unwrap().iter().for_each(|call_id| ledger.promised(call_id));
        }
    }
    let tally = ledger.settle(&stage, stage.serve().await).await;
    println!("{ROUNDS} kills at random moments: {tally}");
}
