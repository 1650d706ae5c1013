//! The operation on events.

use super::route_table;
use crate::auth::Scope::AnalysesRead;
use crate::http::events::{EventPage, LastEventId, ListEvents};
use crate::http::operations::Access::Token;
use crate::http::shared_problems::NotAcceptable;

route_table! { "events":
    /// List or stream events
    ///
    /// If you cannot receive callbacks, read the same events here: every event of the tenant exactly once, in a fixed
    /// order. Events are kept for the retention period of the gateway (`store.retention`).
    ///
    /// A JSON answer is one page with the cursor of the next page. With `Accept: text/event-stream` the answer is a
    /// stream of Server-Sent Events. In each of them, the field `id` is the event id, `event` is the type, and `data` is
    /// the event in the same form as on a page, on one line. If the stream breaks, reconnect with `Last-Event-ID`, to any
    /// replica: no event is lost or repeated. `EventSource` does this by itself. The stream begins with an `id` without
    /// data, so you can resume even before the first event. Comments keep the connection open. The stream ends when the
    /// token expires or the server stops; then connect again.
    get "/v1/events" => events::list_events, Token(AnalysesRead);
    {
        params(ListEvents, LastEventId),
        responses(
            (status = 200, description = "The events after the cursor, as a page or as a stream.", content(
                (EventPage = "application/json"),
                (String = "text/event-stream", example = json!("retry: 2000\nid: AAAAAAAAAAEqjnBRTbTKTw\n\nid: evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e\nevent: analysis.completed\ndata: {\"id\":\"evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e\",\"type\":\"analysis.completed\",…}\n\n: ping\n\n")),
            )),
            NotAcceptable,
        )
    }
}
