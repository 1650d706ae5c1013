//! Sources of the fields of a settings struct: a key with a default, an optional or required key, a list, or a nested
//! table. A source reads the field and describes it.

use std::marker::PhantomData;

use toml::Value;

use super::accepts::Accepts;
use super::declared::{DeclaredKey, DeclaredTable, Presence, Shape};
use super::reader::Section;
use super::rules::{InvalidValue, ValueRule};

/// A table of settings. The `settings!` macro implements this trait.
pub(super) trait SettingsTable: Sized {
    /// Description of the table.
    const ABOUT: &'static str;

    /// Reads every key and records each problem. Returns `None` if a value is invalid or missing.
    fn read(section: &mut Section<'_>) -> Option<Self>;

    /// Adds every key, with its description, to the declared table.
    fn describe(table: &mut DeclaredTable);
}

/// Describes the table `T`, which is at `path`.
pub(super) fn describe<T: SettingsTable>(path: String, shape: Shape) -> DeclaredTable {
    let mut table = DeclaredTable::new(path, shape, T::ABOUT);
    T::describe(&mut table);
    table
}

/// The source of one field: one key, or several keys that belong together.
pub(super) trait FieldSource<T> {
    /// Reads the field. Returns `None` if the value is invalid or missing, and records the problem.
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<T>;

    /// Adds the field's keys to the declared table.
    fn describe(&self, table: &mut DeclaredTable, name: &'static str, text: &str);
}

/// Valid values of a key: a [`ValueRule`] for a single value, or a [`List`] of such values.
pub(super) trait Contents {
    /// Type of the parsed value.
    type Value;

    /// Reads the value and records each problem.
    fn read(&self, section: &mut Section<'_>, name: &'static str, value: &Value) -> Option<Self::Value>;

    /// Returns the type and the bounds of valid values.
    fn accepts(&self) -> Accepts;

    /// Declares a key that has a default. The default is written as in the file, and the same rule applies to it.
    fn default(self, default: impl Into<Value>) -> Setting<Self, WithDefault>
    where
        Self: Sized,
    {
        Setting { content: self, presence: WithDefault(default.into()), example: None }
    }

    /// Declares a key that may be absent.
    fn optional(self) -> Setting<Self, Optional>
    where
        Self: Sized,
    {
        Setting { content: self, presence: Optional { one_of: &[] }, example: None }
    }

    /// Declares one of several alternative keys. Exactly one of `keys` must be set. The table checks this rule; the key does not.
    fn one_of(self, keys: &'static [&'static str]) -> Setting<Self, Optional>
    where
        Self: Sized,
    {
        Setting { content: self, presence: Optional { one_of: keys }, example: None }
    }

    /// Declares a key that must be set.
    fn required(self) -> Setting<Self, Required>
    where
        Self: Sized,
    {
        Setting { content: self, presence: Required, example: None }
    }
}

/// One key of a table.
pub(super) struct Setting<C, P> {
    content: C,
    presence: P,
    example: Option<Value>,
}

/// The key has this default.
pub(super) struct WithDefault(Value);

/// The key may be absent. If exactly one of several keys must be set, `one_of` lists these keys. Otherwise `one_of` is empty.
pub(super) struct Optional {
    one_of: &'static [&'static str],
}

/// The key must be set.
pub(super) struct Required;

impl<C: Contents, P> Setting<C, P> {
    /// Sets the example: a valid value that differs from the default. The documentation and the tests of the Helm chart use the
    /// example.
    pub(super) fn example(self, example: impl Into<Value>) -> Self {
        Self { example: Some(example.into()), ..self }
    }

    fn declare(&self, table: &mut DeclaredTable, name: &'static str, text: &str, presence: Presence) {
        let accepts = self.content.accepts();
        table.add(DeclaredKey {
            name,
            text: text.to_owned(),
            accepts,
            presence,
            example: self.example.clone(),
        });
    }
}

impl<C: Contents> FieldSource<C::Value> for Setting<C, WithDefault> {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<C::Value> {
        let value = section.take(name).unwrap_or_else(|| self.presence.0.clone());
        self.content.read(section, name, &value)
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, text: &str) {
        self.declare(table, name, text, Presence::Default(self.presence.0.clone()));
    }
}

