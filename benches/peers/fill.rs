//! SQL that creates calls with invented transcripts, tags and search entries on both engines.
//!
//! A call has 30 words out of [`VOCABULARY`], and a few words are much more frequent than the others, as in natural language.

use std::fmt::Write;

use alovoice_gateway::domain::analysis::AnalysisResult;
use alovoice_gateway::domain::summary::ResultSummary;
use alovoice_gateway::domain::transcript::{Speaker, Turn};

/// Number of different words. A word is a syllable and a number; numbers near 0 are the most frequent.
const VOCABULARY: usize = 20_000;
/// First syllables of the words. Each is a prefix of a fifteenth of the vocabulary.
const SYLLABLES: &str = "sosakltobiqanemayurohudilegigo";
/// The word of every call.
pub(crate) const COMMON_WORD: &str = "salom";
/// The word of 20 calls.
pub(crate) const RARE_WORD: &str = "qimmat";
/// Calls of each agent.
const CALLS_PER_AGENT: i64 = 100;
/// Ids of the calls begin here, far above the ids that the store assigns.
pub(super) const FIRST_ID: i64 = 1_000_000_000;
/// Time between two submissions in milliseconds.
const INTERVAL: i64 = 1000;
/// Unfinished calls are due at this time after the newest submission, in milliseconds. If a call is due more than 61 minutes in the
/// future, the gateway assumes at its start that a wrong clock wrote the time, and polls the call at once.
pub(super) const DUE_AFTER: i64 = 50 * 60 * 1000;
pub(super) const TRACE: &str = r#"{"trace_id":101518349412345678901234567890,"flags":0}"#;

/// Calls of one tenant.
pub(crate) struct Calls<'a> {
    pub(crate) tenant: &'a str,
    /// Number of finished calls.
    pub(crate) finished: i64,
    /// Number of unfinished calls. They are newer than the finished calls.
    pub(crate) unfinished: i64,
    /// Time of the newest submission in milliseconds since the Unix epoch.
    pub(crate) newest: i64,
}

