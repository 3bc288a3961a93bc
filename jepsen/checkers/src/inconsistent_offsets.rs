//! C1: every offset holds one value, whoever looks and whenever.

use crate::{Anomaly, Evidence};

/// Offsets that were seen with two values or more.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (key, log) in evidence.logs() {
        for entries in log
            .entries()
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|entries| entries.len() > 1)
        {
            let values = entries.iter().map(|entry| entry.1).collect();
            found.push(Anomaly::InconsistentOffset {
                key,
                offset: entries[0].0,
                values,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Value, history::script};

    #[test]
    fn two_readers_that_see_different_values_are_flagged() {
        let history = script::history(
            "p0 ok send 0=1@0
             p1 ok poll 0=1@0
             p2 info poll 0=2@0",
        );
        let bad = Anomaly::InconsistentOffset {
            key: Key(0),
            offset: 0,
            values: vec![Value(1), Value(2)],
        };
        assert_eq!(check(&Evidence::new(&history)), [bad]);
    }

    #[test]
    fn an_acknowledged_offset_counts_without_a_reader() {
        let history = script::history(
            "p0 ok send 0=1@0
             p1 ok send 0=2@0",
        );
        assert_eq!(check(&Evidence::new(&history)).len(), 1);
    }

    #[test]
    fn the_same_value_twice_other_keys_and_unknown_offsets_pass() {
        let history = script::history(
            "p0 ok send 0=1@0
             p0 ok send 1=2@0
             p0 fail send 0=3@0
             p0 info txn send 0=4@0
             p1 ok poll 0=1@0
             p2 ok poll 0=1@0 1=2@0",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
