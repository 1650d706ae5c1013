//! Finds import cycles between modules.
//!
//! The children of each module form a graph: a child stands for its own file and for every file below it, and an edge means that a
//! file of one child names an item of another child. The graph must have no cycle. A module and its own descendants count as one
//! unit, so a child may use what its parent declares. A re-exported item belongs to the file that declares it.

use std::collections::{BTreeMap, BTreeSet};

use crate::mentions::{Mention, Source};

/// A source file: its path under `src/`, its module, and the paths it names.
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) module: Vec<&'a str>,
    pub(super) source: &'a Source,
}

/// The reasons why a child imports another child: one `file:line` each.
type Edges<'a> = BTreeMap<(&'a str, &'a str), Vec<String>>;

/// Lists the imports that take part in a cycle, each as `parent: importer → imported (file:line, …)`.
pub(super) fn cycles(files: &[File<'_>]) -> Vec<String> {
    let test_modules = files.iter().flat_map(|file| &file.source.test_modules).collect::<Vec<_>>();
    let is_test = |file: &&File<'_>| test_modules.iter().any(|module| file.module.iter().eq(module.iter()));
    let mut graphs = BTreeMap::<&[&str], Edges<'_>>::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        for mention in file.source.mentions.iter().filter(|mention| !mention.in_tests) {
            let Some(target) = declaring_file(files, &mention.path) else { continue };
            let shared =
                file.module.iter().zip(&target.module).take_while(|(one, other)| one == other).count();
            let (parent, importer) = file.module.split_at(shared);
            if let (Some(importer), Some(imported)) = (importer.first(), target.module.get(shared)) {
                let reasons = graphs.entry(parent).or_default().entry((*importer, *imported)).or_default();
                let reason = format!("{}:{}", file.name, mention.line);
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
    }
    let shown = |(parent, edges): (&[&str], Edges<'_>)| {
        let parent = if parent.is_empty() { "crate".to_owned() } else { parent.join("::") };
        let cyclic = only_cycles(edges).into_iter();
        cyclic
            .map(|((one, other), reasons)| format!("{parent}: {one} → {other} ({})", reasons.join(", ")))
            .collect::<Vec<_>>()
    };
    graphs.into_iter().flat_map(shown).collect()
}

/// The file that declares the item of a path. Follows re-exports by parents, such as `pub use self::child::Item`.
fn declaring_file<'a>(files: &'a [File<'_>], path: &[String]) -> Option<&'a File<'a>> {
    let segments = path.strip_prefix(&["crate".to_owned()])?;
    let is_of = |file: &File<'_>, count: usize| file.module.iter().eq(segments[..count].iter());
    // The longest module path wins; the remaining segments name an item in its file.
    let (count, file) = (1..=segments.len())
        .rev()
        .find_map(|count| files.iter().find(|file| is_of(file, count)).map(|file| (count, file)))?;
    let Some(item) = segments.get(count) else { return Some(file) };
    let is_re_export = |mention: &&Mention| {
        let is_below = mention.path.len() > count + 2 && mention.path[1..=count] == segments[..count];
        is_below && mention.path.last() == Some(item) && mention.path[..] != *path
    };
    match file.source.mentions.iter().find(is_re_export) {
        Some(mention) => declaring_file(files, &mention.path),
        None => Some(file),
    }
}

/// Keeps the edges whose target leads back to their source.
fn only_cycles(edges: Edges<'_>) -> Edges<'_> {
    let pairs = edges.keys().copied().collect::<BTreeSet<_>>();
    let leads_to = |from: &str, to: &str| {
        let (mut reached, mut waiting) = (BTreeSet::from([from]), vec![from]);
        while let Some(node) = waiting.pop() {
            for (_, next) in pairs.iter().filter(|(importer, _)| *importer == node) {
                if reached.insert(next) {
                    waiting.push(next);
                }
            }
        }
        reached.contains(to)
    };
    edges.into_iter().filter(|((one, other), _)| leads_to(other, one)).collect()
}
