//! A schema of its own on the server that the tests are given; it goes with the value.

use tokio_postgres::{Client, NoTls};

pub(crate) struct Schema {
    name: String,
    /// Where a store in it is.
    pub(crate) url: String,
}

impl Schema {
    /// No two have the same name.
    pub(crate) async fn make() -> Self {
        let (server, name) = (server(), format!("copy_{}", uuid::Uuid::now_v7().simple()));
        connect(&server).await.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let url = format!("{server}?options=-csearch_path%3D{name}");
        Self { name, url }
    }

    /// What another program finds in it, or does to it.
    pub(crate) async fn beside(&self) -> Client {
        connect(&self.url).await
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        // The test's own runtime cannot be waited for here.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect(&server()).await.batch_execute(&drop).await.unwrap() });
        });
        dropping.join().unwrap();
    }
}

/// The one place that knows where a server is.
fn server() -> String {
    std::env::var("TEST_PG").unwrap()
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
