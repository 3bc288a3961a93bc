//! C2: no value lies at two offsets of a key. An error for idempotent producers, a count for others.

use crate::{Anomaly, Evidence};

/// Values that are in the log more than once.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (key, log) in evidence.logs() {
        for ranks in log
            .ranks()
            .chunk_by(|a, b| a.0 == b.0)
            .filter(|ranks| ranks.len() > 1)
        {
            let offsets = ranks.iter().map(|entry| log.offsets()[entry.1]).collect();
            found.push(Anomaly::Duplicate {
                key,
                value: ranks[0].0,
                offsets,
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
    fn a_retried_value_at_two_offsets_is_flagged() {
        let history = script::history(
            "p0 ok send 0=7@3
             p1 ok poll 0=7@2 0=7@3",
        );
        let bad = Anomaly::Duplicate {
            key: Key(0),
            value: Value(7),
            offsets: vec![2, 3],
        };
        assert_eq!(check(&Evidence::new(&history)), [bad]);
    }

    #[test]
    fn reading_one_record_twice_is_no_duplicate() {
        let history = script::history(
            "p0 ok send 0=7@3
             p0 ok send 1=7@9
             p1 ok poll 0=7@3
             p2 ok poll 0=7@3",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
