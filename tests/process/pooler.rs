//! Gateways behind a connection pooler that pools by transaction.

use crate::peers::run_patiently;
use crate::postgres::pooler::Pooler;
use crate::postgres::server::Server;
use crate::stage::Stage;

const CALLS: usize = 40;

#[tokio::test]
async fn replicas_behind_a_pooler_need_a_direct_connection_to_listen() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    // Each transaction gets another session than the transaction before.
    let settings = "pool_mode = transaction\nmax_prepared_statements = 100\nserver_round_robin = 1";
    let keeps_statements = Pooler::keeps_statements();
    let Some(pooler) = keeps_statements.then(|| Pooler::start(server, settings)).flatten() else { return };
    let (direct, pooled) = (database.url().to_owned(), pooler.url(&database));
    let mut stage = Stage::on(database).await;
    stage.set("STORE__URL", &pooled);
    for command in ["check", "serve"] {
        let output = run_patiently(|| stage.command(&[command])).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("set store.listen_url to a direct connection"), "{command}: {message}");
    }

    stage.set("STORE__LISTEN_URL", &direct);
    assert_eq!(run_patiently(|| stage.command(&["check"])).await.status.code(), Some(0));
    let (one, other) = (stage.serve().await, stage.serve().await);
    for call in 0..CALLS {
        let answer = stage.submit(&one, &format!("pooled-{call}")).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }
    // The notices of one replica reach the other over the direct connection.
    for call in 0..CALLS {
        stage.completed(&other, &format!("pooled-{call}")).await;
    }
    one.stop().await;
    other.stop().await;
}
