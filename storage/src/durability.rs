//! How far a log is durable, from two sources: fsynced segments and the write-ahead log.
//!
//! ```text
//!  start ........ segments synced ....... end
//!                     [ run in the write-ahead log, durable to here | pending )
//! ```
//! Everything below `synced` is fsynced in segments. A *run* is an unbroken series of
//! appends that went to the write-ahead log; it counts only if it begins at or below
//! what is durable already, so an async-flush append in between never counts as durable
//! before its segment is (M5). Pure; kept under the log's lock.

use weir_base::Offset;

/// The durable end of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Durability {
    durable: Offset,
    run: Option<Run>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: Offset,
    durable: Offset,
    submitted: Offset,
}

impl Durability {
    /// All below `end` is durable.
    pub(crate) fn all(end: Offset) -> Self {
        Self {
            durable: end,
            run: None,
        }
    }

    /// The durable end offset.
    pub(crate) fn end(&self) -> Offset {
        self.durable
    }

    /// Notes that `base..end` was handed to the write-ahead log. Returns whether the
    /// commit alone will make it durable; if not, segments must be synced up to `base`.
    pub(crate) fn on_submitted(&mut self, base: Offset, end: Offset) -> bool {
        match &mut self.run {
            Some(run) if run.submitted == base => run.submitted = end,
            Some(_) | None => {
                self.run = Some(Run {
                    start: base,
                    durable: base,
                    submitted: end,
                });
            }
        }
        self.run.is_some_and(|run| run.start <= self.durable)
    }

    /// The write-ahead log committed everything submitted up to `end`.
    pub(crate) fn on_committed(&mut self, end: Offset) {
        if let Some(run) = &mut self.run {
            run.durable = run.durable.max(end.min(run.submitted));
        }
        self.advance(self.durable);
    }

    /// Segments are synced up to `end`.
    pub(crate) fn on_synced(&mut self, end: Offset) {
        self.advance(end);
    }

    fn advance(&mut self, to: Offset) {
        self.durable = self.durable.max(to);
        if let Some(run) = self.run
            && run.start <= self.durable
        {
            self.durable = self.durable.max(run.durable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_advance_a_run_that_touches_the_durable_end() {
        let mut log = Durability::all(Offset(10));
        assert!(log.on_submitted(Offset(10), Offset(12)));
        assert!(log.on_submitted(Offset(12), Offset(15)));
        log.on_committed(Offset(12));
        assert_eq!(log.end(), Offset(12));
        log.on_committed(Offset(15));
        assert_eq!(log.end(), Offset(15));
    }

    #[test]
    fn an_unsynced_gap_holds_a_run_back() {
        let mut log = Durability::all(Offset(0));
        // 0..10 was appended async.
        assert!(!log.on_submitted(Offset(10), Offset(20)));
        log.on_committed(Offset(20));
        assert_eq!(log.end(), Offset(0));
        log.on_synced(Offset(9));
        assert_eq!(log.end(), Offset(9));
        log.on_synced(Offset(10));
        assert_eq!(log.end(), Offset(20));
    }

    #[test]
    fn a_late_commit_of_an_older_run_never_counts_for_the_newer() {
        let mut log = Durability::all(Offset(0));
        assert!(log.on_submitted(Offset(0), Offset(5)));
        // 5..10 async, then a new run before the first one's commit is known.
        assert!(!log.on_submitted(Offset(10), Offset(20)));
        log.on_committed(Offset(5));
        assert_eq!(log.end(), Offset(0));
        log.on_synced(Offset(10));
        assert_eq!(log.end(), Offset(10));
    }
}
