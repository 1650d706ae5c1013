//! The table of results.

use std::fmt::Write;
use std::{fs, mem};

use crate::load::Measured;

/// Number of runs of each side.
const ROUNDS: usize = 5;

/// A side of a comparison: a name, and a function that measures once.
pub(crate) struct Side<'a>(pub(crate) &'static str, pub(crate) Box<dyn FnMut() -> Measured + 'a>);

/// Runs the sides alternately, so that changes of the machine's speed affect all of them. Returns the run with the median rate of
/// each side.
pub(crate) fn alternate(sides: &mut [Side<'_>]) -> Vec<Measured> {
    let mut runs: Vec<Vec<Measured>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (side, runs) in sides.iter_mut().zip(&mut runs) {
            runs.push((side.1)());
        }
    }
    runs.iter_mut().map(|runs| median(runs)).collect()
}

fn median(runs: &mut [Measured]) -> Measured {
    runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    runs[runs.len() / 2]
}

/// The tables of a run.
#[derive(Default)]
pub(crate) struct Report {
    text: String,
    rows: String,
}

impl Report {
    /// Compares the gateway with its peers: one row for each peer. Each peer comes with the minimum ratio that is the target, or 0 for none.
    pub(crate) fn compare(&mut self, what: &str, mut gateway: Side<'_>, peers: Vec<(Side<'_>, f64)>) {
        let (mut sides, targets): (Vec<_>, Vec<_>) = peers.into_iter().unzip();
        let name = mem::take(&mut gateway.0);
        sides.insert(0, gateway);
        let medians = alternate(&mut sides);
        let ours = medians[0];
        for ((side, theirs), target) in sides.iter().zip(&medians).skip(1).zip(targets) {
            self.row(&format!("{what}{name}"), side.0, ours, *theirs, target);
        }
    }

    fn row(&mut self, what: &str, peer: &str, ours: Measured, theirs: Measured, target: f64) {
        let target = if target > 0.0 { format!("{target}") } else { "–".to_owned() };
        let percentiles =
            ours.percentiles.map_or_else(|| "–".to_owned(), |(p50, p99)| format!("{p50:.2}, {p99:.2}"));
        let cpu = |side: Measured| side.cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.1}"));
        let row = format!(
            "| {what} | {peer} | {} | {} | {:.2} | {target} | {}, {} | {percentiles} |\n",
            grouped(ours.rate),
            grouped(theirs.rate),
            ours.rate / theirs.rate,
            cpu(ours),
            cpu(theirs),
        );
        eprint!("{row}");
        self.rows.push_str(&row);
    }

    /// Ends a table of comparisons under this title.
    pub(crate) fn comparisons(&mut self, title: &str) {
        let rows = mem::take(&mut self.rows);
        let _ = write!(
            self.text,
            "### {title}\n\n| operation | peer | gateway, per second | peer, per second | ratio | target, at least | CPU of each (µs) | gateway p50, p99 (ms) |\n\
             | --- | --- | --- | --- | --- | --- | --- | --- |\n{rows}\n"
        );
    }

    /// Adds a table of single values.
    pub(crate) fn values(&mut self, title: &str, rows: &[(String, String, &str)]) {
        let rows: Vec<_> = rows
            .iter()
            .map(|(what, value, bound)| vec![what.clone(), value.clone(), (*bound).to_owned()])
            .collect();
        self.table(title, &["what", "measured", "target, at most"], &rows);
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, title: &str, head: &[&str], rows: &[Vec<String>]) {
        let mut table =
            format!("### {title}\n\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
        for row in rows {
            let _ = writeln!(table, "| {} |", row.join(" | "));
        }
        eprintln!("{table}");
        let _ = writeln!(self.text, "{table}");
    }

    pub(crate) fn print(&self) {
        println!("{}", self.text);
    }

    /// Replaces the section of a part in `docs/performance.md`.
    pub(crate) fn record(&self, part: &str) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
        let page = fs::read_to_string(path).expect("docs/performance.md");
        let (begin, end) = (format!("<!-- benches/run {part}: begin -->\n"), "<!-- benches/run: end -->");
        let (before, rest) = page.split_once(&begin).expect("the section of the part begins");
        let (_, after) = rest.split_once(end).expect("the section of the part ends");
        fs::write(path, format!("{before}{begin}\n{}{end}{after}", self.text)).expect("docs/performance.md");
    }
}

/// Formats a number with separators of thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let head = (digits.len() - 1) % 3 + 1;
    let mut text = digits[..head].to_owned();
    for group in digits.as_bytes()[head..].chunks(3) {
        text.push(',');
        text.push_str(std::str::from_utf8(group).expect("digits"));
    }
    text
}
