//! C11: a send that began after another one was acknowledged lies behind it, whoever sent the two.
//! For single records this is the linearizability of the log.

use crate::history::Offset;
use crate::{Anomaly, Evidence, Key, Kind, Value};
use std::collections::BTreeMap;

/// Sends that overtook one acknowledged before they began. Transactions are not judged: they may commit late.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut acknowledged: BTreeMap<Key, Offset> = BTreeMap::new();
    let mut floor: BTreeMap<(Key, Value), Offset> = BTreeMap::new();
    for (op, operation) in evidence
        .history()
        .lines()
        .filter(|line| !line.0.is_transaction())
    {
        if op.kind == Kind::Invoke {
            for send in op.sends() {
                if let Some(&offset) = acknowledged.get(&send.key) {
                    floor.insert((send.key, send.value), offset);
                }
            }
            continue;
        }
        for send in op
            .sends()
            .filter(|send| Evidence::acknowledged(&operation, send))
        {
            if let Some(offset) = send.offset {
                let highest = acknowledged.entry(send.key).or_insert(offset);
                *highest = offset.max(*highest);
            }
        }
    }
    for ((key, value), acknowledged) in floor {
        let Some((operation, send)) = evidence.writer(key, value) else {
            continue;
        };
        let told = send
            .offset
            .filter(|_| Evidence::acknowledged(operation, &send));
        if operation.kind() != Kind::Fail
            && let Some(offset) = told.or_else(|| evidence.log(key)?.first_offset(value))
            && offset <= acknowledged
        {
            found.push(Anomaly::SendBeforeAcknowledged {
                key,
                value,
                offset,
                acknowledged,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    #[test]
    fn a_send_that_overtakes_an_acknowledged_one_is_flagged() {
        let history = script::history(
            "p0 ok send 0=1@5
             p1 ok send 0=2@4
             p2 info send 0=3
             p3 ok poll 0=3@3",
        );
        let bad = |value, offset| Anomaly::SendBeforeAcknowledged {
            key: Key(0),
            value: Value(value),
            offset,
            acknowledged: 5,
        };
        assert_eq!(check(&Evidence::new(&history)), [bad(2, 4), bad(3, 3)]);
    }

    #[test]
    fn concurrent_sends_may_land_either_way() {
        let history = script::history(
            "p1 invoke send 0=2
             p0 ok send 0=1@5
             p1 end-ok send 0=2@4
             p3 ok send 1=9@0
             p4 fail send 0=3
             p5 ok txn send 0=4@2
             p6 ok send 0=5@6",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
