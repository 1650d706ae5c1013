//! Links and file names in the project's Markdown pages, and the handbook as a book.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::blocks::pages;
use crate::peers::tools;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Pages outside of README.md and docs.
const OTHER_PAGES: [&str; 5] =
    ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "helm/README.md", "helm/RUNBOOKS.md"];

/// Lines of a page outside of fenced code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_open = false;
    page.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_open ^= is_fence;
        !is_open && !is_fence
    })
}

/// Targets of the links of a page, without those inside of code.
fn links(page: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(page) {
        let without_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        let targets = without_code.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(targets.map(str::to_owned));
    }
    links
}

/// Paths of the repository that a page names in code, such as `tests/run`.
fn named_paths(page: &str) -> Vec<String> {
    const FOLDERS: [&str; 7] = ["benches/", "docs/", "fuzz/", "helm/", "openapi/", "src/", "tests/"];
    let spans = prose(page).flat_map(|line| line.split('`').skip(1).step_by(2));
    let words = spans.filter_map(|span| span.split(' ').next());
    let is_path = |word: &&str| FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains('…');
    words.filter(is_path).map(str::to_owned).collect()
}

/// Anchors of a page's headings, as GitHub and mdBook make them.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(kept)
            .collect::<String>()
            .replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// The problem of a link, if there is one.
fn fault(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = if path.is_empty() { page.to_owned() } else { page.parent()?.join(path) };
    let Ok(target) = Path::new(ROOT).join(target).canonicalize() else {
        return Some("there is no such file".to_owned());
    };
    let is_in_docs = |path: &Path| path.starts_with(Path::new(ROOT).join("docs"));
    if is_in_docs(&Path::new(ROOT).join(page)) && !is_in_docs(&target) {
        return Some("the book has no such file: name it without a link".to_owned());
    }
    let anchor = anchor?;
    let is_there = anchors(&std::fs::read_to_string(&target).ok()?).iter().any(|heading| heading == anchor);
    (!is_there).then(|| "there is no such heading".to_owned())
}

/// Path and text of every page that the project has.
fn all_pages() -> Vec<(String, String)> {
    let mut paths: Vec<_> = pages().into_iter().map(|page| page.path).collect();
    paths.extend(OTHER_PAGES.map(str::to_owned));
    let read = |path: String| (std::fs::read_to_string(Path::new(ROOT).join(&path)).unwrap(), path);
    paths.into_iter().map(read).map(|(text, path)| (path, text)).collect()
}

#[test]
fn every_file_that_a_page_names_exists() {
    let (mut count, mut missing) = (0, Vec::new());
    for (page, text) in all_pages() {
        for path in named_paths(&text) {
            count += 1;
            missing.extend((!Path::new(ROOT).join(&path).exists()).then(|| format!("{page}: {path}")));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 50, "only {count} paths were found");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let (mut count, mut faults) = (0, Vec::new());
    for (path, text) in all_pages() {
        for link in links(&text) {
            count += 1;
            faults.extend(fault(Path::new(&path), &link).map(|fault| format!("{path}: {link}: {fault}")));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn the_summary_lists_every_page() {
    let pages = pages();
    let in_docs =
        |path: &str| path.strip_prefix("docs/").filter(|name| *name != "SUMMARY.md").map(str::to_owned);
    let mut existing: Vec<_> = pages.iter().filter_map(|page| in_docs(&page.path)).collect();
    let summary = pages.iter().find(|page| page.path == "docs/SUMMARY.md").unwrap();
    let mut listed = links(&summary.text);
    existing.sort();
    listed.sort();
    assert_eq!(listed, existing);
}

/// A prebuilt mdbook: the one of `tests/tools`, or one on the PATH.
fn mdbook() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = [tools().join("mdbook")].into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("mdbook")).find(|program| program.is_file())
}

#[test]
fn mdbook_builds_the_handbook_without_warnings() {
    let Some(mdbook) = mdbook() else {
        eprintln!("skipped: there is no mdbook, and tests/tools could not fetch one");
        return;
    };
    let book = tempfile::tempdir().unwrap();
    let output =
        Command::new(mdbook).args(["build", "--dest-dir"]).arg(book.path()).arg(ROOT).output().unwrap();
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !report.contains("WARN"), "{report}");
    assert!(book.path().join("webhooks.html").is_file(), "{report}");
}
