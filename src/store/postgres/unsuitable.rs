//! Databases that the gateway cannot use.

/// Reason why the gateway cannot use a database.
#[derive(Debug, thiserror::Error)]
pub enum UnsuitableDatabase {
    /// The server is too old.
    #[error("PostgreSQL {0} is too old: version 15 or newer is needed")]
    Version(String),
    /// The encoding of the database cannot store every text.
    #[error("the database has the encoding {0}: create it with ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
    /// The role has no schema.
    #[error(
        "the role {role} has no schema, search_path is {search_path}: create the schema, and GRANT USAGE, CREATE ON it TO {role}"
    )]
    Schema {
        /// The role that the gateway connects as.
        role: String,
        /// The search path of the role.
        search_path: String,
    },
    /// The schema is not up to date, and the role lacks the privilege to migrate the schema.
    #[error(
        "the role {role} may not create tables in the schema {schema}: GRANT CREATE ON SCHEMA {schema} TO {role}"
    )]
    Create {
        /// The role that the gateway connects as.
        role: String,
        /// The first schema of the role's search path.
        schema: String,
    },
    /// The role lacks a privilege on a table.
    #[error(
        "the role {role} may not {privilege} in the table {table}: \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    )]
    Table {
        /// The role that the gateway connects as.
        role: String,
        /// The schema of the table.
        schema: String,
        /// The table on which the privilege is missing.
        table: String,
        /// The privilege that is missing.
        privilege: String,
    },
    /// A crash of the database server could lose a submission that the gateway has acknowledged.
    #[error(
        "synchronous_commit is off, and a pooler prevents the gateway from changing it: ALTER ROLE {0} SET synchronous_commit = on"
    )]
    Durability(String),
    /// A pooler gives each transaction another session, so `LISTEN` does not work.
    #[error(
        "{0} leads to a connection pooler that pools by transaction, but LISTEN needs a session: set store.listen_url to a direct \
         connection, or pool by session (PgBouncer: pool_mode = session)"
    )]
    Session(&'static str),
    /// A pooler loses prepared statements.
    #[error(
        "store.url leads to a connection pooler that pools by transaction and loses prepared statements: use PgBouncer 1.21 or newer \
         with max_prepared_statements above 0, or pool by session (pool_mode = session)"
    )]
    Statements,
    /// A pooler gives each statement another session.
    #[error(
        "{0} leads to a connection pooler that pools by statement: pool by session (PgBouncer: pool_mode = session)"
    )]
    Transactions(&'static str),
    /// A pooler has no server connection for a second client.
    #[error(
        "a second connection through {0} gets no answer: a connection pooler has too few connections to the server \
         (PgBouncer: default_pool_size must exceed store.max_connections)"
    )]
    Connections(&'static str),
    /// `store.url` and `store.listen_url` lead to different databases.
    #[error("store.listen_url does not receive what store.url sends: both must lead to the same database")]
    Listening,
}
