//! Lists the paths that a source file names, in `use` trees, expressions, attributes and macros.
//!
//! The reader works on tokens and not on a syntax tree, so paths inside of macros count. Comments and string literals do not.

use std::collections::VecDeque;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path that a source file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    /// Line of the path.
    pub(super) line: usize,
    /// Segments from the root: `crate::store::Store`, `tokio::time`. A glob import ends with `*`.
    pub(super) path: Vec<String>,
    /// Whether the path stands in a test.
    pub(super) in_tests: bool,
}

/// The parts of a source file that the architecture tests look at.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Paths of at least two segments, and every path in a `use` declaration.
    pub(super) mentions: Vec<Mention>,
    /// Identifiers outside of tests, with their lines.
    pub(super) identifiers: Vec<(usize, String)>,
    /// String literals outside of tests, as written, with their lines.
    pub(super) literals: Vec<(usize, String)>,
    /// Modules that exist only in tests, such as `a::b` for `#[cfg(test)] mod b;` in `a`.
    pub(super) test_modules: Vec<Vec<String>>,
    /// Names of the structs, enums, traits and unions that are declared with a visibility outside of tests, with their lines.
    pub(super) types: Vec<(usize, String)>,
}

impl Source {
    /// Reads the text of a module, such as `["store", "sqlite"]`.
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
        // `#[cfg(test)]` applies to the next item, up to its body or its semicolon.
        let mut tests_next = false;
        let mut is_visible = false;
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
                        self.literals.push((literal.span().start().line, literal.to_string()));
                    }
                }
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.front(), '<') => {
                    let end = tokens.iter().position(|token| is_punct(Some(token), ';'));
                    let tree = tokens.drain(..end.unwrap_or(tokens.len())).collect();
                    self.tree(&[], tree, module, tested);
                }
                TokenTree::Ident(ident) if ident == "mod" && names_a_body(&tokens) => {
                    let inner = tokens.pop_front().map(|name| name.to_string()).unwrap_or_default();
                    let Some(TokenTree::Group(body)) = tokens.pop_front() else { continue };
                    let module = module.iter().cloned().chain([inner]).collect::<Vec<_>>();
                    self.walk(body.stream(), &module, tested);
                    tests_next = false;
                }
                TokenTree::Ident(ident) if ident == "mod" && tested => {
                    if let Some(TokenTree::Ident(name)) = tokens.front() {
                        self.test_modules.push(module.iter().cloned().chain([name.to_string()]).collect());
                    }
                }
                TokenTree::Ident(ident) if is_visible && is_type_keyword(&ident) => {
                    is_visible = false;
                    if let Some(TokenTree::Ident(name)) = tokens.front().filter(|_| !tested) {
                        self.types.push((ident.span().start().line, name.to_string()));
                    }
                }
                TokenTree::Ident(ident) => {
                    is_visible = ident == "pub";
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
                        self.mention(line, path, module, tested);
                    }
                }
            }
        }
    }

    /// One level of a `use` tree: `a::b`, `a::{b, c::d}`, `a::*`, `a as b`.
    fn tree(
        &mut self,
        prefix: &[String],
        mut tokens: VecDeque<TokenTree>,
        module: &[String],
        in_tests: bool,
    ) {
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
                        self.tree(&path, group.stream().into_iter().collect(), module, in_tests);
                        is_open = true;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            if let Some(line) = line.filter(|_| !is_open) {
                self.mention(line, path, module, in_tests);
            }
        }
    }

    /// Records a path, with `self` and `super` resolved.
    fn mention(&mut self, line: usize, path: Vec<String>, module: &[String], in_tests: bool) {
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
        self.mentions.push(Mention { line, path, in_tests });
    }
}

fn is_type_keyword(ident: &proc_macro2::Ident) -> bool {
    ["struct", "enum", "trait", "union"].iter().any(|keyword| ident == keyword)
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

/// Removes a leading `::`; returns whether there was one.
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
