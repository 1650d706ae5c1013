//! Reads a source file and lists the paths it names, in `use` trees, expressions, attributes and macros alike.
//!
//! It looks at tokens, not at syntax, so that the inside of a macro counts too; comments and texts do not.

use std::collections::VecDeque;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    /// Where.
    pub(super) line: usize,
    /// From the root: `crate::store::Store`, `tokio::time`. A glob ends with `*`.
    pub(super) path: Vec<String>,
}

/// What a source says.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The paths of two segments and more, and all that `use` names.
    pub(super) mentions: Vec<Mention>,
    /// Identifiers outside of tests, with their lines: what methods are called.
    pub(super) identifiers: Vec<(usize, String)>,
    /// Texts outside of tests, with their lines, as they are written.
    pub(super) texts: Vec<(usize, String)>,
}

impl Source {
    /// Reads the file of a module, such as `["store", "sqlite"]`.
    pub(super) fn read(text: &str, module: &[&str]) -> Self {
        let tokens: TokenStream = text.parse().expect("the source is Rust");
        let mut source = Self::default();
        let module = module.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let in_tests = module.last().is_some_and(|name| name == "tests");
        source.walk(tokens, &module, in_tests);
        source
    }

    fn walk(&mut self, tokens: TokenStream, module: &[String], in_tests: bool) {
        let mut tokens = tokens.into_iter().collect::<VecDeque<_>>();
        // `#[cfg(test)]` counts for the item that follows, up to its body or its semicolon.
        let mut tests_next = false;
        while let Some(token) = tokens.pop_front() {
            let tested = in_tests || tests_next;
            match token {
                TokenTree::Group(group) => {
                    let is_attribute = group.delimiter() == Delimiter::Bracket;
                    let compact = group.stream().to_string().replace(' ', "");
                    tests_next = match (is_attribute, compact.as_str()) {
                        (true, "cfg(test)") => true,
                        _ => tests_next && group.delimiter() != Delimiter::Brace,
                    };
                    self.walk(group.stream(), module, tested);
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => tests_next = false,
                TokenTree::Punct(_) => {}
                TokenTree::Literal(literal) => {
                    if !tested {
                        self.texts.push((literal.span().start().line, literal.to_string()));
                    }
                }
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.front(), '<') => {
                    let end = tokens.iter().position(|token| is_punct(Some(token), ';'));
                    let tree = tokens.drain(..end.unwrap_or(tokens.len())).collect();
                    self.tree(&[], tree, module);
                }
                TokenTree::Ident(ident) if ident == "mod" && names_a_body(&tokens) => {
                    let inner = tokens.pop_front().map(|name| name.to_string()).unwrap_or_default();
                    let Some(TokenTree::Group(body)) = tokens.pop_front() else { continue };
                    let module = module.iter().cloned().chain([inner]).collect::<Vec<_>>();
                    self.walk(body.stream(), &module, tested);
                    tests_next = false;
                }
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    let mut path = vec![plain(&ident.to_string())];
                    while take_colons(&mut tokens) {
                        let Some(TokenTree::Ident(next)) = tokens.front() else { break };
                        path.push(plain(&next.to_string()));
                        tokens.pop_front();
                    }
                    if !tested {
                        self.identifiers.extend(path.iter().map(|name| (line, name.clone())));
                    }
                    if path.len() > 1 {
                        self.mention(line, path, module);
                    }
                }
            }
        }
    }

    /// One level of a `use` tree: `a::b`, `a::{b, c::d}`, `a::*`, `a as b`.
    fn tree(&mut self, prefix: &[String], mut tokens: VecDeque<TokenTree>, module: &[String]) {
        while !tokens.is_empty() {
            let end = tokens.iter().position(|token| is_punct(Some(token), ','));
            let branch = tokens.drain(..end.unwrap_or(tokens.len())).collect::<Vec<_>>();
            tokens.pop_front();
            let mut path = prefix.to_vec();
            let mut line = None;
            let mut is_open = false;
            for token in branch {
                line.get_or_insert(token.span().start().line);
                match token {
                    TokenTree::Ident(ident) if ident == "as" => break,
                    TokenTree::Ident(ident) if ident == "self" && !path.is_empty() => {}
                    TokenTree::Ident(ident) => path.push(plain(&ident.to_string())),
                    TokenTree::Punct(punct) if punct.as_char() == '*' => path.push("*".to_owned()),
                    TokenTree::Group(group) => {
                        self.tree(&path, group.stream().into_iter().collect(), module);
                        is_open = true;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if let Some(line) = line.filter(|_| !is_open) {
                self.mention(line, path, module);
            }
        }
    }

    /// Notes a path, with `self` and `super` resolved.
    fn mention(&mut self, line: usize, path: Vec<String>, module: &[String]) {
        let mut from = module.len();
        let mut rest = path.as_slice();
        let is_relative = matches!(path[0].as_str(), "self" | "super");
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "self" => {}
                "super" => from = from.saturating_sub(1),
                _ => break,
            }
            rest = others;
        }
        let path = if is_relative {
            let base = std::iter::once("crate".to_owned()).chain(module[..from].iter().cloned());
            base.chain(rest.iter().cloned()).collect()
        } else {
            path
        };
        self.mentions.push(Mention { line, path });
    }
}

fn plain(name: &str) -> String {
    name.trim_start_matches("r#").to_owned()
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn names_a_body(tokens: &VecDeque<TokenTree>) -> bool {
    let is_body = |group: &proc_macro2::Group| group.delimiter() == Delimiter::Brace;
    matches!(
        (tokens.front(), tokens.get(1)),
        (Some(TokenTree::Ident(_)), Some(TokenTree::Group(group))) if is_body(group)
    )
}

/// Takes `::` off the front, if it is there.
fn take_colons(tokens: &mut VecDeque<TokenTree>) -> bool {
    let first = matches!(
        tokens.front(),
        Some(TokenTree::Punct(punct)) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint
    );
    let both = first && is_punct(tokens.get(1), ':');
    if both {
        tokens.drain(..2);
    }
    both
}
