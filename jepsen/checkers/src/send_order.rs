//! C9: what a process sends to a key lies in the log in the order in which it was sent, inside one
//! operation and from one to the next. Other processes' values may lie in between.

use crate::history::Offset;
use crate::{Anomaly, Evidence, Key, Kind, Process, Value};
use std::collections::BTreeMap;

/// Pairs that the log has the other way round. Unknown sends count when their value is in the log.
#[must_use]
pub fn check(evidence: &Evidence<'_>) -> Vec<Anomaly> {
    let mut found = Vec::new();
    let mut last: BTreeMap<(Process, Key), (usize, Value, Offset)> = BTreeMap::new();
    for (number, operation) in evidence.operations().iter().enumerate() {
        if matches!(operation.kind(), Kind::Fail | Kind::Invoke) {
            continue;
        }
        let process = operation.invoke.process;
        for send in operation.last().sends() {
            let told = send
                .offset
                .filter(|_| Evidence::acknowledged(operation, &send));
            let Some(offset) = told.or_else(|| evidence.log(send.key)?.first_offset(send.value))
            else {
                continue;
            };
            let before = last.insert((process, send.key), (number, send.value, offset));
            if let Some((before_number, first, before_offset)) = before
                && offset <= before_offset
            {
                let inside = before_number == number;
                found.push(Anomaly::NonmonotonicSend {
                    process,
                    key: send.key,
                    first,
                    second: send.value,
                    inside,
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::script;

    #[test]
    fn sends_out_of_order_are_flagged_inside_and_between() {
        let history = script::history(
            "p0 ok send 0=1@1 0=2@0
             p1 ok send 0=3@5
             p1 info send 0=4
             p2 ok poll 0=4@4",
        );
        let bad = |process, first, second, inside| Anomaly::NonmonotonicSend {
            process: Process(process),
            key: Key(0),
            first: Value(first),
            second: Value(second),
            inside,
        };
        assert_eq!(
            check(&Evidence::new(&history)),
            [bad(0, 1, 2, true), bad(1, 3, 4, false)]
        );
    }

    #[test]
    fn pipelined_answers_out_of_order_fail_only_if_the_log_is() {
        let good = script::history(
            "p0 invoke send 0=1
             p0 invoke send 0=2
             p0 end-ok send 0=2@1
             p0 end-ok send 0=1@0",
        );
        assert_eq!(check(&Evidence::new(&good)), []);
    }

    #[test]
    fn gaps_other_keys_failures_and_other_processes_pass() {
        let history = script::history(
            "p0 ok send 0=1@3 0=2@7
             p0 ok send 1=3@0
             p0 fail send 0=4@1
             p0 info send 0=5
             p1 ok send 0=6@4
             p0 ok send 0=7@9",
        );
        assert_eq!(check(&Evidence::new(&history)), []);
    }
}
