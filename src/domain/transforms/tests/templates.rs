//! MiniJinja templates: their values, their escapes and their limits.

use serde_json::json;

use super::{LINK, Transform, body, event, problems, render, three_turns, turn};

fn template(source: &str) -> Transform {
    Transform { template: Some(source.to_owned()), ..Transform::default() }
}

#[test]
fn a_template_gets_the_event_and_escapes_values() {
    let source = r#"{
        "id": {{ data.call_id }}, "kind": {{ type }}, "link": {{ link }},
        "turns": [{% for turn in data.transcript %}{{ [turn.begin_ms|clock, turn.text] }}{% if not loop.last %},{% endif %}{% endfor %}],
        "missing": {{ data.metadata.nothing|default(none) }}, "agent": {{ data.call.agent.name }},
        "ids": {{ [data.call.crm.bitrix24_call_id, data.call.crm["desk.ticket"]] }}
    }"#;
    assert_eq!(
        body(&template(source), &event(&three_turns())),
        json!({"id": "1716207617.42", "kind": "analysis.completed", "link": LINK, "missing": null, "agent": "Dilnoza",
            "ids": ["externalCall.1", "T-1"], "turns": [
            ["0:00:00", "assalomu alaykum"], ["0:00:01", "va alaykum \"assalom\" <b>"], ["0:00:03", "so'zlashuv\nyozilmoqda"],
        ]})
    );
    let typed = |content_type: &str, source: &str| {
        let transform = Transform { content_type: Some(content_type.to_owned()), ..template(source) };
        let rendered = render(&transform, &event(&three_turns())).unwrap();
        (rendered.content_type, String::from_utf8(rendered.body.to_vec()).unwrap())
    };
    let source = "{{ data.transcript[1].text }}";
    assert_eq!(typed("text/plain", source).1, "va alaykum \"assalom\" <b>");
    let (content_type, html) = typed("Text/HTML", source);
    assert_eq!(content_type, "text/html; charset=utf-8");
    assert!(html.ends_with("&lt;b&gt;"), "{html}");
    assert_eq!(typed("application/vnd.crm+json", "[{{ data.revision }}]").1, "[1]");
    let form = "a={% set name %}x={{ 'n&m' }}{% endset %}{{ 'x&status=closed ü' }}&{{ name }}";
    assert_eq!(typed("application/x-www-form-urlencoded", form).1, "a=x%26status%3Dclosed+%C3%BC&x=n%26m");
}

#[test]
fn a_template_that_fails_gives_no_body() {
    for (source, reason) in [
        ("{{ data.metadata.nothing }}", "undefined value"),
        ("{{ data.nothing.at.all }}", "undefined value"),
        ("{\n\"a\": 1,\n}", "not JSON (line 3"),
        ("{\"a\": \"{{ data.call_id }}\"}", "not JSON"),
        ("", "must have 1 to"),
        (
            "{% for a in range(9000) %}{% for b in range(9000) %}.{% endfor %}{% endfor %}",
            "more work than allowed",
        ),
        ("{{ 'x' * 900000000 }}", "more work than allowed"),
        ("{{ 'x' * 9000000 }}", "more than 8388608 bytes"),
        ("{% for a in range(900) %}{{ 'x' * 10000 }}{% endfor %}", "more than 8388608 bytes"),
        ("{% set a = namespace(b=1) %}{% set a.b = a %}{{ a }}", "namespace"),
        ("{{ [1]|tojson(indent=999999999) }}", "argument"),
        ("{{ (data.revision + 76543) ** 9999 }}", "invalid operation (line 1)"),
        ("{% include 'other' %}", "line 1"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "line 1"),
    ] {
        let found = problems(&template(source), &event(&three_turns()));
        assert!(found.len() == 1 && found[0].contains(reason), "{source}: {found:?}");
    }
}

#[test]
fn a_list_that_is_large_only_as_text_is_refused() {
    let doubled = format!("{{% set a = [1] %}}{}", "{% set a = [a, a] %}".repeat(40));
    for printed in ["{{ a }}", "{{ a|tojson }}", "{% set b %}{{ a }}{% endset %}{{ b }}"] {
        let found = problems(&template(&format!("{doubled}{printed}")), &event(&three_turns()));
        assert!(found.len() == 1 && found[0].contains("more than 8388608 bytes"), "{printed}: {found:?}");
    }
}

#[test]
fn a_recursive_template_ends() {
    let source = "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}";
    assert_eq!(problems(&template(source), &event(&three_turns())).len(), 1);
}

#[test]
fn the_transcript_of_a_long_call_needs_a_part_of_the_allowed_work() {
    let turns: Vec<_> =
        (0..20_000).map(|n| turn("client", n * 1000, n * 1000 + 900, &"so'z ".repeat(20))).collect();
    let source = "[{% for turn in data.transcript %}{\"at\": {{ turn.begin_ms|clock }}, \"who\": {{ turn.speaker }}, \
                  \"text\": {{ turn.text }}}{% if not loop.last %},{% endif %}{% endfor %}]";
    let body = body(&template(source), &event(&turns));
    assert_eq!(body.as_array().unwrap().len(), 20_000);
}
