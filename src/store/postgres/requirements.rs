//! The requirements of the gateway on a database. The start of a gateway and the command `check` check these requirements.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::task::AbortOnDropHandle;

use super::super::tables::{DERIVED_TABLES, TABLES};
use super::connect::Connector;
use super::fault::Fault;
use super::migrations;
use super::unsuitable::UnsuitableDatabase;

/// The oldest version of PostgreSQL with which the gateway is tested, as `server_version_num`.
const OLDEST_VERSION: i32 = 150_000;
/// Number of transactions that are held open on other connections, to detect whether a pooler then moves a connection to
/// another session.
const HELD_TRANSACTIONS: usize = 2;

/// The assignment of connections to sessions of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    /// Each connection keeps the same session until the connection ends.
    Session,
    /// A pooler gives each transaction a session.
    Transaction,
}

/// Connectors to a database that fulfils the requirements.
pub(super) struct Examined {
    /// Opens connections for statements.
    pub(super) connector: Connector,
    /// Opens connections for `LISTEN`.
    pub(super) listening: Connector,
    /// Whether the schema is up to date.
    pub(super) is_current: bool,
}

/// Checks the requirements without changing anything. `listening` is the connector of `store.listen_url`.
pub(super) async fn examine(connector: Connector, listening: Option<Connector>) -> Result<Examined, Fault> {
    let pooling = pooling(&connector, "store.url").await?;
    if pooling == Pooling::Transaction && listening.is_none() {
        return Err(UnsuitableDatabase::Session("store.url").into());
    }
    if let Some(listening) = &listening
        && self::pooling(listening, "store.listen_url").await? == Pooling::Transaction
    {
        return Err(UnsuitableDatabase::Session("store.listen_url").into());
    }
    let connector = if pooling == Pooling::Transaction { connector.without_sessions() } else { connector };
    let (mut client, _driving) = connector.connect(None).await?;
    let is_current = check_database(&mut client, pooling).await?;
    if let Some(listening) = &listening {
        check_listening(&client, listening).await?;
    }
    let listening = listening.unwrap_or_else(|| connector.clone());
    Ok(Examined { connector, listening, is_current })
}

/// Finds out whether a pooler moves a connection to another session while transactions of other connections are open.
async fn pooling(connector: &Connector, setting: &'static str) -> Result<Pooling, Fault> {
    // This connector does not set up sessions. Otherwise the settings would stay with the session of the pooler, which another
    // client gets next.
    let connector = connector.clone().without_sessions();
    let (client, _driving) = connector.connect(None).await?;
    let Some(statement) = kept(client.prepare("SELECT pg_backend_pid()").await)? else {
        return Err(UnsuitableDatabase::Statements.into());
    };
    let mut process: Option<i32> = None;
    let mut held = Vec::new();
    loop {
        let answer = timeout(connector.operation_timeout(), client.query_one(&statement, &[])).await;
        let answer = answer.map_err(|_| UnsuitableDatabase::Connections(setting))?;
        let Some(row) = kept(answer)? else { return Err(UnsuitableDatabase::Statements.into()) };
        let found = row.try_get(0)?;
        if *process.get_or_insert(found) != found {
            return Ok(Pooling::Transaction);
        }
        if held.len() == HELD_TRANSACTIONS {
            return Ok(Pooling::Session);
        }
        held.push(hold(&connector, setting).await?);
    }
}

/// Returns the answer to a prepared statement. Returns `None` if a pooler changed the session. The new session then does not know
/// the statement, or already has a statement of the same name.
fn kept<T>(answer: Result<T, tokio_postgres::Error>) -> Result<Option<T>, Fault> {
    let lost = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.code().is_some_and(|code| lost.contains(code)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Opens a transaction on another connection, and keeps the transaction open.
async fn hold(
    connector: &Connector,
    setting: &'static str,
) -> Result<(Client, AbortOnDropHandle<()>), Fault> {
    let open = async {
        let (client, driving) = match connector.connect(None).await {
            Ok(connected) => connected,
            // The pooler has accepted the connection, but gets no session of the server.
            Err(error) if error.is_time_limit() => {
                return Err(UnsuitableDatabase::Connections(setting).into());
            }
            Err(error) => return Err(error.into()),
        };
        match client.batch_execute("BEGIN").await {
            Ok(()) => Ok((client, driving)),
            Err(error) if error.code() == Some(&SqlState::PROTOCOL_VIOLATION) => {
                Err(UnsuitableDatabase::Transactions(setting).into())
            }
            Err(error) => Err(Fault::from(error)),
        }
    };
    // A slow server must not look like a pooler with too few connections.
    let patience = connector.patience() + connector.operation_timeout();
    timeout(patience, open).await.unwrap_or_else(|_| Err(UnsuitableDatabase::Connections(setting).into()))
}

/// Checks the server, the database and the privileges of the role. Returns whether the schema is up to date.
async fn check_database(client: &mut Client, pooling: Pooling) -> Result<bool, Fault> {
    let facts = "SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS version, \
         current_setting('server_encoding') AS encoding, current_user::text AS role, current_schema()::text AS schema, \
         current_setting('search_path') AS search_path, current_setting('synchronous_commit') AS commits, \
         coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create";
    let facts = client.query_one(facts, &[]).await?;
    let text = |name: &str| facts.try_get::<_, String>(name);
    if facts.try_get::<_, i32>("number")? < OLDEST_VERSION {
        return Err(UnsuitableDatabase::Version(text("version")?).into());
    }
    let (encoding, role) = (text("encoding")?, text("role")?);
    if encoding != "UTF8" {
        return Err(UnsuitableDatabase::Encoding(encoding).into());
    }
    let Some(schema) = facts.try_get::<_, Option<String>>("schema")? else {
        return Err(UnsuitableDatabase::Schema { role, search_path: text("search_path")? }.into());
    };
    if pooling == Pooling::Transaction && text("commits")? == "off" {
        return Err(UnsuitableDatabase::Durability(role).into());
    }
    let denied = "SELECT relname::text, privilege FROM pg_class, \
         unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege \
         WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind = 'r' \
         AND relname = ANY ($1) AND NOT has_table_privilege(pg_class.oid, privilege) LIMIT 1";
    let tables: Vec<&str> = TABLES.into_iter().chain(DERIVED_TABLES).collect();
    if let Some(row) = client.query_opt(denied, &[&tables]).await? {
        let (table, privilege) = (row.try_get(0)?, row.try_get(1)?);
        return Err(UnsuitableDatabase::Table { role, schema, table, privilege }.into());
    }
    let is_current = migrations::inspect(client).await?;
    if !is_current && !facts.try_get::<_, bool>("may_create")? {
        return Err(UnsuitableDatabase::Create { role, schema }.into());
    }
    Ok(is_current)
}

/// Checks that a notice that `client` sends reaches a connection of `listening`.
async fn check_listening(client: &Client, listening: &Connector) -> Result<(), Fault> {
    let channel = "SELECT 'alovoice_gateway_check_' || replace(gen_random_uuid()::text, '-', '')";
    let channel: String = client.query_one(channel, &[]).await?.try_get(0)?;
    let (sender, mut notices) = mpsc::unbounded_channel();
    let (listener, _driving) = listening.connect(Some(sender)).await?;
    listener.batch_execute(&format!("LISTEN {channel}")).await?;
    client.execute("SELECT pg_notify($1, '')", &[&channel]).await?;
    match timeout(listening.operation_timeout(), notices.recv()).await {
        Ok(Some(_)) => Ok(()),
        _ => Err(UnsuitableDatabase::Listening.into()),
    }
}
