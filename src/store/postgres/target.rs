//! The target database of a copy. The columns and keys of each table are read from the catalogue.

use std::error::Error;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use deadpool_postgres::Object;
use futures_util::TryStreamExt;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::super::StoreError;
use super::super::tables::{Cell, Cells, Column, ColumnKind, Table};
use super::connect::Connector;
use super::copy_record::{self, CopyRecord};
use super::fault::Fault;
use super::indexes::INDEXES;
use super::migrations::{self, MIGRATIONS};
use super::requirements::examine;
use super::{PostgresOpenError, listings};
use crate::config::PostgresUrl;

/// Connection to the database into which `store copy` writes.
pub(in crate::store) struct Target {
    client: Object,
}

impl Target {
    /// Connects, and migrates the schema.
    pub(in crate::store) async fn open(
        url: &PostgresUrl,
        password_file: Option<&Path>,
        operation_timeout: Duration,
    ) -> Result<Self, PostgresOpenError> {
        let connector = Connector::new(url, password_file, operation_timeout);
        let connector =
            connector.map_err(|error| PostgresOpenError::Settings(format!("store.url: {error}")))?;
        let connector = examine(connector, None).await?.connector;
        let pool = connector.pool(1).map_err(PostgresOpenError::Settings)?;
        let (mut migrating, _driving) = connector.connect(None).await.map_err(Fault::from)?;
        migrations::run(&mut migrating, &MIGRATIONS, &INDEXES).await?;
        let client = pool.get().await.map_err(|error| StoreError::from(Fault::from(error)))?;
        // Statements of a copy have no time limit: no request waits for a copy, and reading a large table takes long.
        client.batch_execute("SET statement_timeout = 0").await.map_err(StoreError::from)?;
        Ok(Self { client })
    }

    /// Prevents gateways and other copies from using the database. Returns whether the lock was acquired.
    pub(in crate::store) async fn lock(&self) -> Result<bool, StoreError> {
        Ok(copy_record::lock_exclusive(&self.client).await?)
    }

    pub(in crate::store) async fn copy_record(&self) -> Result<Option<CopyRecord>, StoreError> {
        Ok(copy_record::read(&self.client).await?)
    }

    pub(in crate::store) async fn create_copy_record(&self, source: &str) -> Result<(), StoreError> {
        Ok(copy_record::create(&self.client, source).await?)
    }

    pub(in crate::store) async fn finish_copy_record(&self) -> Result<(), StoreError> {
        Ok(copy_record::finish(&self.client).await?)
    }

