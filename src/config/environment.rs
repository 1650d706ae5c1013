//! Environment variables that override the file: `GATEWAY_STORE__URL` is the key `store.url`.
//!
//! The usual variables of a forward proxy (`HTTPS_PROXY`, `NO_PROXY`) apply to keys of `[network]` that nothing else sets.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::problems::{SettingsProblem, element_path, key_path};
use super::service_links::ServiceLinks;

const PREFIX: &str = "GATEWAY_";
/// Name of the variable with the path of the settings file. The command line reads this variable, which is not a setting.
const CONFIG_FILE: &str = "GATEWAY_CONFIG";
/// The only list of tables. In a variable of this list, a number is an index. In a variable of `tenants`, a number is
/// the name of a tenant.
const LIST_OF_TABLES: &str = "auth.issuers";

/// Keys of `[network]`, and the usual variables for them in order of precedence.
const PROXY_VARIABLES: [(&str, &[&str]); 3] = [
    ("https_proxy", &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
    ("http_proxy", &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
    ("no_proxy", &["NO_PROXY", "no_proxy"]),
];

/// Maps the path of a setting to the environment variable that set it.
pub(super) type Origins = BTreeMap<String, String>;

/// Returns the environment of this process, for [`load`](super::load).
///
/// Unlike [`std::env::vars`], this function does not panic on a variable that is not Unicode. Invalid bytes become `U+FFFD`, and
/// the rule of the key checks the resulting text.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Inserts each `GATEWAY_` variable into the table as a string, then the variables of a forward proxy. The rule of the key
/// parses the string later.
pub(super) fn overlay(
    table: &mut Table,
    environment: impl Iterator<Item = (String, String)>,
    problems: &mut Vec<SettingsProblem>,
) -> Origins {
    let environment: BTreeMap<String, String> = environment.collect();
    let links = ServiceLinks::find(&environment);
    let settings = environment.iter().filter(|(name, text)| !links.contain(name, text));
    let mut variables: Vec<Variable> = settings.filter_map(Variable::parse).collect();
    let secret_variables = secret_variables(table, &variables);
    variables.retain(|variable| !secret_variables.contains(&variable.name));
    // Indices are sorted as numbers, "2" before "10", so that issuers can be appended one by one.
    variables.sort_by_cached_key(|variable| {
        variable.levels.iter().map(|level| (level.len(), level.clone())).collect::<Vec<_>>()
    });
    let mut origins = Origins::new();
    for variable in variables {
        match variable.place(table, "", &variable.levels) {
            Ok((path, place)) => match origins.insert(path.clone(), variable.name.clone()) {
                Some(other) => problems.push(SettingsProblem {
                    path,
                    detail: format!("is set by both {other} and {}", variable.name),
                }),
                None => *place = Value::String(variable.text),
            },
            Err(problem) => problems.push(problem),
        }
    }
    add_proxies(table, &environment, &mut origins);
    origins
}

/// Sets each key of a proxy that neither the file nor a `GATEWAY_` variable sets.
fn add_proxies(table: &mut Table, environment: &BTreeMap<String, String>, origins: &mut Origins) {
    for (key, names) in PROXY_VARIABLES {
        let set = names.iter().filter_map(|name| environment.get_key_value(*name));
        let Some((name, text)) = set.into_iter().find(|(_, text)| !text.trim().is_empty()) else { continue };
        let network = table.entry("network").or_insert_with(|| Value::Table(Table::new()));
        // A value that is not a table is reported by the reader.
        let Some(network) = network.as_table_mut().filter(|network| !network.contains_key(key)) else {
            continue;
        };
        let value = if key == "no_proxy" { hosts(text) } else { Value::String(text.clone()) };
        network.insert(key.to_owned(), value);
        origins.insert(key_path("network", key), name.clone());
    }
}

/// Splits the value of `NO_PROXY`. Other programs also accept spaces, and commas without an entry between them.
fn hosts(text: &str) -> Value {
    let hosts = text.split([',', ' ', '\t']).filter(|host| !host.is_empty());
    Value::Array(hosts.map(|host| Value::String(host.to_owned())).collect())
}

/// Returns the names of the variables that hold secrets: the variables that settings name. These variables are not settings, even
/// if they have the prefix of settings.
fn secret_variables(table: &Table, variables: &[Variable]) -> BTreeSet<String> {
    let tenants = table.get("tenants").and_then(Value::as_table);
    let in_file = tenants
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table)
        .flatten()
        .filter(|(key, _)| key.ends_with("_env"))
        .filter_map(|(_, name)| name.as_str());
    let in_variables = variables
        .iter()
        .filter(|variable| variable.levels.last().is_some_and(|level| level.ends_with("_env")))
        .map(|variable| variable.text.as_str());
    in_file.chain(in_variables).map(str::to_owned).collect()
}

/// An environment variable with the prefix of settings.
struct Variable {
    name: String,
    levels: Vec<String>,
    text: String,
}

impl Variable {
    fn parse((name, text): (&String, &String)) -> Option<Self> {
        let folded = name.to_ascii_uppercase();
        let path = folded.strip_prefix(PREFIX).filter(|_| folded != CONFIG_FILE)?;
        let levels = path.split("__").map(str::to_ascii_lowercase).collect();
        Some(Self { name: name.clone(), levels, text: text.clone() })
    }

    /// Follows the keys in `levels` from the table at `path`. Returns the path and the value that they lead to. Tables
    /// and values that are missing are created.
    fn place<'t>(
        &self,
        table: &'t mut Table,
        path: &str,
        levels: &[String],
    ) -> Result<(String, &'t mut Value), SettingsProblem> {
        let (level, inner) =
            levels.split_first().map_or(("", levels), |(level, inner)| (level.as_str(), inner));
        let key = self.key_like(table, path, level)?;
        let path = key_path(path, &key);
        let place = table.entry(key).or_insert_with(|| match inner {
            [] => Value::String(String::new()),
            _ if path == LIST_OF_TABLES => Value::Array(Vec::new()),
            _ => Value::Table(Table::new()),
        });
        match (inner, place) {
            ([], place) => Ok((path, place)),
            ([index, inner @ ..], Value::Array(elements)) => {
                let (path, element) = self.element(elements, &path, index)?;
                match (inner, element) {
                    ([], element) => Ok((path, element)),
                    (inner, Value::Table(element)) => self.place(element, &path, inner),
                    _ => Err(self.problem(&path, "is not a table, so it has no keys")),
                }
            }
            (inner, Value::Table(table)) => self.place(table, &path, inner),
            _ => Err(self.problem(&path, "is not a table, so it has no keys")),
        }
    }

    /// Returns the key in the settings file that corresponds to `level`, a part of the variable's name. Upper and lower
    /// case are equal here: variables are in upper case by convention, and names of tenants may be in lower case.
    fn key_like(&self, table: &Table, path: &str, level: &str) -> Result<String, SettingsProblem> {
        let mut alike = table.keys().filter(|key| key.eq_ignore_ascii_case(level));
        match (table.contains_key(level), alike.next(), alike.next()) {
            (true, ..) | (_, None, _) => Ok(level.to_owned()),
            (_, Some(key), None) => Ok(key.clone()),
            (_, Some(one), Some(other)) => {
                Err(self.problem(path, &format!("has both {one:?} and {other:?}: which one is meant?")))
            }
        }
    }

    fn element<'t>(
        &self,
        elements: &'t mut Vec<Value>,
        path: &str,
        level: &str,
    ) -> Result<(String, &'t mut Value), SettingsProblem> {
        let count = elements.len();
        let index = level
            .parse()
            .ok()
            .filter(|index| *index <= count)
            .ok_or_else(|| self.problem(path, &format!("the next index is {count}; got {level:?}")))?;
        if index == count {
            elements.push(Value::Table(Table::new()));
        }
        Ok((element_path(path, index), &mut elements[index]))
    }

    fn problem(&self, path: &str, detail: &str) -> SettingsProblem {
        SettingsProblem { path: path.to_owned(), detail: format!("{detail} (from {})", self.name) }
    }
}
