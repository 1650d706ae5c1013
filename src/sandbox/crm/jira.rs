//! Jira: comments of issues in the Atlassian Document Format.
//!
//! Rules: <https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/> and
//! <https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/>. A comment has up to 32,767 characters
//! (<https://jira.atlassian.com/browse/JRACLOUD-78553>).

use serde_json::{Value, json};

use super::{CrmAnswer, CrmEntry, CrmRequest};

const MAX_COMMENT: usize = 32_767;

pub(super) fn answer(request: &CrmRequest<'_>, entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    request.authorized()?;
    let ("POST", ["rest", "api", "3", "issue", issue, "comment"]) = (request.method, &request.path[..])
    else {
        return Err((404, json!({"errorMessages": ["Not found"], "errors": {}})));
    };
    if !is_key(issue) {
        let message = "Issue does not exist or you do not have permission to see it.";
        return Err((404, json!({"errorMessages": [message], "errors": {}})));
    }
    let invalid = |detail: &str| (400, json!({"errorMessages": [], "errors": {"comment": detail}}));
    let document = &request.body["body"];
    if document["version"] != 1 || document["type"] != "doc" {
        return Err(invalid("Comment body is not valid!"));
    }
    let mut text = String::new();
    collect(document, &mut text).ok_or_else(|| invalid("INVALID_INPUT"))?;
    if text.trim().is_empty() {
        return Err(invalid("Comment body can not be empty!"));
    }
    if request.received.body.len() > 4 * MAX_COMMENT || text.chars().count() > MAX_COMMENT {
        return Err(invalid("CONTENT_LIMIT_EXCEEDED"));
    }
    entries.push(CrmEntry { crm: "jira", card: (*issue).to_owned(), text });
    Ok((201, json!({"id": entries.len().to_string()})))
}

/// Whether a text is the key or the id of an issue.
fn is_key(text: &str) -> bool {
    let (project, number) = text.split_once('-').unwrap_or(("A", text));
    let is_project = project.starts_with(|c: char| c.is_ascii_uppercase())
        && project.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    is_project && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
}

/// Adds the text of a node. Returns `None` if the node breaks a rule of the format: a text node must not be empty.
fn collect(node: &Value, text: &mut String) -> Option<()> {
    match node["type"].as_str()? {
        "text" => text.push_str(node["text"].as_str().filter(|text| !text.is_empty())?),
        kind @ ("doc" | "paragraph") => {
            for child in node["content"].as_array()? {
                collect(child, text)?;
            }
            if kind == "paragraph" {
                text.push('\n');
            }
        }
        _ => return None,
    }
    Some(())
}
