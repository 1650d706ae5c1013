//! The requests of the growth of the store.

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::fill::Calls;
use crate::gateway::Gateway;

/// Makes the request of a round.
pub(super) type Operation = Box<dyn Fn(&Gateway, &Calls<'_>, usize) -> RequestBuilder>;

/// Makes the path of a round.
type Path = Box<dyn Fn(&Calls<'_>, usize) -> String>;

/// Lists of analyses: a name, and the filter.
const LISTS: [(&str, &str); 31] = [
    ("all", ""),
    ("`status=completed`", "&status=completed"),
    ("`status=processing`", "&status=processing"),
    ("`status=failed`, no call", "&status=failed"),
    ("tag of all calls", "&tag=greeting"),
    ("tag of a tenth", "&tag=price"),
    ("tag of 20 calls", "&tag=refund"),
    ("unknown tag", "&tag=nothing"),
    ("direction of all calls", "&direction=inbound"),
    ("agent of 100 calls", "&agent=7"),
    ("unknown agent", "&agent=nobody"),
    ("metadata of one call", "&metadata.ticket=1000001900"),
    ("direction of all calls and metadata of one call", "&direction=inbound&metadata.ticket=1000001900"),
    ("agent of 100 calls and a tag of a tenth", "&agent=7&tag=price"),
    ("agent of 100 calls and a word of 20", "&agent=7&q=qimmat"),
    ("agent of 100 calls, `status=failed`, no call", "&agent=7&status=failed"),
    ("search: word of all calls", "&q=salom"),
    ("search: word of 1 in 2,000", "&q=so15000"),
    ("search: word of 20 calls", "&q=qimmat"),
    ("search: unknown word", "&q=yoqsoz"),
    ("search: word of a speaker", "&q=so0&speaker=client"),
    ("search: prefix of most calls", "&q=so*"),
    ("search: prefix of rare words", "&q=so150*"),
    ("search: prefix of a word of 20 calls", "&q=qim*"),
    ("search: eight prefixes", "&q=so*+sa*+kl*+to*+bi*+qa*+ne*+ma*"),
    ("search: eight prefixes of rare words", "&q=so15*+sa15*+kl15*+to15*+bi15*+qa15*+ne15*+ma15*"),
    ("search: two words, of all calls and of 20", "&q=salom+qimmat"),
    ("search: two words, of all calls and of 1 in 600", "&q=salom+so3000"),
    ("search: a prefix and a word of 20 calls", "&q=so*+qimmat"),
    ("search: a prefix and an unknown word", "&q=so*+yoqsoz"),
    ("search: word of 20 calls and a tag of a tenth", "&q=qimmat&tag=price"),
];

/// Returns the operations with their names. Submissions come last, because they add calls to the store.
pub(super) fn operations(receiver: u16) -> Vec<(String, Operation)> {
    let mut operations: Vec<(String, Operation)> = Vec::new();
    let mut read = |name: String, path: Path| {
        let operation: Operation = Box::new(move |gateway: &Gateway, calls: &Calls<'_>, round| {
            gateway.request(Method::GET, &path(calls, round))
        });
        operations.push((name, operation));
    };
    read(
        "get, not from the cache".into(),
        Box::new(|calls, round| format!("analyses/call-{}", place(calls, round))),
    );
    for (name, filter) in LISTS {
        // Half of the pages begin with the newest call, and the others at places that are spread over all calls.
        read(
            format!("list: {name}"),
            Box::new(move |calls, round| match round % 2 {
                0 => format!("analyses?limit=100{filter}"),
                _ => format!("analyses?limit=100{filter}&submitted_before={}", time(calls, round)),
            }),
        );
    }
    read(
        "list: submitted in a tenth of the time".into(),
        Box::new(|calls, round| {
            let day = calls.submitted_at(place(calls, round) - calls.finished / 10);
            format!(
                "analyses?limit=100&submitted_after={}&submitted_before={}",
                text(day),
                time(calls, round)
            )
        }),
    );
    read(
        "events, page of 100".into(),
        Box::new(|calls, round| format!("events?after={}", Calls::event(place(calls, round)))),
    );
    for status in ["delivered", "failed", "pending"] {
        read(
            format!("deliveries, `status={status}`"),
            Box::new(move |_, _| format!("deliveries?limit=100&status={status}")),
        );
    }
    read(
        "deliveries of a call".into(),
        Box::new(|calls, round| format!("deliveries?call_id=call-{}", place(calls, round))),
    );
    read("usage of 30 days".into(), Box::new(|_, _| "usage".into()));
    read("usage of 30 days by agent".into(), Box::new(|_, _| "usage?group_by=agent".into()));
    operations.push(("`/metrics`".into(), Box::new(|gateway, _, _| gateway.metrics_request())));
    let submit = |gateway: &Gateway, kind: &str, round: usize, callback: Option<String>| {
        let call_id = format!("{kind}-{round}");
        let body = match callback {
            Some(url) => json!({"call_id": call_id, "callback": {"url": url}}),
            None => json!({"call_id": call_id}),
        };
        let request = gateway.request(Method::POST, "analyses").header("content-type", "application/json");
        request.body(body.to_string())
    };
    operations.push((
        "submission to outcome (`Prefer: wait`), two requests to the vendor".into(),
        Box::new(move |gateway, _, round| {
            let callback = format!("http://127.0.0.1:{receiver}/hook");
            submit(gateway, "outcome", round, Some(callback)).header("prefer", "wait=60")
        }),
    ));
    operations.push((
        "submission".into(),
        Box::new(move |gateway, _, round| {
            gateway.vendor.set_held(true);
            submit(gateway, "submission", round, None)
        }),
    ));
    operations
}

/// The number of the call at which a round reads. The calls before it are not expired.
fn place(calls: &Calls<'_>, round: usize) -> i64 {
    let oldest = crate::filled::EXPIRED + 1;
    let hash = (round as i64 + 1) * 48_271 * 69_621 % 2_147_483_647;
    oldest + hash % (calls.finished - oldest)
}

fn time(calls: &Calls<'_>, round: usize) -> String {
    text(calls.submitted_at(place(calls, round)))
}

fn text(millis: i64) -> String {
    alovoice_gateway::domain::clock::Timestamp::from_millis(millis).to_string()
}
