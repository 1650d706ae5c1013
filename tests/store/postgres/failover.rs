//! Several servers in one URL, and connections through a pooler.

use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::store::{Change, Queue};
use tokio::join;

use super::{expect_change, open_at, open_with, settings};
use crate::harness::{acme, call_id, submission, with_callback, with_metadata};
use crate::postgres_server::link::{Link, Passage};
use crate::postgres_server::pooler::Pooler;
use crate::postgres_server::server::Server;

/// Both statements and notices continue on the server that is left.
#[tokio::test]
async fn a_replica_continues_on_another_server() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let links = [Link::to(server.port(), Passage::Open).await, Link::to(server.port(), Passage::Open).await];
    let (_, name) = database.url().rsplit_once('/').unwrap();
    let [first, second] = links.each_ref().map(Link::port);
    let url = format!("postgres://gateway@127.0.0.1:{first},127.0.0.1:{second}/{name}");
    let settings = settings(&url);
    let (replica, beside) = join!(open_with(&settings, database.url(), ()), open_at(database.url(), ()));
    replica.complete(submission("1"), "salom").await;
    let [first, second] = links;
    for (lost, left, ticket) in [(&first, &second, "T-1"), (&second, &first, "T-2")] {
        left.set(Passage::Open);
        join!(expect_change(&replica, Change::Everything), async {
            lost.set(Passage::Cut);
            replica.find("1").await;
        });
        // The change of another replica, which the listening connection receives.
        join!(
            expect_change(&replica, Change::Analysis(acme(), call_id("1"))),
            beside.submit(with_metadata("1", ticket))
        );
        left.until(|traffic| traffic.connections >= 2).await;
    }
}

#[tokio::test]
async fn replicas_behind_a_pooler_share_work_and_hear_each_other() {
    if !Pooler::keeps_statements() {
        return;
    }
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let Some(pooler) = Pooler::start(server, "pool_mode = transaction") else { return };
    let mut settings = settings(&pooler.url(&database));
    settings.listen_url = Some(database.url().to_owned().into());
    let (one, other) =
        join!(open_with(&settings, database.url(), ()), open_with(&settings, database.url(), ()));
    let found = one.complete(submission("2"), "salom").await;
    assert_eq!(other.find("2").await, found);
    join!(
        expect_change(&other, Change::Analysis(acme(), call_id("2"))),
        one.submit(with_metadata("2", "T-2"))
    );
    join!(
        expect_change(&other, Change::Work(Queue::Submits)),
        one.submit(with_callback("1", "https://a.example/"))
    );
    let claimed = one.claim_one(Queue::Submits).await;
    assert!(other.claim(Queue::Submits).await.is_empty());
    let accepted = Step::Submitted(SubmitOutcome::Accepted);
    join!(expect_change(&other, Change::Work(Queue::Polls)), async {
        one.store.apply(claimed.lease, accepted.into()).await.unwrap();
    });
}
