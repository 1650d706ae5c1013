//! Problems of the settings, with the path of each key.

use std::fmt;

/// Problem of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Path of the key, such as `vendor.polling.min_interval`. If the file itself is the problem, this is the path of the file.
    pub path: String,
    /// Description of the mistake and of valid values. It never repeats a secret.
    pub detail: String,
}

impl fmt::Display for SettingsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.detail)
    }
}

/// Every problem, displayed one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblems(pub Vec<SettingsProblem>);

impl fmt::Display for SettingsProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsProblems {}

impl From<SettingsProblem> for SettingsProblems {
    fn from(problem: SettingsProblem) -> Self {
        Self(vec![problem])
    }
}

/// Returns `path.key`, with the key in quotes where TOML requires quotes.
pub(crate) fn key_path(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Returns the path of a list element: `path[index]`.
pub(super) fn element_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
