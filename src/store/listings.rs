//! Reads pages of a tenant's analyses with a bounded amount of work.
//!
//! Lists are ordered by time of submission, newest first. To read a page, the reader **walks** along an index in this order,
//! window by window, and keeps the analyses that match the filter. If the filter has attributes, the walk uses the index of the
//! first attribute. If matches are frequent, the first window fills the page.
//!
//! If matches are rare, [`ListReader::find_all`] finds all of them through the indexes of words, tags and attributes. The search
//! gives up after [`MAX_MATCHES`] matches or [`MAX_INDEX_TIME`].
//!
//! If both fail, the walk continues until it has examined [`MAX_EXAMINED`] analyses or used [`MAX_WALK_TIME`]. The page ends
//! there, and its cursor continues after the last examined analysis. So the pages together have every match exactly once.

use std::time::{Duration, Instant};

use super::StoreError;
use crate::domain::listing::{AnalysisPage, AnalysisQuery, ListPosition, ListedRow};

/// Number of analyses in the first window of a page.
const FIRST_WINDOW: usize = 512;
/// Minimum size of a window. A smaller window would not be cheaper.
const MIN_WINDOW: usize = 64;
/// Maximum number of analyses that one page examines.
const MAX_EXAMINED: usize = 20_000;
/// Maximum time of a page's walk, except for the first window.
const MAX_WALK_TIME: Duration = Duration::from_millis(20);
/// Maximum number of matches of a search in the indexes of words, tags and attributes. The search sorts the matches and keeps one
/// page.
pub(super) const MAX_MATCHES: usize = 2000;
/// Maximum time of a search in the indexes of words, tags and attributes.
pub(super) const MAX_INDEX_TIME: Duration = Duration::from_millis(15);

/// A part of a tenant's analyses, in the order of lists.
pub(super) struct ListWindow {
    /// The analyses that match the filter.
    pub(super) matches: Vec<ListedRow>,
    /// Number of examined analyses.
    pub(super) examined: usize,
    /// Position of the last examined analysis; `None` if the list has ended.
    pub(super) last: Option<ListPosition>,
}

/// Reads the analyses of one query.
pub(super) trait ListReader {
    /// Examines at least one and at most `rows` analyses after a position. Stops early when `wanted` of them match.
    fn window(
        &mut self,
        after: Option<&ListPosition>,
        rows: usize,
        wanted: usize,
    ) -> impl Future<Output = Result<ListWindow, StoreError>> + Send;

    /// Finds the matches of the page through the indexes of words, tags and attributes. Returns `None` if no index finds at most
    /// [`MAX_MATCHES`] candidates within [`MAX_INDEX_TIME`].
    fn find_all(&mut self) -> impl Future<Output = Result<Option<Vec<ListedRow>>, StoreError>> + Send;
}

/// Reads one page.
pub(super) async fn read_page(
    reader: &mut (impl ListReader + Send),
    query: &AnalysisQuery,
) -> Result<AnalysisPage, StoreError> {
    let mut walk = Walk::default();
    let (mut analyses, mut after) = (Vec::new(), query.after.clone());
    let mut try_indexes = query.filter.has_indexed_part();
    let mut rows = if query.filter.skips_analyses() { FIRST_WINDOW } else { query.limit };
    loop {
        let began = Instant::now();
        let window = reader.window(after.as_ref(), rows, query.limit - analyses.len()).await?;
        walk.add(&window, began.elapsed());
        analyses.extend(window.matches);
        if analyses.len() >= query.limit || window.last.is_none() {
            return Ok(AnalysisPage { analyses, searched_to: None });
        }
        after = window.last;
        let expected = analyses.len() * MAX_EXAMINED / walk.examined.max(1);
        if try_indexes && expected < query.limit {
            try_indexes = false;
            if let Some(analyses) = reader.find_all().await? {
                return Ok(AnalysisPage { analyses, searched_to: None });
            }
        }
        match walk.next_rows() {
            Some(next) => rows = next,
            None => return Ok(AnalysisPage { analyses, searched_to: after }),
        }
    }
}

/// The number of analyses that a page has examined so far, and the time that this took.
#[derive(Default)]
struct Walk {
    examined: usize,
    took: Duration,
}

impl Walk {
    fn add(&mut self, window: &ListWindow, took: Duration) {
        self.examined += window.examined;
        self.took += took;
    }

    /// Returns the size of the next window. The size is the number of analyses that the walk can examine in half of the remaining
    /// time, at its speed so far. Older analyses may be on the disk and take longer. Returns `None` if the page has used its time or
    /// its number of analyses.
    fn next_rows(&self) -> Option<usize> {
        let time_left = MAX_WALK_TIME.checked_sub(self.took).filter(|left| !left.is_zero())?;
        let rows_left = MAX_EXAMINED.checked_sub(self.examined).filter(|left| *left > 0)?;
        let pace = self.examined as f64 / self.took.as_secs_f64().max(1e-6);
        let affordable = (pace * time_left.as_secs_f64() / 2.0) as usize;
        Some(affordable.min(self.examined * 4).max(MIN_WINDOW).min(rows_left))
    }
}
