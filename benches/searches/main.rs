//! Duration of a page of a list or search with 1,000,000 finished and 200,000 unfinished calls in the store: `cargo bench --bench searches`.
//! `cargo bench --bench searches -- 20000` uses 20,000 finished calls and a fifth of that number of unfinished calls. Another argument
//! selects the engines and queries whose names contain it: `-- Sqlite` or `-- 'eight prefixes'`.
//!
//! Each query is measured for its first page, and for deep pages that begin at places spread evenly over all calls. The last column is
//! the share of pages that ended early with a `searched_back_to`, because they had examined enough calls.

#![expect(clippy::print_stdout, reason = "the benchmark prints a table")]
#![expect(clippy::unwrap_used, reason = "a benchmark may fail at any line")]

#[path = "../claims/engine.rs"]
mod engine;
mod fill;
#[expect(dead_code, reason = "each binary uses only a part of it")]
#[path = "../../tests/postgres/mod.rs"]
mod postgres;

use std::time::{Duration, Instant};

use alovoice_gateway::domain::analysis::Status;
use alovoice_gateway::domain::attributes::{Attribute, AttributeSource};
use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::listing::{AnalysisFilter, AnalysisQuery, ListPosition};
use alovoice_gateway::domain::search::{SearchQuery, SpeakerSide};
use alovoice_gateway::domain::tags::TagKey;
use alovoice_gateway::store::Store;

use engine::{Engine, NOW};
use fill::{COMMON_WORD, Calls, RARE_WORD};

/// Number of pages of each kind.
const ROUNDS: usize = 200;
/// Number of calls on a page.
const LIMIT: usize = 100;
/// Target of the 99th percentile in milliseconds.
const TARGET: f64 = 50.0;
const TENANT: &str = "acme";

#[tokio::main]
async fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let finished = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let names: Vec<_> = arguments.iter().filter(|argument| argument.parse::<i64>().is_err()).collect();
    let is_chosen = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(*part));
    let calls = Calls { tenant: TENANT, finished, unfinished: finished / 5, newest: NOW.as_millis() - 1000 };
    println!(
        "{} finished and {} unfinished calls, times in ms, target {TARGET}",
        calls.finished, calls.unfinished
    );
    println!(
        "| engine | query | first page p50 | p99 | deep page p50 | p99 | calls per page | ended early |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let mut queries = queries(&calls);
        queries.retain(|(name, _)| is_chosen(&format!("{engine:?} {name}")));
        if queries.is_empty() {
            continue;
        }
        let began = Instant::now();
        let opened = engine.open(&calls.sql(matches!(engine, Engine::Sqlite))).await;
        eprintln!("{engine:?} was filled in {} s", began.elapsed().as_secs());
        for (name, filter) in queries {
            let first = measure(&*opened.store, &filter, |_| None).await;
            let deep = measure(&*opened.store, &filter, |round| Some(place(&calls, round))).await;
            let mark = if first.p99.max(deep.p99) > TARGET { " (slow)" } else { "" };
            println!(
                "| {engine:?} | {name}{mark} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} % |",
                first.p50,
                first.p99,
                deep.p50,
                deep.p99,
                (first.found + deep.found) / (2 * ROUNDS),
                100 * (first.ended_early + deep.ended_early) / (2 * ROUNDS),
            );
        }
    }
}

