//! Problems of fields in the parts of a request that the domain checks, such as filters and transforms.

/// A field that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON Pointer of the field within the filter or transform. The pointer is empty for the filter or transform itself.
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
