//! Whole documents: Markdown and HTML.

use super::call_view::CallView;
use super::summary::{TextStyle, escape_markup, plain, text};
use super::{DeliveryMethod, Preset, Rendering, answers};
use crate::domain::renderings::markdown;

pub(super) static MARKDOWN: Preset = Preset {
    name: "markdown",
    description: "the call as Markdown",
    url: "https://crm.example.uz/calls",
    method: DeliveryMethod::Post,
    content_type: "text/markdown; charset=utf-8",
    needs: &[],
    limits: "None: every turn with words is sent.",
    unverified: None,
    documentation: "https://spec.commonmark.org/",
    rate: None,
    judge: answers::generic,
    render: markdown_document,
};

pub(super) static HTML: Preset = Preset {
    name: "html",
    description: "the call as an HTML fragment without scripts and styles",
    url: "https://crm.example.uz/calls",
    method: DeliveryMethod::Post,
    content_type: "text/html; charset=utf-8",
    needs: &[],
    limits: "None: every turn with words is sent.",
    unverified: None,
    documentation: "https://html.spec.whatwg.org/",
    rate: None,
    judge: answers::generic,
    render: html_document,
};

fn markdown_document(view: &mut CallView<'_>) -> Rendering {
    let style =
        TextStyle { escape: markdown::escaped, emphasis: ("**", "**"), newline: "  \n", ..plain(usize::MAX) };
    Rendering::Text(format!("{}\n", text(view, &style)))
}

fn html_document(view: &mut CallView<'_>) -> Rendering {
    let style = TextStyle {
        escape: escape_markup,
        emphasis: ("<b>", "</b>"),
        newline: "<br>\n",
        ..plain(usize::MAX)
    };
    Rendering::Text(format!("<p>{}</p>\n", text(view, &style)))
}
