//! Steps of the clock that take longer than the time limit of an operation.

use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, ClockStep, SteadyClock};
use alovoice_gateway::domain::clock_guard::JumpConfirmation;
use tokio::join;

use super::{open_limited, settings, within};
use crate::harness::{START, submission};
use crate::postgres_server::server::Server;

const LIMIT: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_step_may_take_longer_than_other_operations() {
    let database = Server::shared().await.fresh_database().await;
    let stepping = open_limited(&settings(database.url()), database.url(), LIMIT, ()).await;
    let beside = open_limited(&settings(database.url()), database.url(), LIMIT, ()).await;
    // The server needs longer than the limit for one statement of a step, and for one statement of the check of all times.
    let slow = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5.5); RETURN NULL; END $$; \
                CREATE TRIGGER slow BEFORE UPDATE ON learned_answers EXECUTE FUNCTION wait(); \
                CREATE TRIGGER slow BEFORE UPDATE ON replays EXECUTE FUNCTION wait();";
    let client = database.connect().await;
    client.batch_execute(slow).await.unwrap();
    assert!(stepping.store.record_clock(START, 0, true).await.unwrap());

    let clock = Arc::new(SteadyClock::starting_at(START));
    let step = ClockStep { since: None, from: START, to: START + HOUR };
    let sleeps = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    let (stepped, recorded) = join!(
        stepping.store.step_clock_across_tenants(clock.clone(), step, JumpConfirmation::ShortOutage, 0),
        within("a step in progress", async {
            while client.query(sleeps, &[]).await.unwrap().is_empty() {}
            beside.submit(submission("1")).await;
            beside.store.record_clock(START, 0, true).await.unwrap()
        }),
    );
    assert!(stepped.unwrap().is_some());
    assert!(!recorded, "the record waited for the step");
    // A call that was submitted during the step keeps its age, too.
    let work = beside.find("1").await.analysis.work.unwrap();
    assert_eq!(work.started_at, step.to);
    // The clock advanced while the server was busy.
    let found = stepping.store.find_clock().await.unwrap().unwrap();
    assert!(found.steps == 1 && found.at >= step.to + LIMIT && clock.now() >= found.at, "{found:?}");

    stepping.clock.set(step.to);
    assert_eq!(stepping.store.limit_times_across_tenants(HOUR).await.unwrap(), 0);
}
