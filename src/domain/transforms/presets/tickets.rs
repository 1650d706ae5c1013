//! Help desks: Zendesk, Zammad and Chatwoot.

use serde_json::json;

use super::call_view::CallView;
use super::summary::{TextStyle, plain, plain_bytes, text};
use super::{DeliveryMethod, Preset, Rendering, answers, optional, required};
use crate::domain::renderings::markdown;

pub(super) static ZENDESK_COMMENT: Preset = Preset {
    name: "zendesk.comment",
    description: "an internal comment of a ticket, for PUT /api/v2/tickets/{crm.zendesk_ticket_id}",
    url: "https://example.zendesk.com/api/v2/tickets/{crm.zendesk_ticket_id}",
    method: DeliveryMethod::Put,
    content_type: "application/json",
    needs: &[],
    limits: "The text is shortened to 64,000 bytes. According to the staff of Zendesk, the limit is about 65,000 characters, depending \
             on the encoding and the markup. A ticket can have 5,000 comments. A repeat adds the comment again.",
    unverified: Some("The exact maximum size of a comment."),
    documentation: "https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#update-ticket",
    rate: None,
    judge: answers::by_status,
    render: zendesk_comment,
};

pub(super) static ZAMMAD_ARTICLE: Preset = Preset {
    name: "zammad.article",
    description: "an internal article of a ticket, for POST /api/v1/ticket_articles",
    url: "https://zammad.example.com/api/v1/ticket_articles",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[
        required("zammad_ticket_id", "the id of the ticket"),
        optional("zammad_type", "phone, which counts for the SLA, or note; note by default"),
    ],
    limits: "The gateway shortens the text to 60,000 characters, far below the limit of Zammad. A repeat adds the article again.",
    unverified: None,
    documentation: "https://docs.zammad.org/en/latest/api/ticket/articles.html",
    rate: None,
    judge: answers::by_status,
    render: zammad_article,
};

pub(super) static CHATWOOT_NOTE: Preset = Preset {
    name: "chatwoot.note",
    description: "a private note, for POST /api/v1/accounts/{account}/conversations/{crm.chatwoot_conversation_id}/messages",
    url: "https://chatwoot.example.com/api/v1/accounts/1/conversations/{crm.chatwoot_conversation_id}/messages",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[],
    limits: "Markdown. The text is shortened to 150,000 characters. A repeat adds the note again.",
    unverified: Some("The maximum size of a message: 150,000 is the limit in the model of forks."),
    documentation: "https://developers.chatwoot.com/api-reference/messages/create-new-message",
    rate: None,
    judge: answers::by_status,
    render: chatwoot_note,
};

fn zendesk_comment(view: &mut CallView<'_>) -> Rendering {
    Rendering::Json(
        json!({"ticket": {"comment": {"body": text(view, &plain_bytes(64_000)), "public": false}}}),
    )
}

fn zammad_article(view: &mut CallView<'_>) -> Rendering {
    let ticket = view.number("zammad_ticket_id");
    let kind = view.word("zammad_type", &["note", "phone"]).unwrap_or("note");
    let subject = format!("Call {}", view.call_id());
    let body = text(view, &plain(60_000));
    Rendering::Json(json!({
        "ticket_id": ticket, "subject": subject, "body": body, "content_type": "text/plain", "type": kind, "internal": true,
    }))
}

fn chatwoot_note(view: &mut CallView<'_>) -> Rendering {
    let style =
        TextStyle { escape: markdown::escaped, emphasis: ("**", "**"), newline: "  \n", ..plain(150_000) };
    Rendering::Json(json!({"content": text(view, &style), "private": true}))
}