/// The filters of the queries, with their names.
fn queries(calls: &Calls<'_>) -> Vec<(&'static str, AnalysisFilter)> {
    let all = AnalysisFilter::default;
    let tag = |name: &str| AnalysisFilter { tags: vec![TagKey::of(name)], ..all() };
    let words =
        |text: &str| AnalysisFilter { search: Some(SearchQuery::parse(text, None).unwrap()), ..all() };
    let status = |status| AnalysisFilter { status: Some(status), ..all() };
    let at = |share: i64| Some(Timestamp::from_millis(calls.submitted_at(calls.finished * share / 10)));
    let of_client = SearchQuery::parse("so0", Some(SpeakerSide::Client)).unwrap();
    let having = |attributes: &[(AttributeSource<'_>, &str)]| {
        let attributes = attributes.iter().map(|(source, value)| Attribute::new(*source, value).unwrap());
        AnalysisFilter { attributes: attributes.collect(), ..all() }
    };
    let (agent, inbound) = ((AttributeSource::Agent, "17"), (AttributeSource::Direction, "inbound"));
    let ticket = (AttributeSource::Metadata("ticket"), "1000000017");
    vec![
        ("all calls", all()),
        ("status `completed`", status(Status::Completed)),
        ("status `processing`", status(Status::Processing)),
        ("status `failed`, no call", status(Status::Failed)),
        (
            "submitted in a tenth of the time",
            AnalysisFilter { submitted_after: at(4), submitted_before: at(5), ..all() },
        ),
        ("tag of all calls", tag("greeting")),
        ("tag of a tenth", tag("price")),
        ("tag of 1 in 50,000", tag("refund")),
        ("unknown tag", tag("nothing")),
        (
            "tag of a tenth and a rare word",
            AnalysisFilter { search: words(RARE_WORD).search, ..tag("price") },
        ),
        ("direction of all calls", having(&[inbound])),
        ("agent of 1 in 100", having(&[agent])),
        ("unknown agent", having(&[(AttributeSource::Agent, "nobody")])),
        ("metadata of one call", having(&[ticket])),
        ("direction of all calls and metadata of one call", having(&[inbound, ticket])),
        (
            "agent of 1 in 100 and a tag of a tenth",
            AnalysisFilter { tags: tag("price").tags, ..having(&[agent]) },
        ),
        (
            "agent of 1 in 100 and a rare word",
            AnalysisFilter { search: words(RARE_WORD).search, ..having(&[agent]) },
        ),
        (
            "agent of 1 in 100, `failed`, no call",
            AnalysisFilter { status: Some(Status::Failed), ..having(&[agent]) },
        ),
        ("word of all calls", words(COMMON_WORD)),
        ("word of 1 in 2,000", words("so15000")),
        ("word of 1 in 50,000", words(RARE_WORD)),
        ("unknown word", words("yoqsoz")),
        ("word of a speaker", AnalysisFilter { search: Some(of_client), ..all() }),
        ("`so*`", words("so*")),
        ("`so150*`", words("so150*")),
        ("eight prefixes", words("so* sa* kl* to* bi* qa* ne* ma*")),
        ("eight prefixes of rare words", words("so15* sa15* kl15* to15* bi15* qa15* ne15* ma15*")),
        ("`so*` and an unknown word", words("so* yoqsoz")),
        ("`so*` and a rare word", words(&format!("so* {RARE_WORD}"))),
        ("word of all calls and of 1 in 600", words("salom so3000")),
        (
            "`so*` in a tenth of the time",
            AnalysisFilter { submitted_after: at(4), submitted_before: at(5), ..words("so*") },
        ),
    ]
}

/// The place where the deep page of a round begins.
fn place(calls: &Calls<'_>, round: usize) -> ListPosition {
    let total = calls.finished + calls.unfinished;
    let number = total - total * (round as i64) / (ROUNDS as i64);
    ListPosition {
        submitted_at: Timestamp::from_millis(calls.submitted_at(number)),
        call_id: format!("call-{number}"),
    }
}

/// Pages of one query.
struct Pages {
    /// Median duration in milliseconds.
    p50: f64,
    /// 99th percentile in milliseconds.
    p99: f64,
    /// Number of calls on all pages.
    found: usize,
    /// Number of pages that ended because they had examined enough calls.
    ended_early: usize,
}

async fn measure(
    store: &dyn Store,
    filter: &AnalysisFilter,
    begin: impl Fn(usize) -> Option<ListPosition>,
) -> Pages {
    let tenant = TenantId::parse(TENANT).unwrap();
    let (mut times, mut found, mut ended_early) = (Vec::new(), 0, 0);
    for round in 0..ROUNDS {
        let query = AnalysisQuery { filter: filter.clone(), after: begin(round), limit: LIMIT };
        let began = Instant::now();
        let page = store.list_analyses(&tenant, query).await.unwrap();
        times.push(began.elapsed());
        found += page.analyses.len();
        ended_early += usize::from(page.searched_to.is_some());
    }
    times.sort();
    let at = |share: usize| milliseconds(times[ROUNDS * share / 100]);
    Pages { p50: at(50), p99: at(99), found, ended_early }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
