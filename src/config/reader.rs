//! Reads a table key by key, notes every problem with its path, and goes on.
//!
//! A value that cannot be read is `None`, never a stand-in: checks across keys then have nothing false to compare. The
//! settings are made only if nothing was `None`.

use std::cell::RefCell;

use toml::{Table, Value};

use super::environment::Origins;
use super::problems::Problem;
use super::rules::{Given, Misfit};

/// Where problems are gathered, and what is known of the values' origins.
pub(super) struct Report {
    origins: Origins,
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    /// Begins with the problems found so far.
    pub(super) fn new(origins: Origins, problems: Vec<Problem>) -> Self {
        Self { origins, problems: RefCell::new(problems) }
    }

    /// Reads the whole.
    pub(super) fn read<T>(
        &self,
        table: Table,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        Section::read_all(self, String::new(), table, read)
    }

    /// Everything that was found wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The variable that set the path, or something inside it.
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
        self.problems.borrow_mut().push(Problem { path, detail });
    }

    fn judge<T>(
        &self,
        path: String,
        value: &Value,
        origin: Option<&String>,
        rule: impl FnOnce(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<T> {
        rule(Given { value, is_variable: origin.is_some() })
            .map_err(|misfit| self.note(path, misfit.describe(value), origin))
            .ok()
    }
}

/// A table under way: what is asked of it is taken out, what is left at the end is unknown.
pub(super) struct Section<'r> {
    report: &'r Report,
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

impl<'r> Section<'r> {
    fn read_all<T>(
        report: &'r Report,
        path: String,
        table: Table,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let mut section = Self { report, path, table, known: Vec::new() };
        let result = read(&mut section);
        section.note_unknown_keys();
        result
    }

    /// This section's path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether the key is set. To be asked before it is read.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes a problem of one key, found by comparing it with others.
    pub(super) fn problem(&self, key: &str, detail: impl Into<String>) {
        let path = key_path(&self.path, key);
        let origin = self.report.origin(&path);
        self.report.note(path, detail.into(), origin);
    }

    /// Notes a problem of the section itself.
    pub(super) fn own_problem(&self, detail: impl Into<String>) {
        self.report.note(self.path.clone(), detail.into(), None);
    }

    /// Reads a key that has a default. The default is written as it would be in the file, and goes by the same rule.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: impl Into<Value>,
        rule: impl FnOnce(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<T> {
        let value = self.take(key).unwrap_or_else(|| default.into());
        self.judge(key, &value, rule)
    }

    /// Reads a key that may be absent: `Some(None)`.
    #[expect(clippy::option_option, reason = "outside: could it be read; inside: was it set")]
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        rule: impl FnOnce(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<Option<T>> {
        self.take(key).map_or(Some(None), |value| self.judge(key, &value, rule).map(Some))
    }

    /// Reads a key that must be set.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        rule: impl FnOnce(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<T> {
        let Some(value) = self.take(key) else {
            self.problem(key, "is missing");
            return None;
        };
        self.judge(key, &value, rule)
    }

    /// Reads a list whose elements all go by one rule.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        rule: impl Fn(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<Vec<T>> {
        let default = || Value::from(default.to_vec());
        let value = self.take(key).unwrap_or_else(default);
        let elements =
            self.judge(key, &value, |given| given.list().ok_or_else(|| Misfit::must_be("a list")))?;
        let path = key_path(&self.path, key);
        all(elements.iter().enumerate().map(|(index, element)| {
            let element_path = element_path(&path, index);
            let origin = self.report.origin(&element_path).or_else(|| self.report.origins.get(&path));
            self.report.judge(element_path, element, origin, &rule)
        }))
    }

    /// Reads a table inside this one; an absent one is as good as an empty one.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(key).unwrap_or_else(|| Value::Table(Table::new()));
        let table = self.judge(key, &value, table)?;
        Section::read_all(self.report, key_path(&self.path, key), table, read)
    }

    /// Reads a list of tables.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let path = key_path(&self.path, key);
        let tables = self.list(key, &[], table)?;
        all(tables.into_iter().enumerate().map(|(index, table)| {
            Section::read_all(self.report, element_path(&path, index), table, &mut read)
        }))
    }

    /// Reads every table of this section, whatever its name.
    pub(super) fn named_sections<T>(
        &mut self,
        mut read: impl FnMut(&str, &mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        all(std::mem::take(&mut self.table).into_iter().map(|(name, value)| {
            let inner = self.judge(&name, &value, table)?;
            let path = key_path(&self.path, &name);
            Section::read_all(self.report, path, inner, |section| read(&name, section))
        }))
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn judge<T>(
        &self,
        key: &str,
        value: &Value,
        rule: impl FnOnce(Given<'_>) -> Result<T, Misfit>,
    ) -> Option<T> {
        let path = key_path(&self.path, key);
        let origin = self.report.origin(&path);
        self.report.judge(path, value, origin, rule)
    }

    fn note_unknown_keys(&self) {
        for key in self.table.keys() {
            let detail = match nearest(key, &self.known) {
                Some(near) => format!("unknown setting; did you mean {near:?}?"),
                None => format!("unknown setting; known here: {}", self.known.join(", ")),
            };
            let path = key_path(&self.path, key);
            let origin = self.report.origin(&path);
            self.report.note(path, detail, origin);
        }
    }
}

/// All or nothing; unlike a bare `collect` it does not stop at the first `None`, so that every problem is noted.
fn all<T>(results: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    results.collect::<Vec<_>>().into_iter().collect()
}

fn table(given: Given<'_>) -> Result<Table, Misfit> {
    // What stands in its place is not shown: `acme = "…"` in `[tenants]` is likely acme's token.
    given.table().ok_or_else(|| Misfit::because("must be a table"))
}

/// The known key that was likely meant: one typing error in three letters is forgiven.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::osa_distance(&key, known);
    let near = known.iter().copied().min_by_key(|known| distance(known))?;
    (distance(near) <= (near.len() / 3).max(1)).then_some(near)
}

/// `path.key`; a key that TOML would want in quotes is in quotes.
pub(crate) fn key_path(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// `path[index]`
pub(super) fn element_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
