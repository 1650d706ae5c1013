//! Messengers: Slack and Telegram.

use serde_json::json;

use super::call_view::CallView;
use super::summary::{TextStyle, escape_markup, plain, text};
use super::{DeliveryMethod, Preset, Rendering, answers, required};
use crate::domain::delivery_rate::DeliveryRate;

/// One message per second for each incoming webhook. Slack allows short bursts of unknown size
/// (<https://docs.slack.dev/apis/web-api/rate-limits>).
const SLACK_LIMIT: DeliveryRate = DeliveryRate::of_preset(1.0, 1);

pub(super) static SLACK_MESSAGE: Preset = Preset {
    name: "slack.message",
    description: "a message, for an incoming webhook of Slack",
    url: "https://hooks.slack.com/services/T000/B000/SECRET",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[],
    limits: "Slack truncates a text of more than 40,000 characters. The gateway shortens such a text at the end of a turn. A repeat \
             adds the message again.",
    unverified: None,
    documentation: "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
    rate: Some(SLACK_LIMIT),
    judge: answers::by_status,
    render: slack_message,
};

pub(super) static TELEGRAM_MESSAGE: Preset = Preset {
    name: "telegram.message",
    description: "a message, for the method sendMessage of the Bot API",
    url: "https://api.telegram.org/botTOKEN/sendMessage",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[required("telegram_chat_id", "the id of the chat")],
    limits: "4,096 characters. Turns that do not fit are replaced by a link. A repeat adds the message again.",
    unverified: None,
    documentation: "https://core.telegram.org/bots/api#sendmessage",
    rate: None,
    judge: answers::telegram,
    render: telegram_message,
};

fn slack_message(view: &mut CallView<'_>) -> Rendering {
    let style = TextStyle { escape: escape_markup, emphasis: ("*", "*"), ..plain(40_000) };
    Rendering::Json(json!({"text": text(view, &style)}))
}

fn telegram_message(view: &mut CallView<'_>) -> Rendering {
    let text = text(view, &plain(4_096));
    Rendering::Json(json!({"chat_id": view.text("telegram_chat_id"), "text": text}))
}
