//! Jira and Jira Service Management: comments.

use serde_json::{Value, json};

use super::call_view::CallView;
use super::summary::{Line, facts, plain, rest, text, turns, units};
use super::{DeliveryMethod, Preset, Rendering, answers};

/// Maximum length of a comment. The documentation of Jira does not say whether markup counts, so the whole document with its
/// markup stays within the limit.
const LIMIT: usize = 32_767;

pub(super) static JIRA_COMMENT: Preset = Preset {
    name: "jira.comment",
    description: "a comment in the Atlassian Document Format, for POST /rest/api/3/issue/{crm.jira_issue_key}/comment",
    url: "https://example.atlassian.net/rest/api/3/issue/{crm.jira_issue_key}/comment",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[],
    limits: "32,767 characters. Turns that do not fit are replaced by a link. A repeat adds the comment again.",
    unverified: Some("Whether the limit counts the markup. The gateway keeps the limit with the markup."),
    documentation: "https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/",
    rate: None,
    judge: answers::by_status,
    render: jira_comment,
};

pub(super) static JSM_COMMENT: Preset = Preset {
    name: "jsm.comment",
    description: "an internal comment, for POST /rest/servicedeskapi/request/{crm.jira_issue_key}/comment",
    url: "https://example.atlassian.net/rest/servicedeskapi/request/{crm.jira_issue_key}/comment",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[],
    limits: "32,767 characters. Turns that do not fit are replaced by a link. A repeat adds the comment again.",
    unverified: Some("Whether the limit of Jira is also that of Jira Service Management."),
    documentation: "https://developer.atlassian.com/cloud/jira/service-desk/rest/api-group-request/",
    rate: None,
    judge: answers::by_status,
    render: jsm_comment,
};

fn jira_comment(view: &mut CallView<'_>) -> Rendering {
    let turns: Vec<_> = turns(view).collect();
    let head: Vec<Value> = facts(view).iter().map(paragraph).collect();
    let paragraphs: Vec<Value> = turns.iter().map(paragraph).collect();
    let document = |content: Vec<Value>| json!({"body": {"version": 1, "type": "doc", "content": content}});
    let length = |value: &Value| units(&value.to_string()) + 1;
    let mut left = LIMIT.saturating_sub(length(&document(head.clone())));
    let whole: usize = paragraphs.iter().map(length).sum();
    let mut content = head;
    if whole <= left {
        content.extend(paragraphs);
        return Rendering::Json(document(content));
    }
    left = left.saturating_sub(length(&paragraph(&rest(turns.len(), view.link))));
    let mut sent = 0;
    for paragraph in paragraphs {
        let Some(remaining) = left.checked_sub(length(&paragraph)) else { break };
        left = remaining;
        content.push(paragraph);
        sent += 1;
    }
    content.push(paragraph(&rest(turns.len() - sent, view.link)));
    Rendering::Json(document(content))
}

/// Returns a line as a paragraph. A line without a label has one text node, because a text node must not be empty.
fn paragraph(line: &Line) -> Value {
    let mut nodes = Vec::new();
    if !line.label.is_empty() {
        let label = format!("{}:", line.label);
        nodes.push(json!({"type": "text", "text": label, "marks": [{"type": "strong"}]}));
    }
    let text = if nodes.is_empty() { line.text.clone() } else { format!(" {}", line.text) };
    nodes.push(json!({"type": "text", "text": text}));
    json!({"type": "paragraph", "content": nodes})
}

fn jsm_comment(view: &mut CallView<'_>) -> Rendering {
    Rendering::Json(json!({"body": text(view, &plain(LIMIT)), "public": false}))
}
