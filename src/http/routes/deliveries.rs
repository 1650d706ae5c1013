//! Operations on deliveries.

use super::route_table;
use crate::auth::Scope::WebhooksManage;
use crate::http::deliveries::{DeliveryList, DeliveryResource, ListDeliveries};
use crate::http::operations::Access::Token;
use crate::http::shared_problems::WebhookConflict;

route_table! { "webhooks":
    /// List deliveries
    ///
    /// Returns the deliveries of webhooks and of callbacks, newest first. A delivery is kept as long as its event.
    get "/v1/deliveries" => deliveries::list_deliveries, Token(WebhooksManage);
    {
        params(ListDeliveries),
        responses((status = 200, description = "One page of deliveries.", body = DeliveryList))
    }

    /// Get a delivery and its attempts
    ///
    /// Shows when each attempt was sent and how the receiver answered.
    get "/v1/deliveries/{delivery_id}" => deliveries::get_delivery, Token(WebhooksManage);
    {
        responses((status = 200, description = "The delivery with its attempts.", body = DeliveryResource))
    }

    /// Redeliver an event
    ///
    /// Sends the event again at once, with the same `webhook-id`, even if the delivery has already succeeded or
    /// failed. Earlier attempts are kept, and the retry schedule starts over. If an attempt is in progress, nothing
    /// changes.
    post "/v1/deliveries/{delivery_id}/redeliver" => deliveries::redeliver, Token(WebhooksManage), once AnyCall;
    {
        responses(
            (status = 202, description = "The delivery is scheduled.", body = DeliveryResource),
            WebhookConflict,
        )
    }
}
