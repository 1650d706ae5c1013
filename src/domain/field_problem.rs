//! Problems of fields in structures that callers describe and the domain checks.

/// A field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON Pointer into the structure: empty for the structure itself.
    pub pointer: String,
    /// The rule that the field breaks.
    pub detail: String,
}

impl FieldProblem {
    /// Returns a problem of the field `template`.
    pub fn of_template(detail: String) -> Self {
        Self { pointer: "/template".to_owned(), detail }
    }
}
