//! Operations on webhooks.

use super::route_table;
use crate::auth::Scope::WebhooksManage;
use crate::http::operations::Access::Token;
use crate::http::shared_problems::{EncryptionNotConfigured, ResourceNotFound, WebhookConflict};
use crate::http::webhook_actions::{Accepted, RotateSecret};
use crate::http::webhook_input::{ChangeWebhook, CreateWebhook};
use crate::http::webhook_previews::{PreviewCall, PreviewResource, PreviewWebhook};
use crate::http::webhook_replays::{ReplayEstimate, ReplayEvents, ReplayResource};
use crate::http::webhook_resource::{WebhookList, WebhookResource, WebhookWithSecret};

route_table! { "webhooks":
    /// Register a webhook
    ///
    /// From now on, the webhook receives the events of the tenant, in addition to the callbacks of submissions. `events` selects
    /// the types of events, and `filter` selects events by their content. Deliveries are signed as Standard Webhooks specifies,
    /// with a secret of this webhook. The secret is in this answer only, so store it. A tenant can have up to 50
    /// webhooks.
    ///
    /// A failed delivery is retried for more than a day. After five consecutive failures the webhook is paused and one delivery
    /// probes it from time to time; when a probe succeeds, the other deliveries follow. The gateway disables a webhook that
    /// answers 410 or that fails for five days without a success. Its pending deliveries wait until you enable it.
    post "/v1/webhooks" => webhooks::create_webhook, Token(WebhooksManage), once Secret;
    {
        request_body = CreateWebhook,
        responses(
            (status = 201, description = "The webhook is registered.", body = WebhookWithSecret,
                headers(("Location" = String, description = "Link to the webhook."))),
            WebhookConflict, EncryptionNotConfigured,
        )
    }

    /// List webhooks
    ///
    /// Returns all webhooks of the tenant, at most 50, without paging.
    get "/v1/webhooks" => webhooks::list_webhooks, Token(WebhooksManage);
    {
        responses((status = 200, description = "All webhooks of the tenant.", body = WebhookList))
    }

    /// Preview the request of a webhook that is not registered
    ///
    /// Returns the request that a webhook with these settings would get for a call: its method, headers, body and size. The
    /// answer also says whether the event passes the filter, and lists every problem. Nothing is sent or stored.
    post "/v1/webhooks/preview" => webhook_previews::preview_unregistered_webhook, Token(WebhooksManage);
    {
        request_body = PreviewWebhook,
        responses((status = 200, description = "The request that the webhook would get.", body = PreviewResource), ResourceNotFound)
    }

    /// Get a webhook and its health
    ///
    /// The answer does not contain the secret or the values of custom headers.
    get "/v1/webhooks/{webhook_id}" => webhooks::get_webhook, Token(WebhooksManage);
    {
        responses((status = 200, description = "The webhook and its health.", body = WebhookResource))
    }

    /// Change, enable or disable a webhook
    ///
    /// The body is a JSON Merge Patch: fields that you leave out keep their values. The change also applies to pending
    /// deliveries. The secret does not change. If you change the `url`, the gateway sends the existing custom headers to the new
    /// URL: remove the headers that the new receiver must not get.
    ///
    /// A change of `url`, `payload`, `transform`, `method` or `headers`, or `enabled: true`, ends a pause and resets the count
    /// of failures. Events that occurred while a webhook was disabled are not sent automatically; use a replay.
    patch "/v1/webhooks/{webhook_id}" => webhooks::change_webhook, Token(WebhooksManage);
    {
        request_body(content((ChangeWebhook = "application/json"), (ChangeWebhook = "application/merge-patch+json"))),
        responses(
            (status = 200, description = "The changed webhook.", body = WebhookResource),
            WebhookConflict, EncryptionNotConfigured,
        )
    }

    /// Delete a webhook
    ///
    /// Also deletes the deliveries of the webhook and their attempts. If there are many, they are deleted in the background. The
    /// gateway sends nothing more to the webhook, except a request that is being sent at this moment.
    delete "/v1/webhooks/{webhook_id}" => webhooks::delete_webhook, Token(WebhooksManage);
    {
        responses((status = 204, description = "The webhook is deleted."))
    }

    /// Send a test event to a webhook
    ///
    /// Sends an event of type `webhook.test`. Its `data` has the same shape as in a real event, has `is_test: true`, and
    /// describes a call that does not exist. The call has an id for every preset and for every placeholder of the URL. No
    /// entry in a CRM has these ids, so a CRM usually refuses the request. The event is signed, recorded and retried like any
    /// other event.
    post "/v1/webhooks/{webhook_id}/test" => webhook_actions::test_webhook, Token(WebhooksManage), once Plain;
    {
        responses(
            (status = 202, description = "The delivery is scheduled.", body = Accepted,
                headers(("Location" = String, description = "Link to the delivery."))),
            WebhookConflict,
        )
    }

    /// Preview the request of a webhook
    ///
    /// Returns the request that the webhook would get for a call: its method, headers, body and size. The answer also says
    /// whether the event passes the filter, and lists every problem. Nothing is sent.
    post "/v1/webhooks/{webhook_id}/preview" => webhook_previews::preview_webhook, Token(WebhooksManage);
    {
        request_body = PreviewCall,
        responses((status = 200, description = "The request that the webhook would get.", body = PreviewResource))
    }

    /// Rotate the secret of a webhook
    ///
    /// The new secret is in this answer only. During the overlap, deliveries carry two signatures: one with the new and one
    /// with the previous secret. Older secrets are no longer used.
    post "/v1/webhooks/{webhook_id}/rotate-secret" => webhook_actions::rotate_webhook_secret, Token(WebhooksManage), once Secret;
    {
        request_body = Option<RotateSecret>,
        responses(
            (status = 200, description = "The webhook with its new secret.", body = WebhookWithSecret),
            EncryptionNotConfigured,
        )
    }

    /// Replay past events to a webhook
    ///
    /// Sends the events of a period again, each with its original `webhook-id`, if they pass the filter of the webhook. This
    /// includes events that the webhook has already received, and events that occurred while it was disabled. An event whose
    /// delivery to the webhook is still pending is not sent twice. The replay runs in the background and survives restarts; read
    /// its progress at `Location`. With `dry_run` the gateway sends nothing and answers 200 with the number of events, including
    /// those that the filter would drop.
    post "/v1/webhooks/{webhook_id}/replay" => webhook_replays::replay_webhook, Token(WebhooksManage), once Plain;
    {
        request_body = ReplayEvents,
        responses(
            (status = 200, description = "The number of events, for a dry run.", body = ReplayEstimate),
            (status = 202, description = "The replay has started.", body = ReplayResource,
                headers(("Location" = String, description = "Link to the replay."))),
            WebhookConflict,
        )
    }

    /// Get the progress of a replay
    ///
    /// A finished replay is kept for the retention period of the gateway (`store.retention`).
    get "/v1/webhooks/{webhook_id}/replays/{replay_id}" => webhook_replays::get_replay, Token(WebhooksManage);
    {
        responses((status = 200, description = "The replay and its progress.", body = ReplayResource))
    }
}
