//! C3: whatever is read was sent, and its send did not definitely fail.

use crate::{Anomaly, Evidence, Kind};

/// Values in the log without a writer, or whose writer failed.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for (key, log) in evidence.logs() {
        for &(offset, value) in log.entries() {
            match evidence.writer(key, value) {
                None => found.push(Anomaly::PhantomRead { key, value, offset }),
                Some((operation, _)) if operation.kind() == Kind::Fail => {
                    found.push(Anomaly::AbortedRead { key, value, offset });
                }
                Some(_) => {}
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
    fn a_failed_write_and_one_that_nobody_made_are_flagged() {
        let history = script::history(
            "p0 fail send 0=1
             p1 ok poll 0=1@0 0=2@1",
        );
        let bad = [
            Anomaly::AbortedRead {
                key: Key(0),
                value: Value(1),
                offset: 0,
            },
            Anomaly::PhantomRead {
                key: Key(0),
                value: Value(2),
                offset: 1,
            },
        ];
        assert_eq!(check(&Evidence::new(&history)), bad);
    }

    #[test]
    fn an_unknown_write_may_be_read_even_before_it_ends() {
        let history = script::history(
            "p0 invoke send 0=1
             p1 info send 0=2
             p2 ok poll 0=1@0 0=2@1",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
