//! What is copied: the tables, and rows of any of them.

/// Every table, those that others refer to first. Their columns and keys are read from the database. What lists and
/// searches go by is made anew from the results.
pub(in crate::store) const TABLES: [&str; 13] = [
    "analyses",
    "results",
    "callbacks",
    "events",
    "deliveries",
    "attempts",
    "paces",
    "feeds",
    "audit",
    "webhooks",
    "replays",
    "usage",
    "idempotency",
];

/// A table that both engines hold.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) columns: Vec<Column>,
    /// The columns of the primary key, in its order.
    pub(in crate::store) key: Vec<usize>,
    /// The column that the database numbers.
    pub(in crate::store) identity: Option<String>,
    /// Not so for one that the file has no use for.
    pub(in crate::store) is_in_file: bool,
}

#[derive(Debug)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: String,
    pub(in crate::store) kind: Kind,
}

/// What a column holds, in the words of either engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Integer,
    Boolean,
    Text,
    Bytes,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Cell {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
}

pub(in crate::store) type Row = Vec<Cell>;

impl Table {
    /// Whether these are its columns, in whatever order.
    pub(super) fn has_columns(&self, mut names: Vec<String>) -> bool {
        let mut own: Vec<_> = self.columns.iter().map(|column| column.name.clone()).collect();
        own.sort_unstable();
        names.sort_unstable();
        own == names
    }

    /// The columns for a statement of either engine.
    pub(in crate::store) fn column_list(&self) -> String {
        self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The same for those of the key, each with an ending.
    pub(in crate::store) fn key_list(&self, ending: &str) -> String {
        let names = self.key.iter().map(|index| format!("\"{}\"{ending}", self.columns[*index].name));
        names.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn key_of(&self, row: &[Cell]) -> Row {
        self.key.iter().map(|index| row[*index].clone()).collect()
    }
}

impl Cell {
    /// Bytes in memory, about.
    pub(in crate::store) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Boolean(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}
