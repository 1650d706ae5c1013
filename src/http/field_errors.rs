//! Collects the invalid fields of a request, so that one answer names all of them.

use std::fmt::Display;

use super::problem::{ApiError, FieldError};
use crate::domain::field_problem::FieldProblem;
use crate::domain::transforms::Transform;

/// The invalid fields that were found so far.
#[derive(Default)]
pub(super) struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Adds a field with the rule that it breaks.
    pub(super) fn add(&mut self, pointer: impl Into<String>, rule: impl Display) {
        self.0.push(FieldError { pointer: pointer.into(), detail: rule.to_string() });
    }

    /// Returns the value of a field, or adds its error.
    pub(super) fn take<T>(&mut self, pointer: &str, parsed: Result<T, impl Display>) -> Option<T> {
        parsed.map_err(|rule| self.add(pointer, rule)).ok()
    }

    /// Returns a transform, or adds its errors.
    pub(super) fn transform(&mut self, pointer: &str, transform: Transform) -> Option<Transform> {
        let add = |problem: FieldProblem| self.add(format!("{pointer}{}", problem.pointer), problem.detail);
        transform.check().map_err(|problems| problems.into_iter().for_each(add)).ok()?;
        Some(transform)
    }

    /// Returns the maximum number of items on a page: `limit`, or `default` if the request has no `limit`. Adds an error if the
    /// number is not 1 to `max`.
    pub(super) fn page_size(&mut self, limit: Option<u32>, default: u32, max: u32) -> usize {
        let limit = limit.unwrap_or(default);
        if !(1..=max).contains(&limit) {
            self.add("?limit", format_args!("must be 1 to {max}"));
        }
        limit as usize
    }

    /// Succeeds if all fields are valid.
    ///
    /// # Errors
    /// `invalid_request`, if a field is invalid.
    pub(super) fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}
