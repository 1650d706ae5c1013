//! Bodies of submissions.

use actix_web::body::MessageBody;
use alovoice_gateway::domain::call_facts::CallFacts;
use alovoice_gateway::domain::callback_url::CallbackUrl;
use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::domain::phone::Region;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::domain::trace::TraceContext;
use alovoice_gateway::http::analyses::SubmitAnalysis;
use alovoice_gateway::http::body::JsonFields;
use alovoice_gateway::http::problem::ApiError;
use serde_json::Value;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A body is accepted unchanged, or refused with a short problem that has the location.
pub fn check(input: &[u8]) {
    let trace = TraceContext::parse(TRACE).unwrap();
    let region = Region::parse("UZ").unwrap();
    let submission =
        match SubmitAnalysis::from_json(input).and_then(|body| body.into_submission(region, trace)) {
            Ok(submission) => submission,
            Err(error) => return refused(&error),
        };
    // A byte order mark is ignored.
    let body: Value = serde_json::from_slice(input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input)).unwrap();
    assert_eq!(CallId::parse(body["call_id"].as_str().unwrap()), Ok(submission.call_id));
    assert_eq!(submission.reanalyze, body["reanalyze"] == true);
    let callback = body["callback"]["url"].as_str().map(|url| CallbackUrl::parse(url).unwrap());
    assert_eq!(submission.callback.as_ref().map(|callback| callback.url.clone()), callback);
    let payload = submission.callback.map(|callback| callback.payload.as_str());
    let expected = callback.map(|_| body["callback"]["payload"].as_str().unwrap_or("full"));
    assert_eq!(payload, expected);
    let metadata = submission.metadata.map(|metadata| metadata.to_json());
    let metadata = metadata.map_or(Value::Null, |json| serde_json::from_str(&json).unwrap());
    assert_eq!(metadata, body["metadata"], "the metadata is unchanged");
    let call = serde_json::to_value(&submission.call).unwrap();
    assert_eq!((&call["direction"], &call["queue"]), (&body["call"]["direction"], &body["call"]["queue"]));
    assert_eq!(serde_json::from_value::<CallFacts>(call).unwrap(), stored(&submission.call));
}

/// Returns call facts as a store reads them back. No ids are the same as an empty object.
fn stored(given: &CallFacts) -> CallFacts {
    let mut facts = CallFacts::default();
    facts.replace_by(given);
    facts
}

/// Checks that a problem is useful for callers.
pub(crate) fn refused(error: &ApiError) {
    let response = error.respond("req_1", &PublicUrl::default());
    let status = response.status().as_u16();
    let body = response.into_body().try_into_bytes().unwrap();
    assert!(body.len() < 8192, "{} bytes", body.len());
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    match status {
        400 => assert_eq!(problem["code"], "malformed_body"),
        422 => {
            let errors = problem["errors"].as_array().unwrap();
            assert!(!errors.is_empty());
            for error in errors {
                let pointer = error["pointer"].as_str().unwrap();
                assert!(pointer.starts_with(['#', '?', '{']), "{problem}");
                assert!(!error["detail"].as_str().unwrap().is_empty(), "{problem}");
            }
        }
        other => panic!("{other}: {problem}"),
    }
}
