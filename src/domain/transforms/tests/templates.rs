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
        ("{{ 'x'|indent(999999999, true) }}", "more work than allowed"),
        ("{{ range(999999999) }}", "invalid operation"),
        ("{{ [1]|tojson(indent=999999999) }}", "argument"),
        ("{{ (data.revision + 76543) ** 9999 }}", "invalid operation (line 1)"),
        ("{% include 'other' %}", "line 1"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "line 1"),
    ] {
        assert_fails(source, reason);
    }
    // A text of 1 MiB has a thirtieth of the allowed size.
    let text = format!("{{% set a = 'x' %}}{}", "{% set a = a ~ a %}".repeat(20));
    assert_fails(&format!("{text}{}", "{{ a }}".repeat(9)), "more than 8388608 bytes");
    assert_fails(&format!("{text}{}", "{% set a = a ~ a %}".repeat(20)), "more work than allowed");
    assert_fails(&format!("{text}{{{{ a|replace('x', a) }}}}"), "more work than allowed");
    assert_fails(
        &format!("{text}{}{{{{ a|split('')|length }}}}", "{% set a = a ~ a %}".repeat(2)),
        "more work than allowed",
    );
}

fn assert_fails(source: &str, reason: &str) {
    let found = problems(&template(source), &event(&three_turns()));
    let shown = &source[..source.len().min(200)];
    assert!(found.len() == 1 && found[0].contains(reason), "{shown}: {found:?}");
}

#[test]
fn values_that_are_large_only_as_text_are_refused() {
    for (source, reason) in [
        ("{% set b = [a, a] %}", "a list or map must have only constants"),
        ("{% set b = {'a': a} %}", "a list or map must have only constants"),
        ("{% set b = (a, a) %}", "a list or map must have only constants"),
        ("{% for b in [[1]] %}{% endfor %}", "a list or map must have only constants"),
        ("{{ [[a, a], 1] ~ '' }}", "a list or map must have only constants"),
        ("{{ [a, a]|string }}", "a list or map must have only constants"),
        ("{{ ([1] * 99999999) ~ '' }}", "`*` needs two numbers"),
        ("{{ data.transcript * data.revision|int }}", "`*` needs two numbers"),
        ("{{ 2 * data.revision|int(data.transcript) }}", "`*` needs two numbers"),
        ("{% set b = a + a %}", "`+` needs a number"),
        ("{{ a|chain(a) }}", "the filter `chain` is not available"),
        ("{{ a|zip(a) }}", "the filter `zip` is not available"),
        ("{{ '%(a)s%(a)s'|format(a=a) }}", "the filter `format` is not available"),
        ("{{ a|list|sum(start=a) }}", "`sum` has only the parameter `attribute`"),
        ("{{ a|list|sum(none, a) }}", "`sum` has only the parameter `attribute`"),
        ("{{ a|map('sum', start=a) }}", "the filter `map(\"sum\")` is not available"),
        ("{{ a|batch(9, a) }}", "the filter `batch` is not available"),
        ("{{ a|slice(9, a) }}", "the filter `slice` is not available"),
        ("{{ a|groupby('b') }}", "the filter `groupby` is not available"),
        ("{{ a|pprint }}", "the filter `pprint` is not available"),
        ("{{ a|map('batch', 2) }}", "the filter `map(\"batch\")` is not available"),
        ("{{ a|map('default', a) }}", "the filter `map(\"default\")` is not available"),
        ("{{ a|map('map', attribute='b') }}", "the filter `map(\"map\")` is not available"),
        ("{{ a|map(b) }}", "`map` needs a name in quotes"),
        ("{{ a|map(attribute='b', default=a) }}", "`map` has no `default`"),
        ("{{ a|select('in', a) }}", "the filter `select(\"in\")` is not available"),
        ("{{ a|selectattr('b', 'in', a) }}", "the filter `selectattr(\"in\")` is not available"),
        ("{{ 1 is in a }}", "the test `in` is not available"),
        ("{{ a|join(*a) }}", "arguments cannot be unpacked"),
        ("{{ a|join(**a) }}", "arguments cannot be unpacked"),
        ("{{ dict(b=a) }}", "only `range`"),
        ("{% set b = namespace(c=1) %}", "only `range`"),
        ("{{ debug() }}", "only `range`"),
        ("{% filter batch(2) %}{% endfilter %}", "the filter `batch` is not available"),
        ("{% set b|batch(2) %}{% endset %}", "the filter `batch` is not available"),
        ("{{ a[:1][:1][:1][:1][:1][:1][:1][:1][:1] }}", "a template must have at most 8 slices"),
    ] {
        let source = format!("\n{source}");
        let refused = template(&source).compile().unwrap_err().detail;
        assert!(refused.starts_with(reason) && refused.ends_with("(line 2)"), "{source}: {refused}");
        // The template may be older than the rule.
        assert_fails(&source, reason);
    }
    let source = "{{ {'text': data.call_id, 'turns': [data.revision + 1, 2 * data.revision|int, [data.call_id[:2]]], \
                  'is_known': data.revision in [1, 2], 'all': data.transcript|map(attribute='speaker')|unique|join(' ')}|tojson }}";
    let body = body(&template(source), &event(&three_turns()));
    assert_eq!(body["turns"], json!([2, 2, ["17"]]));
    assert_eq!((&body["is_known"], body["all"].is_string()), (&json!(true), true));
}

#[test]
fn a_recursive_template_ends() {
    assert_fails("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "line 1");
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