    /// Reads the columns, the primary key and the identity column of a table.
    pub(in crate::store) async fn describe(&self, name: &'static str) -> Result<Table, StoreError> {
        let columns = "SELECT attname::text, format_type(atttypid, atttypmod), attidentity <> '', \
             array_position(indkey::int2[], attnum) FROM pg_attribute \
             JOIN pg_index ON indrelid = attrelid AND indisprimary \
             WHERE attrelid = to_regclass($1)::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        let mut table =
            Table { name, columns: Vec::new(), key: Vec::new(), identity: None, is_in_file: false };
        let mut key = Vec::new();
        for (index, row) in self.client.query(columns, &[&name]).await?.iter().enumerate() {
            let (column, type_name): (String, &str) = (row.try_get(0)?, row.try_get(1)?);
            let kind = kind(type_name).ok_or_else(|| {
                StoreError::Corrupt(format!("table {name}, column {column}: unknown type {type_name}"))
            })?;
            if row.try_get(2)? {
                table.identity = Some(column.clone());
            }
            if let Some(position) = row.try_get::<_, Option<i32>>(3)? {
                key.push((position, index));
            }
            table.columns.push(Column { name: column, kind });
        }
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, index)| index).collect();
        if table.key.is_empty() {
            return Err(StoreError::Corrupt(format!("table {name} does not exist or has no primary key")));
        }
        Ok(table)
    }

    /// Reads the highest key in a table.
    pub(in crate::store) async fn last_key(&self, table: &Table) -> Result<Option<Cells>, StoreError> {
        let (name, key, order) = (table.name, table.key_list(""), table.key_list(" DESC"));
        let last = format!("SELECT {key} FROM {name} ORDER BY {order} LIMIT 1");
        Ok(self.client.query_opt(&last, &[]).await?.as_ref().map(cells).transpose()?)
    }

    /// Writes rows in one statement: all of them or none.
    pub(in crate::store) async fn write(&self, table: &Table, rows: &[Cells]) -> Result<(), StoreError> {
        let copy = format!("COPY {} ({}) FROM STDIN BINARY", table.name, table.column_list());
        let types: Vec<Type> = table.columns.iter().map(|column| type_of(column.kind)).collect();
        let mut writer = pin!(BinaryCopyInWriter::new(self.client.copy_in(&copy).await?, &types));
        for row in rows {
            writer.as_mut().write_raw(row).await?;
        }
        writer.finish().await?;
        Ok(())
    }

    /// Creates list and search entries for the next copied results. See [`listings::list_copied`].
    pub(in crate::store) async fn list_results(
        &self,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Option<(i64, usize)>, StoreError> {
        Ok(listings::list_copied(&self.client, after, limit).await?)
    }

    /// Reads every row in the order of the key.
    pub(in crate::store) async fn read(
        &self,
        table: &Table,
        mut each: impl FnMut(&[Cell]),
    ) -> Result<(), StoreError> {
        let (name, columns, key) = (table.name, table.column_list(), table.key_list(""));
        let all = format!("SELECT {columns} FROM {name} ORDER BY {key}");
        let mut rows = pin!(self.client.query_raw(&all, std::iter::empty::<i64>()).await?);
        while let Some(row) = rows.try_next().await? {
            each(&cells(&row)?);
        }
        Ok(())
    }

    /// Raises the sequence of an identity column, so that new rows get numbers above `highest`.
    pub(in crate::store) async fn raise_identity(
        &self,
        table: &Table,
        column: &str,
        highest: i64,
    ) -> Result<(), StoreError> {
        if highest > 0 {
            let raise = "SELECT setval(number, greatest($3, coalesce(pg_sequence_last_value(number), 0))) \
                 FROM (SELECT pg_get_serial_sequence($1, $2)::regclass AS number) AS sequence";
            self.client.execute(raise, &[&table.name, &column, &highest]).await?;
        }
        Ok(())
    }

    /// Updates the planner's statistics of a copied table, so that they are current when a gateway first claims work.
    pub(in crate::store) async fn analyze(&self, table: &Table) -> Result<(), StoreError> {
        Ok(self.client.batch_execute(&format!("ANALYZE {}", table.name)).await?)
    }
}

fn kind(type_name: &str) -> Option<ColumnKind> {
    match type_name {
        "bigint" => Some(ColumnKind::Integer),
        "boolean" => Some(ColumnKind::Boolean),
        "text" => Some(ColumnKind::Text),
        "bytea" => Some(ColumnKind::Bytes),
        _ => None,
    }
}

fn type_of(kind: ColumnKind) -> Type {
    match kind {
        ColumnKind::Integer => Type::INT8,
        ColumnKind::Boolean => Type::BOOL,
        ColumnKind::Text => Type::TEXT,
        ColumnKind::Bytes => Type::BYTEA,
    }
}

fn cells(row: &tokio_postgres::Row) -> Result<Cells, tokio_postgres::Error> {
    (0..row.len()).map(|index| row.try_get(index)).collect()
}

fn is_known(of: &Type) -> bool {
    [Type::INT8, Type::BOOL, Type::TEXT, Type::BYTEA].contains(of)
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(match *of {
            Type::INT8 => Self::Integer(i64::from_sql(of, raw)?),
            Type::BOOL => Self::Boolean(bool::from_sql(of, raw)?),
            Type::TEXT => Self::Text(String::from_sql(of, raw)?),
            _ => Self::Bytes(Vec::from_sql(of, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self::Null)
    }

    fn accepts(of: &Type) -> bool {
        is_known(of)
    }
}

impl ToSql for Cell {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) => number.to_sql(of, out),
            Self::Boolean(is) => is.to_sql(of, out),
            Self::Text(text) => text.to_sql(of, out),
            Self::Bytes(bytes) => bytes.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        is_known(of)
    }

    to_sql_checked!();
}
