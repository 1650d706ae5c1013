//! Lists on PostgreSQL: the time limits of their statements.

use alovoice_gateway::domain::attributes::AttributeSource;

use super::open_at;
use crate::cases::attributes::{give, having};
use crate::cases::listings::{fill, whole_page};
use crate::postgres_server::link::Link;
use crate::postgres_server::server::Server;

/// On a busy machine, the end of a transaction can take longer than the limit of the read in it.
#[tokio::test]
async fn a_list_succeeds_although_the_end_of_a_limited_read_takes_long() {
    let server = Server::shared().await;
    let database = server.fresh_database().await;
    let link = Link::that_delays_rollbacks(server.port()).await;
    let harness = open_at(&database.url_through(&link), ()).await;
    fill(&harness).await;
    give(&harness, "queue", "support", "revision > 0").await;
    give(&harness, "phone", "+998901234567", "call_id IN ('c00007', 'c24000')").await;
    let filter = having(&[(AttributeSource::Queue, "support"), (AttributeSource::Phone, "+998901234567")]);
    // Each connection is used again.
    for _ in 0..8 {
        assert_eq!(whole_page(&harness, filter.clone()).await, ["c24000", "c00007"]);
    }
}
