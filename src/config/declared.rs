//! Descriptions of keys and tables, from which the reference is generated.

use toml::Value;

use super::accepts::Accepts;

/// A table of settings, as declared.
#[derive(Debug)]
pub(super) struct DeclaredTable {
    pub(super) path: String,
    pub(super) shape: Shape,
    pub(super) about: &'static str,
    pub(super) keys: Vec<DeclaredKey>,
    pub(super) tables: Vec<DeclaredTable>,
}

/// A key of the settings, as declared.
#[derive(Debug)]
pub(super) struct DeclaredKey {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) accepts: Accepts,
    pub(super) presence: Presence,
    pub(super) example: Option<Value>,
}

/// Form of a table in the settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The table occurs once: `[store]`.
    Single,
    /// The table occurs once per element of a list: `[[auth.issuers]]`.
    List,
    /// The table occurs once per name: `[tenants.acme]`. The value is the name that examples use.
    Named(&'static str),
}

/// Whether a key must be set.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Presence {
    /// The key has this default.
    Default(Value),
    /// The key may be absent.
    Optional,
    /// The key must be set.
    Required,
    /// Exactly one of these keys must be set.
    OneOf(&'static [&'static str]),
}

impl DeclaredTable {
    /// Creates a table without keys.
    pub(super) fn new(path: String, shape: Shape, about: &'static str) -> Self {
        Self { path, shape, about: about.trim(), keys: Vec::new(), tables: Vec::new() }
    }

    /// Returns the path of a table inside this table.
    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Adds a key.
    pub(super) fn add(&mut self, key: DeclaredKey) {
        self.keys.push(key);
    }

    /// Adds a nested table.
    pub(super) fn add_table(&mut self, table: Self) {
        self.tables.push(table);
    }

    /// Returns the table and all tables in it that have keys, in the order of their declaration.
    pub(super) fn with_keys(&self) -> Vec<&Self> {
        let inner = self.tables.iter().flat_map(Self::with_keys);
        std::iter::once(self).filter(|table| !table.keys.is_empty()).chain(inner).collect()
    }

    /// Returns the line above the table's keys in a TOML file.
    pub(super) fn header(&self) -> String {
        match self.shape {
            Shape::Single => format!("[{}]", self.path),
            Shape::List => format!("[[{}]]", self.path),
            Shape::Named(name) => format!("[{}.{name}]", self.path),
        }
    }

    /// Returns the environment variable of a key.
    pub(super) fn variable(&self, key: &DeclaredKey) -> String {
        let table = self.path.replace('.', "__");
        let table = match self.shape {
            Shape::Single => table,
            Shape::List => format!("{table}__0"),
            Shape::Named(name) => format!("{table}__{name}"),
        };
        format!("GATEWAY_{table}__{}", key.name).to_ascii_uppercase()
    }
}

impl DeclaredKey {
    /// Returns the example of the key. Without an example, returns another valid value that differs from the default; `None` if
    /// no such value is known.
    pub(super) fn sample(&self) -> Option<Value> {
        let Presence::Default(default) = &self.presence else { return self.example.clone() };
        self.example.clone().or_else(|| self.accepts.other_than(default))
    }
}
