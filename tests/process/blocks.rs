//! Fenced code blocks of Markdown pages.

/// A fenced code block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Text of the last heading above the block.
    pub(crate) heading: String,
    /// Text after the opening fence, such as `sh`.
    pub(crate) language: String,
    /// Lines between the fences.
    pub(crate) text: String,
}

/// Every fenced code block of a page, in order.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut heading, mut is_open) = (Vec::<Block>::new(), "", false);
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) if !is_open => {
                let (heading, language) = (heading.to_owned(), language.to_owned());
                blocks.push(Block { heading, language, text: String::new() });
            }
            None if is_open => blocks.last_mut().unwrap().text += &format!("{line}\n"),
            None if line.starts_with('#') => heading = line.trim_start_matches(['#', ' ']),
            _ => {}
        }
        is_open ^= line.starts_with("```");
    }
    blocks
}

/// A page of Markdown: README.md, or a page of docs.
#[derive(Debug)]
pub(crate) struct Page {
    /// Path from the root of the project.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// README.md and every page of docs.
pub(crate) fn pages() -> Vec<Page> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        paths.extend(name.ends_with(".md").then(|| format!("docs/{name}")));
    }
    paths.sort();
    let read = |path: String| Page { text: std::fs::read_to_string(root.join(&path)).unwrap(), path };
    paths.into_iter().map(read).collect()
}
