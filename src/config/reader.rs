//! Reads a table key by key. It records every problem with its path and continues with the next key.
//!
//! A value that cannot be read is `None`, never a placeholder, so that checks across keys compare only valid values. The
//! settings are built only if no value is `None`.

use std::cell::RefCell;

use toml::{Table, Value};

use super::environment::Origins;
use super::problems::{SettingsProblem, element_path, key_path};
use super::rules::{InvalidValue, RawValue};

/// Collects the problems, and knows which environment variable set the value at each path.
pub(super) struct Reader {
    origins: Origins,
    problems: RefCell<Vec<SettingsProblem>>,
}

impl Reader {
    /// Creates a reader with the problems that were found so far.
    pub(super) fn new(origins: Origins, problems: Vec<SettingsProblem>) -> Self {
        Self { origins, problems: RefCell::new(problems) }
    }

    /// Reads all settings from the table, which contains the file and the environment variables.
    pub(super) fn read<T>(
        &self,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        Section::read_all(self, String::new(), table, read)
    }

    /// Returns the recorded problems.
    pub(super) fn into_problems(self) -> Vec<SettingsProblem> {
        self.problems.into_inner()
    }

    /// Returns the environment variable that set the value at this path or a part of the value.
    fn origin(&self, path: &str) -> Option<&String> {
        let is_inside =
            |inner: &str| inner.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        let inside = || self.origins.iter().find(|(inner, _)| is_inside(inner)).map(|(_, variable)| variable);
        self.origins.get(path).or_else(inside)
    }

    fn note(&self, path: String, detail: String, origin: Option<&String>) {
        let detail = match origin {
            Some(variable) => format!("{detail} (from {variable})"),
            None => detail,
        };
        self.problems.borrow_mut().push(SettingsProblem { path, detail });
    }

    fn judge<T>(
        &self,
        path: String,
        value: &Value,
        origin: Option<&String>,
        rule: impl FnOnce(RawValue<'_>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        rule(RawValue { value, is_variable: origin.is_some() })
            .map_err(|invalid| self.note(path, invalid.describe(value), origin))
            .ok()
    }
}

/// A table that is being read. Reading a key removes it from the table; keys that remain at the end are unknown.
pub(super) struct Section<'r> {
    reader: &'r Reader,
    path: String,
    table: Table,
    known: Vec<&'static str>,
    set: Vec<&'static str>,
}

impl<'r> Section<'r> {
    fn read_all<T>(
        reader: &'r Reader,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut section = Self { reader, path, table, known: Vec::new(), set: Vec::new() };
        let result = read(&mut section);
        section.note_unknown_keys();
        result
    }

    /// Returns whether the file or a variable sets this key. The key must have been read before.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.set.contains(&key)
    }

    /// Records a problem of one key.
    pub(super) fn problem(&self, key: &str, detail: impl Into<String>) {
        let path = key_path(&self.path, key);
        let origin = self.reader.origin(&path);
        self.reader.note(path, detail.into(), origin);
    }

    /// Records a problem of the table itself.
    pub(super) fn own_problem(&self, detail: impl Into<String>) {
        self.reader.note(self.path.clone(), detail.into(), None);
    }

    /// Removes the value of a key from the table and returns it.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        self.set.push(key);
        Some(value)
    }

    /// Parses and checks the value of a key by a rule.
    pub(super) fn judge<T>(
        &self,
        key: &str,
        value: &Value,
        rule: impl FnOnce(RawValue<'_>) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        let path = key_path(&self.path, key);
        let origin = self.reader.origin(&path);
        self.reader.judge(path, value, origin, rule)
    }

    /// Parses and checks each element of a list by a rule.
    pub(super) fn judge_elements<T>(
        &self,
        key: &str,
        elements: &[Value],
        rule: impl Fn(RawValue<'_>) -> Result<T, InvalidValue>,
    ) -> Option<Vec<T>> {
        let path = key_path(&self.path, key);
        all(elements.iter().enumerate().map(|(index, element)| {
            let element_path = element_path(&path, index);
            let origin = self.reader.origin(&element_path).or_else(|| self.reader.origins.get(&path));
            self.reader.judge(element_path, element, origin, &rule)
        }))
    }

    /// Reads a table inside this table. An absent table counts as an empty table.
    pub(super) fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key).unwrap_or_else(|| Value::Table(Table::new()));
        let table = self.judge(key, &value, table)?;
        Section::read_all(self.reader, key_path(&self.path, key), table, read)
    }

    /// Reads a list of tables. `unique` names a key whose value must be different in each table.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        unique: &str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.take(key).unwrap_or_else(|| Value::Array(Vec::new()));
        let elements =
            self.judge(key, &value, |given| given.list().ok_or_else(|| InvalidValue::must_be("a list")))?;
        let tables = self.judge_elements(key, &elements, table)?;
        let path = key_path(&self.path, key);
        let values: Vec<_> = tables.iter().map(|table| table.get(unique).cloned()).collect();
        all(tables.into_iter().enumerate().map(|(index, table)| {
            let first = values[..index].iter().position(|value| value.is_some() && *value == values[index]);
            Section::read_all(self.reader, element_path(&path, index), table, |section| {
                if let Some(first) = first {
                    section.problem(unique, format!("is the same as that of {}", element_path(&path, first)));
                }
                read(section)
            })
        }))
    }

    /// Reads a table whose keys are names and whose values are tables.
    pub(super) fn named_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, &mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.table(key, |names| {
            all(std::mem::take(&mut names.table).into_iter().map(|(name, value)| {
                let inner = names.judge(&name, &value, table)?;
                let path = key_path(&names.path, &name);
                Section::read_all(names.reader, path, inner, |section| read(&name, section))
            }))
        })
    }

    fn note_unknown_keys(&self) {
        for key in self.table.keys() {
            let detail = match nearest(key, &self.known) {
                Some(near) => format!("unknown setting; did you mean {near:?}?"),
                None => format!("unknown setting; known here: {}", self.known.join(", ")),
            };
            self.problem(key, detail);
        }
    }
}

/// Returns all values, or `None` if one is missing. Unlike a bare `collect`, the function does not stop at the first
/// `None`, so that every problem is recorded.
fn all<T>(results: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    results.collect::<Vec<_>>().into_iter().collect()
}

fn table(given: RawValue<'_>) -> Result<Table, InvalidValue> {
    // The message does not show the value: `acme = "…"` in `[tenants]` is probably the tenant's token.
    given.table().ok_or_else(|| InvalidValue::because("must be a table"))
}

/// Returns the known key that was probably meant. The function allows one typing error per three letters.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::osa_distance(&key, known);
    let near = known.iter().copied().min_by_key(|known| distance(known))?;
    (distance(near) <= (near.len() / 3).max(1)).then_some(near)
}
