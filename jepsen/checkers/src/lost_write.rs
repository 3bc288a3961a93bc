//! C5: readers that got as far as an offset got every committed value before it.
//!
//! The bound is the furthest *first* appearance of a value that was read, and what must have been read
//! is what *last* appears within it, so that a duplicate neither hides a loss nor fakes one.

use crate::{Anomaly, Evidence};

/// Committed values that lie before what was read, and were not read themselves.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (key, log) in evidence.logs() {
        let by_value = || log.ranks().chunk_by(|a, b| a.0 == b.0);
        let Some(bound) = by_value()
            .filter(|ranks| evidence.was_read(key, ranks[0].0))
            .map(|ranks| ranks[0].1)
            .max()
        else {
            continue;
        };
        for ranks in by_value() {
            let (value, first, last) = (ranks[0].0, ranks[0].1, ranks[ranks.len() - 1].1);
            let committed = || {
                evidence
                    .writer(key, value)
                    .is_some_and(|(operation, send)| evidence.must_have_committed(operation, &send))
            };
            if last <= bound && !evidence.was_read(key, value) && committed() {
                found.push(Anomaly::LostWrite {
                    key,
                    value,
                    offset: log.offsets()[first],
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Value, history::script};

    #[test]
    fn an_acknowledged_value_that_readers_passed_over_is_flagged() {
        let history = script::history(
            "p0 ok send 0=1@0 0=2@1 0=3@2
             p1 ok poll 0=1@0 0=3@2",
        );
        let bad = Anomaly::LostWrite {
            key: Key(0),
            value: Value(2),
            offset: 1,
        };
        assert_eq!(check(&Evidence::new(&history)), [bad]);
    }

    #[test]
    fn a_duplicate_does_not_hide_a_loss() {
        // The duplicate of 1 at offset 9 is no proof that anybody read as far as 9, but 3 at 2 is.
        let history = script::history(
            "p0 ok send 0=1@0 0=2@1 0=3@2 0=4@8
             p1 ok poll 0=1@0 0=3@2 0=1@9",
        );
        let bad = Anomaly::LostWrite {
            key: Key(0),
            value: Value(2),
            offset: 1,
        };
        assert_eq!(check(&Evidence::new(&history)), [bad]);
    }

    #[test]
    fn what_nobody_reached_and_what_was_never_certain_pass() {
        let history = script::history(
            "p0 ok send 0=1@0
             p0 info send 0=2
             p3 info poll 0=2@1
             p0 fail send 0=3@2
             p0 ok send 0=4@3
             p0 ok send 0=5@4
             p1 ok poll 0=1@0 0=4@3",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
