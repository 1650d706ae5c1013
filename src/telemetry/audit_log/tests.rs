use super::*;
use crate::domain::clock::SystemEntropy;
use crate::telemetry::tests::Captured;

fn line<'a>(action: &'static str, request_id: &'a str) -> AuditLine<'a> {
    AuditLine {
        action,
        status: Some(200),
        replayed: None,
        tenant: "acme",
        issuer: Some("https://issuer.test"),
        subject: Some("agent \"7\"\n\u{1}\u{2028}Дилноза"),
        request_id,
        trace: Some(TraceContext::start(&SystemEntropy)),
        call_id: Some("1716207617.42"),
        webhook: None,
        delivery: None,
        replay: None,
    }
}

fn log(format: LogFormat) -> (AuditLog, Captured) {
    let captured = Captured::default();
    (AuditLog::new(format, [true, true], captured.clone()), captured)
}

fn text(captured: &Captured) -> String {
    String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
}

#[test]
fn a_line_has_every_known_field() {
    let (log, captured) = log(LogFormat::Json);
    log.write_change(&line("submit_analysis", "1"));
    let text = text(&captured);
    let written: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    let written = written.as_object().unwrap();
    let time: jiff::Timestamp = written["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(time > jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(written["trace_id"].as_str().unwrap().len(), 32);
    let mut written = written.clone();
    written.retain(|name, _| name != "timestamp" && name != "trace_id");
    let expected = serde_json::json!({
        "level": "INFO", "message": "operation requested", "action": "submit_analysis", "status": 200, "tenant": "acme",
        "issuer": "https://issuer.test", "subject": "agent \"7\"\n\u{1}\u{2028}Дилноза", "request_id": "1",
        "call_id": "1716207617.42", "target": "audit",
    });
    assert_eq!(Some(&written), expected.as_object());
}

#[test]
fn a_line_for_people_has_one_line() {
    let (log, captured) = log(LogFormat::Human);
    log.write_change(&line("submit_analysis", "1"));
    let text = text(&captured);
    assert!(text.contains("  INFO audit: operation requested action=\"submit_analysis\" call_id="), "{text}");
    assert!(text.contains("subject=\"agent \\\"7\\\"\\n\\u{1}"), "{text}");
    assert_eq!(text.matches('\n').count(), 1);
}

#[test]
fn the_end_of_the_thread_writes_all_lines_in_order() {
    let (log, captured) = log(LogFormat::Json);
    let log = Arc::new(log);
    let thread = AuditThread::start(&log).unwrap();
    let names: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    for (number, name) in names.iter().enumerate() {
        let line = line("get_analysis", name);
        if number % 700 == 500 { log.write_change(&line) } else { log.write_read(&line) }
    }
    drop(thread);
    let text = text(&captured);
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let written: Vec<String> = lines.map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(written, names);
}

#[test]
fn a_change_is_written_at_once_after_the_reads_before_it() {
    let (log, captured) = log(LogFormat::Json);
    log.write_read(&line("get_analysis", "1"));
    assert_eq!(text(&captured), "");
    log.write_change(&line("submit_analysis", "2"));
    let text = text(&captured);
    assert!(text.lines().next().unwrap().contains("audit::read") && text.lines().count() == 2, "{text}");
}
