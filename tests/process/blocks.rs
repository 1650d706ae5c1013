//! The fenced blocks of a Markdown text.

/// A block, and where it stands.
#[derive(Debug)]
pub(crate) struct Block {
    /// The heading before it.
    pub(crate) heading: &'static str,
    /// What follows the fence.
    pub(crate) language: &'static str,
    /// What is in it.
    pub(crate) text: String,
}

/// Every block, in order.
pub(crate) fn blocks(text: &'static str) -> Vec<Block> {
    let (mut blocks, mut heading, mut is_open) = (Vec::<Block>::new(), "", false);
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !is_open => blocks.push(Block { heading, language, text: String::new() }),
            None if is_open => blocks.last_mut().unwrap().text += &format!("{line}\n"),
            None if line.starts_with('#') => heading = line.trim_start_matches(['#', ' ']),
            _ => {}
        }
        is_open ^= line.starts_with("```");
    }
    blocks
}
