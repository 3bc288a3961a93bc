//! How long something may take, and which time does not count.

/// What is late: what takes longer than `most` of the time that counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patience {
    /// Milliseconds that it may take while everything that it needs is there.
    pub most: i64,
    /// When something was missing that it needs, from and to; in order and apart.
    pub excused: Vec<(i64, i64)>,
}

impl Patience {
    /// Whether something that was to happen at `from` and happened at `to` is late.
    #[must_use]
    pub fn is_over(&self, from: i64, to: i64) -> bool {
        self.counted(from, to) > self.most
    }

    /// The milliseconds that count between two times.
    #[must_use]
    pub fn counted(&self, from: i64, to: i64) -> i64 {
        let within = |(begin, end): &(i64, i64)| (to.min(*end) - from.max(*begin)).max(0);
        let excused: i64 = self.excused.iter().map(within).sum();
        (to - from).max(0) - excused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_something_was_missing_does_not_count() {
        let patience = Patience {
            most: 100,
            excused: vec![(0, 50), (200, 300)],
        };
        assert_eq!(patience.counted(20, 40), 0);
        assert_eq!(patience.counted(20, 250), 150);
        assert_eq!(patience.counted(60, 40), 0, "early");
        assert_eq!(patience.counted(250, 450), 150);
        assert!(!patience.is_over(50, 150) && patience.is_over(50, 151));
        assert!(!patience.is_over(150, 350) && patience.is_over(150, 351));
    }
}