impl Calls<'_> {
    /// Returns the time of submission of the call with this number.
    pub(crate) fn submitted_at(&self, number: i64) -> i64 {
        self.newest - (self.finished + self.unfinished - number) * INTERVAL
    }

    /// Returns the SQL for SQLite or for PostgreSQL.
    pub(crate) fn sql(&self, is_sqlite: bool) -> String {
        let Self { tenant, finished, .. } = self;
        let rare = (finished / 20).max(1);
        let mut sql = format!(
            "CREATE TEMPORARY TABLE spoken AS WITH RECURSIVE {}, {} SELECT i, '{COMMON_WORD} ' || ({}) || \
             CASE i % {rare} WHEN 0 THEN ' {RARE_WORD}' ELSE '' END AS operator, ({}) AS client FROM calls;",
            count("calls (i)", *finished),
            count("places (j)", 30),
            words("j <= 15"),
            words("j > 15"),
        );
        sql += &self.analyses("spoken", "completed", 1, 0, "");
        let unfinished =
            format!("(WITH RECURSIVE {} SELECT i FROM open)", count("open (i)", self.unfinished));
        sql += &self.analyses(&format!("{unfinished} AS open"), "processing", 0, *finished, "poll");
        let agent = format!("id % {}", (finished / CALLS_PER_AGENT).max(1));
        for (name, value) in
            [("agent", agent.as_str()), ("metadata.ticket", "id"), ("direction", "'inbound'")]
        {
            _ = write!(
                sql,
                "INSERT INTO attributes (analysis, tenant, call_id, submitted_at, name, value) SELECT id, tenant, call_id, \
                 submitted_at, '{name}', CAST({value} AS text) FROM analyses WHERE tenant = '{tenant}';"
            );
        }

        // The texts end the SQL literal and begin the next one.
        let result =
            result(&[(Speaker::Operator, "' || operator || '"), (Speaker::Client, "' || client || '")]);
        let summary = serde_json::to_string(&ResultSummary::of(&result)).unwrap();
        let result = serde_json::to_string(&result).unwrap();
        let body = if is_sqlite { "X'7b7d'" } else { r"'\x7b7d'" };
        _ = write!(
            sql,
            "INSERT INTO results (analysis, result, vendor_answer) SELECT {FIRST_ID} + i, '{result}', {body} FROM spoken; \
             INSERT INTO listings (analysis, summary) SELECT {FIRST_ID} + i, '{summary}' FROM spoken;"
        );
        for (tag, every) in [("greeting", 1), ("price", 10), ("refund", rare)] {
            _ = write!(
                sql,
                "INSERT INTO tags (tenant, name, analysis) SELECT '{tenant}', '{tag}', {FIRST_ID} + i FROM spoken \
                 WHERE i % {every} = 0;"
            );
        }
        let entries = format!(
            "'t_{tenant} o_ c_ ' || operator || ' ' || client || ' o_' || replace(operator, ' ', ' o_') || ' c_' || \
             replace(client, ' ', ' c_')"
        );
        sql += &if is_sqlite {
            format!("INSERT INTO search (rowid, words) SELECT {FIRST_ID} + i, {entries} FROM spoken;")
        } else {
            format!(
                "INSERT INTO search (analysis, words) SELECT {FIRST_ID} + i, array_to_tsvector(string_to_array({entries}, ' ')) \
                 FROM spoken;"
            )
        };
        sql + "DROP TABLE spoken;"
    }

    /// Inserts one analysis for each number `i` in `numbers`, after the first `before` analyses.
    fn analyses(&self, numbers: &str, status: &str, revision: u32, before: i64, stage: &str) -> String {
        let (first, newest, tenant) = (self.submitted_at(before), self.newest, self.tenant);
        format!(
            "INSERT INTO analyses (id, tenant, call_id, status, revision, submitted_at, finished_at, metadata, trace, \
             stage, due_at, started_at) SELECT {FIRST_ID} + {before} + i, '{tenant}', 'call-' || ({before} + i), '{status}', \
             {revision}, {first} + i * {INTERVAL}, CASE {revision} WHEN 1 THEN {first} + i * {INTERVAL} END, '{{}}', '{TRACE}', \
             nullif('{stage}', ''), CASE {revision} WHEN 0 THEN {newest} + {DUE_AFTER} END, \
             CASE {revision} WHEN 0 THEN {newest} END FROM {numbers};"
        )
    }
}

/// A common table expression with the numbers from 1 to `most`, for example `calls (i)`.
fn count(table: &str, most: i64) -> String {
    let (name, number) = table.split_once(" (").unwrap();
    let number = number.trim_end_matches(')');
    format!(
        "{table} AS (SELECT 1 WHERE {most} > 0 UNION ALL SELECT {number} + 1 FROM {name} WHERE {number} < {most})"
    )
}

/// A subquery for the words of call `i` at the places `j` that meet a condition. A hash of both numbers selects the word.
fn words(places: &str) -> String {
    let syllables = SYLLABLES.len() / 2;
    format!(
        "SELECT string_agg(substr('{SYLLABLES}', 1 + 2 * (word % {syllables}), 2) || word, ' ') FROM \
         (SELECT CAST({VOCABULARY} * share * share * share * share AS integer) AS word FROM \
         (SELECT CAST(hash * hash % 2147483647 AS double precision) / 2147483647 AS share FROM \
         (SELECT (CAST(i AS bigint) * 48271 + j * 69621) % 2147483647 AS hash FROM places WHERE {places}) AS a) AS b) AS c"
    )
}

fn result(turns: &[(Speaker, &str)]) -> AnalysisResult {
    let turn = |(speaker, text): &(Speaker, &str)| Turn {
        fragment_id: None,
        speaker: speaker.clone(),
        begin_ms: 0,
        end_ms: 60_000,
        text: (*text).to_owned(),
    };
    AnalysisResult {
        ai_call_id: None,
        begin_time: None,
        transcript: turns.iter().map(turn).collect(),
        tags: Vec::new(),
        audio_path: None,
        warnings: Vec::new(),
    }
}
