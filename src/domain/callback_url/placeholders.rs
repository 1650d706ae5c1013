//! Placeholders in the path of a callback's URL. `{crm.NAME}` stands for the id `NAME` in `call.crm` of the call.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::InvalidCallbackUrl;
use crate::domain::call_facts::{CrmIds, CrmName};

/// Beginning of a placeholder in a path, in the form that the URL parser writes. `END` is the end of a placeholder.
const BEGIN: &str = "%7Bcrm.";
const END: &str = "%7D";

/// Characters of an id that are percent-encoded: all characters except the unreserved characters of RFC 3986. So an id can
/// neither end its path segment nor begin a query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PathPart {
    /// Text that is percent-encoded already.
    Text(String),
    /// The id with this name.
    Id(CrmName),
}

/// Splits a path, as the URL parser writes it, into text and placeholders. Returns nothing for a path without placeholders.
///
/// # Errors
/// [`InvalidCallbackUrl::Placeholder`] if a placeholder has no valid name.
pub(super) fn parse(path: &str) -> Result<Vec<PathPart>, InvalidCallbackUrl> {
    let mut parts = Vec::new();
    let mut rest = path;
    while let Some(begin) = find(rest, BEGIN) {
        let (text, placeholder) = rest.split_at(begin);
        let inner = &placeholder[BEGIN.len()..];
        let end = find(inner, END).ok_or(InvalidCallbackUrl::Placeholder)?;
        let name = CrmName::parse(inner[..end].to_owned()).map_err(|_| InvalidCallbackUrl::Placeholder)?;
        parts.push(PathPart::Text(text.to_owned()));
        parts.push(PathPart::Id(name));
        rest = &inner[end + END.len()..];
    }
    if !parts.is_empty() {
        parts.push(PathPart::Text(rest.to_owned()));
    }
    Ok(parts)
}

/// Finds a text without regard to upper and lower case.
fn find(text: &str, wanted: &str) -> Option<usize> {
    text.as_bytes().windows(wanted.len()).position(|part| part.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Whether a host or a query has a placeholder, which is allowed only in the path.
pub(super) fn is_in(text: &str) -> bool {
    find(text, "{crm.").or_else(|| find(text, BEGIN)).is_some()
}

/// Checks the braces of a URL as the caller wrote it, so that a misspelt placeholder is not sent as text. Percent-encoded
/// braces are text.
///
/// # Errors
/// [`InvalidCallbackUrl::Placeholder`] if a brace before the query belongs to no placeholder.
pub(super) fn check_braces(url: &str) -> Result<(), InvalidCallbackUrl> {
    let mut rest = url.split(['?', '#']).next().unwrap_or_default();
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').ok_or(InvalidCallbackUrl::Placeholder)?;
        if before.contains('}') || name.get(..4).is_none_or(|source| !source.eq_ignore_ascii_case("crm.")) {
            return Err(InvalidCallbackUrl::Placeholder);
        }
        rest = behind;
    }
    if rest.contains('}') { Err(InvalidCallbackUrl::Placeholder) } else { Ok(()) }
}

/// Returns the path as callers write it, with placeholders in braces.
pub(super) fn shown(parts: &[PathPart]) -> String {
    let part = |part: &PathPart| match part {
        PathPart::Text(text) => text.clone(),
        PathPart::Id(name) => format!("{{crm.{}}}", name.as_str()),
    };
    parts.iter().map(part).collect()
}

/// Returns the path with the ids of a call. The error has the names of the ids that the call does not have.
pub(super) fn fill(parts: &[PathPart], ids: &CrmIds) -> Result<String, Vec<CrmName>> {
    let mut missing: Vec<CrmName> = Vec::new();
    let mut path = String::new();
    for part in parts {
        let text: Cow<'_, str> = match part {
            PathPart::Text(text) => text.into(),
            PathPart::Id(name) => match ids.get(name) {
                Some(id) => utf8_percent_encode(id.as_str(), ENCODED).into(),
                None => {
                    if !missing.contains(name) {
                        missing.push(name.clone());
                    }
                    continue;
                }
            },
        };
        path.push_str(&text);
    }
    if missing.is_empty() { Ok(path) } else { Err(missing) }
}
