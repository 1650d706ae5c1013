//! A database for one test.

use tokio_postgres::{Client, Error, NoTls};
use url::Url;

use super::link::Link;

/// Opens a connection, which ends when the client is dropped.
pub(crate) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database on a server. Dropping the value drops the database if the server is reachable.
pub(crate) struct Database {
    url: String,
    administration: String,
    name: String,
}

impl Database {
    pub(super) fn new(url: String, administration: String, name: String) -> Self {
        Self { url, administration, name }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The URL of the database through a link.
    pub(crate) fn url_through(&self, link: &Link) -> String {
        let mut url: Url = self.url.parse().unwrap();
        url.set_port(Some(link.port())).unwrap();
        url.into()
    }

    /// Opens a connection to the database.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.url).await.unwrap()
    }
}

impl Drop for Database {
    /// Drops the database, since hundreds of them would fill a small `/tmp`.
    fn drop(&mut self) {
        let (url, statement) =
            (self.administration.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Ok(client) = connect(&url).await {
                    // A failure is harmless: the database is removed with the server.
                    let _ = client.batch_execute(&statement).await;
                }
            });
        });
    }
}
