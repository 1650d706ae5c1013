//! The tables that are copied, and their rows.

/// The tables that are copied. A table comes after the tables that it references. Columns and keys are read from the database.
/// List and search entries are not copied, but created again from the results.
pub(super) const TABLES: [&str; 19] = [
    "analyses",
    "results",
    "attributes",
    "callbacks",
    "events",
    "deliveries",
    "attempts",
    "paces",
    "learned_answers",
    "feeds",
    "audit",
    "webhooks",
    "replays",
    "replay_deliveries",
    "replay_outcomes",
    "usage",
    "usage_by_fact",
    "idempotency",
    "clock",
];

/// Tables that are not copied, because their rows are created again from the results.
pub(super) const DERIVED_TABLES: [&str; 3] = ["listings", "tags", "search"];

/// A table of the database.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: Vec<Column>,
    /// The indexes of the primary key's columns, in the order of the key.
    pub(super) key: Vec<usize>,
    /// The identity column, if there is one.
    pub(super) identity: Option<String>,
    /// Whether the file also has the table.
    pub(super) is_in_file: bool,
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ColumnKind,
}

/// Type of a column, for both engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Integer,
    Boolean,
    Text,
    Bytes,
}

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row, or its primary key.
pub(super) type Cells = Vec<Cell>;

impl Table {
    /// Whether `names` are the names of all columns of the table, in any order.
    pub(super) fn has_columns(&self, mut names: Vec<String>) -> bool {
        let mut own: Vec<_> = self.columns.iter().map(|column| column.name.clone()).collect();
        own.sort_unstable();
        names.sort_unstable();
        own == names
    }

    /// Returns the quoted names of the columns, for a statement on either engine.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
    }

    /// Returns the quoted names of the primary key's columns, each followed by `ending`.
    pub(super) fn key_list(&self, ending: &str) -> String {
        let names = self.key.iter().map(|index| format!("\"{}\"{ending}", self.columns[*index].name));
        names.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn key_of(&self, row: &[Cell]) -> Cells {
        self.key.iter().map(|index| row[*index].clone()).collect()
    }
}

impl Cell {
    /// Returns the approximate size in memory, in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Boolean(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}