impl<C: Contents> FieldSource<Option<C::Value>> for Setting<C, Optional> {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<Option<C::Value>> {
        section.take(name).map_or(Some(None), |value| self.content.read(section, name, &value).map(Some))
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, text: &str) {
        let one_of = self.presence.one_of;
        let presence = if one_of.is_empty() { Presence::Optional } else { Presence::OneOf(one_of) };
        self.declare(table, name, text, presence);
    }
}

impl<C: Contents> FieldSource<C::Value> for Setting<C, Required> {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<C::Value> {
        let Some(value) = section.take(name) else {
            section.problem(name, "is missing");
            return None;
        };
        self.content.read(section, name, &value)
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, text: &str) {
        self.declare(table, name, text, Presence::Required);
    }
}

impl<T> Contents for ValueRule<T> {
    type Value = T;

    fn read(&self, section: &mut Section<'_>, name: &'static str, value: &Value) -> Option<T> {
        section.judge(name, value, |given| self.apply(given))
    }

    fn accepts(&self) -> Accepts {
        self.accepts().clone()
    }
}

/// A list whose elements follow one rule.
pub(super) struct List<T> {
    rule: ValueRule<T>,
    least: usize,
    most: Option<usize>,
    or_one: bool,
}

/// Declares a list whose elements follow one rule.
pub(super) fn list_of<T>(rule: ValueRule<T>) -> List<T> {
    List { rule, least: 0, most: None, or_one: false }
}

/// Declares a list that is not empty. A single value is accepted in place of a list of one element.
pub(super) fn one_or_more<T>(rule: ValueRule<T>) -> List<T> {
    List { or_one: true, ..list_of(rule).not_empty() }
}

impl<T> List<T> {
    /// Makes an empty list invalid.
    pub(super) fn not_empty(self) -> Self {
        Self { least: 1, ..self }
    }

    /// Makes a list with more than `most` elements invalid.
    pub(super) fn at_most(self, most: usize) -> Self {
        Self { most: Some(most), ..self }
    }
}

impl<T> Contents for List<T> {
    type Value = Vec<T>;

    fn read(&self, section: &mut Section<'_>, name: &'static str, value: &Value) -> Option<Vec<T>> {
        let elements = section.judge(name, value, |given| match given.list() {
            None if !self.or_one => Err(InvalidValue::must_be("a list")),
            list => Ok(list),
        })?;
        let Some(elements) = elements else {
            return section.judge(name, value, |given| self.rule.apply(given)).map(|one| vec![one]);
        };
        let count = elements.len();
        if count < self.least {
            section.problem(name, "must not be empty");
            return None;
        }
        if let Some(most) = self.most.filter(|most| count > *most) {
            section.problem(name, format!("must have at most {most} elements; got {count}"));
        }
        section.judge_elements(name, &elements, |given| self.rule.apply(given))
    }

    fn accepts(&self) -> Accepts {
        let Self { rule, least, most, or_one } = self;
        Accepts::List { of: Box::new(rule.accepts().clone()), least: *least, most: *most, or_one: *or_one }
    }
}

/// A nested table, or keys of the same table that together become one field.
pub(super) struct Nested<T> {
    is_inline: bool,
    table: PhantomData<T>,
}

/// Declares a nested table, such as `[vendor.polling]`.
pub(super) fn table<T: SettingsTable>() -> Nested<T> {
    Nested { is_inline: false, table: PhantomData }
}

/// Declares keys of the same table that together become one field.
pub(super) fn inline<T: SettingsTable>() -> Nested<T> {
    Nested { is_inline: true, table: PhantomData }
}

impl<T: SettingsTable> FieldSource<T> for Nested<T> {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<T> {
        if self.is_inline { T::read(section) } else { section.table(name, T::read) }
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, _text: &str) {
        if self.is_inline {
            T::describe(table);
        } else {
            table.add_table(describe::<T>(table.path_of(name), Shape::Single));
        }
    }
}

/// A list of at least one table, such as `[[auth.issuers]]`. The value of the key `unique` must differ between the tables.
pub(super) struct Tables {
    /// Noun for a table, used in error messages.
    pub(super) noun: &'static str,
    /// The key whose values must differ.
    pub(super) unique: &'static str,
}

impl<T: SettingsTable> FieldSource<Vec<T>> for Tables {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<Vec<T>> {
        let tables = section.tables(name, self.unique, T::read)?;
        if tables.is_empty() {
            section.problem(name, format!("at least one {} is needed", self.noun));
        }
        Some(tables)
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, _text: &str) {
        table.add_table(describe::<T>(table.path_of(name), Shape::List));
    }
}
