//! Sets of times in a call, in whole milliseconds.

/// Interval `begin..end` with `0 ≤ begin < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Interval {
    pub(super) begin: i64,
    pub(super) end: i64,
}

impl Interval {
    /// Creates an interval. A negative start becomes 0. Returns `None` if the interval is empty.
    pub(super) fn new(begin: i64, end: i64) -> Option<Self> {
        let begin = begin.max(0);
        (begin < end).then_some(Self { begin, end })
    }

    /// Returns the length in milliseconds.
    pub(super) const fn length(self) -> i64 {
        self.end - self.begin
    }

    /// Whether `other` lies wholly inside this interval.
    pub(super) const fn contains(self, other: Self) -> bool {
        self.begin <= other.begin && other.end <= self.end
    }
}

/// Sorted intervals that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IntervalSet(Vec<Interval>);

impl IntervalSet {
    /// Creates a set and merges intervals that overlap or touch.
    pub(super) fn of(intervals: impl IntoIterator<Item = Interval>) -> Self {
        let mut sorted: Vec<_> = intervals.into_iter().collect();
        sorted.sort_unstable();
        let mut merged: Vec<Interval> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match merged.last_mut() {
                Some(last) if next.begin <= last.end => last.end = last.end.max(next.end),
                _ => merged.push(next),
            }
        }
        Self(merged)
    }

    /// Returns the intervals, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = Interval> {
        self.0.iter().copied()
    }

    /// Returns the total length in milliseconds.
    pub(super) fn length(&self) -> i64 {
        self.iter().map(Interval::length).sum()
    }

    /// Returns the interval that contains `moment`. An interval contains its start, but not its end.
    pub(super) fn at(&self, moment: i64) -> Option<Interval> {
        let later = self.0.partition_point(|interval| interval.end <= moment);
        self.0.get(later).copied().filter(|interval| interval.begin <= moment)
    }

    /// Returns the first interval that starts at `moment` or later.
    pub(super) fn from(&self, moment: i64) -> Option<Interval> {
        self.0.get(self.0.partition_point(|interval| interval.begin < moment)).copied()
    }

    /// Returns the union of both sets.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.iter().chain(other.iter()))
    }

    /// Returns the times of this set that are not in the other set.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut rest = Vec::with_capacity(self.0.len());
        let mut others = other.0.as_slice();
        for whole in self.iter() {
            // An interval that ended before this one cannot overlap a later one either.
            others = &others[others.partition_point(|cut| cut.end <= whole.begin)..];
            let mut begin = whole.begin;
            for cut in others.iter().take_while(|cut| cut.begin < whole.end) {
                rest.extend(Interval::new(begin, cut.begin));
                begin = cut.end;
            }
            rest.extend(Interval::new(begin, whole.end));
        }
        Self(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(pairs: &[(i64, i64)]) -> IntervalSet {
        IntervalSet::of(pairs.iter().filter_map(|(begin, end)| Interval::new(*begin, *end)))
    }

    #[test]
    fn overlapping_and_touching_intervals_merge() {
        assert_eq!(merged(&[(5, 9), (-3, 2), (2, 4), (8, 8), (6, 7)]), merged(&[(0, 4), (5, 9)]));
        assert_eq!(merged(&[(0, 4), (5, 9)]).length(), 8);
    }

    #[test]
    fn lookups_find_the_current_and_the_next_interval() {
        let set = merged(&[(1, 3), (5, 9)]);
        assert_eq!(set.at(1), Interval::new(1, 3));
        assert_eq!(set.at(3), None);
        assert_eq!(set.from(3), Interval::new(5, 9));
        assert_eq!(set.from(6), None);
    }

    #[test]
    fn subtraction_removes_the_other_set() {
        let whole = merged(&[(0, 10), (20, 30)]);
        assert_eq!(whole.without(&merged(&[(2, 3), (8, 22), (29, 40)])), merged(&[(0, 2), (3, 8), (22, 29)]));
        assert_eq!(whole.without(&merged(&[(0, 30)])), IntervalSet::default());
        assert_eq!(whole.without(&IntervalSet::default()), whole);
    }
}
