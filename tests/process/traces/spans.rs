//! Spans as the collector prints them, and their tree.

use std::collections::BTreeMap;

/// A span that the collector received.
#[derive(Debug, Default, Clone)]
pub(crate) struct Span {
    pub(crate) trace_id: String,
    pub(crate) parent_id: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Attributes of the process that made the span.
    pub(crate) resource: BTreeMap<String, String>,
}

/// Reads the output of the collector.
pub(crate) fn spans_of(text: &str) -> Vec<Span> {
    let (mut spans, mut resource) = (Vec::<Span>::new(), BTreeMap::new());
    let mut is_of_resource = false;
    for line in text.lines() {
        if line.starts_with("ResourceSpans #") {
            (resource, is_of_resource) = (BTreeMap::new(), true);
        } else if line.starts_with("Span #") {
            spans.push(Span { resource: resource.clone(), ..Span::default() });
            is_of_resource = false;
        } else if let Some((key, value)) =
            line.strip_prefix("     -> ").and_then(|line| line.split_once(": "))
        {
            let value = value.split_once('(').unwrap().1.strip_suffix(')').unwrap().to_owned();
            let attributes = match spans.last_mut() {
                Some(span) if !is_of_resource => &mut span.attributes,
                _ => &mut resource,
            };
            attributes.insert(key.to_owned(), value);
        } else if let (Some(span), Some((key, value))) = (spans.last_mut(), line.split_once(':')) {
            let value = value.trim().to_owned();
            match key.trim() {
                "Trace ID" => span.trace_id = value,
                "Parent ID" => span.parent_id = value,
                "ID" => span.id = value,
                "Name" => span.name = value,
                "Kind" => span.kind = value.trim_start_matches("SPAN_KIND_").to_lowercase(),
                "Start time" => span.start = value.parse().unwrap(),
                "End time" => span.end = value.parse().unwrap(),
                "Status code" => span.failed = value == "STATUS_CODE_ERROR",
                _ => {}
            }
        }
    }
    spans
}

/// The spans below a parent in the order of their starts, with their attributes. Attributes that vary between runs are shown
/// without their values, and equal subtrees are shown once.
pub(crate) fn tree(spans: &[Span], parent_id: &str) -> String {
    let mut text = String::new();
    grow(spans, parent_id, 0, &mut text);
    text
}

const VARYING: [&str; 4] = ["attempt", "delivery", "server.port", "http.request.resend_count"];

fn grow(spans: &[Span], parent_id: &str, depth: usize, text: &mut String) {
    let mut children: Vec<_> = spans.iter().filter(|span| span.parent_id == parent_id).collect();
    children.sort_by_key(|span| span.start);
    let mut shown = Vec::new();
    for span in children {
        let mut line = format!("{}{} [{}]", "  ".repeat(depth), span.name, span.kind);
        if span.failed {
            line.push_str(" failed");
        }
        for (key, value) in &span.attributes {
            let value = if VARYING.contains(&key.as_str()) { "…" } else { value };
            line.push_str(&format!(" {key}={value}"));
        }
        line.push('\n');
        grow(spans, &span.id, depth + 1, &mut line);
        if !shown.contains(&line) {
            text.push_str(&line);
            shown.push(line);
        }
    }
}
