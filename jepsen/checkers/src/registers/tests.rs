//! Histories by hand, and random ones against a search through all orders.

use proptest::prelude::*;

use super::*;

/// One call a line: `s1 w5 3-8` acknowledged, `w5?` unknown, `w5!` failed, `r5` or `r-` a read;
/// from and to; `k1` at the end for another register than 0.
fn calls(text: &str) -> Vec<Call> {
    let call = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (what, rest) = words[1].split_at(1);
        let number = rest.trim_end_matches(['?', '!']);
        let value = number.parse().ok().map(Value);
        let access = match (what, rest.chars().last()) {
            ("w", Some('?')) => Access::Write(value.unwrap(), Outcome::Info),
            ("w", Some('!')) => Access::Write(value.unwrap(), Outcome::Fail),
            ("w", _) => Access::Write(value.unwrap(), Outcome::Ok),
            _ => Access::Read(value),
        };
        let (began, ended) = words[2].split_once('-').unwrap();
        Call {
            key: Key(words
                .get(3)
                .map_or(0, |key| key.trim_start_matches('k').parse().unwrap())),
            session: Session(words[0].trim_start_matches('s').parse().unwrap()),
            began: began.parse().unwrap(),
            ended: ended.parse().unwrap(),
            access,
        }
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(call).collect()
}

fn circle(text: &str) -> Vec<Link> {
    match &check(&calls(text)).anomalies[..] {
        [Anomaly::RegisterCircle { links, .. }] => links.clone(),
        other => panic!("{other:?}"),
    }
}

fn link(before: u64, after: u64, because: Because) -> Link {
    let value = |value| (value > 0).then_some(Value(value));
    (value(before), value(after), because)
}

#[test]
fn old_reads_elsewhere_unknown_writes_and_writes_at_a_time_pass() {
    let found = check(&calls(
        "s1 w1 1-4
         s2 r- 5-6
         s2 r1 7-8
         s1 w2? 9-90
         s3 w3 10-20
         s2 r1 21-22
         s3 r3 21-23
         s2 r2 24-25
         s1 w4! 26-27
         s2 r3 28-29
         s4 r- 30-31",
    ));
    assert_eq!(found.anomalies, [], "2 before 3");
    assert_eq!((found.contested, found.stale), (1, 3));
}

#[test]
fn a_connection_that_tells_of_going_back_is_flagged() {
    let back = "s1 w1 1-2
         s1 w2 3-4
         s2 r2 5-6
         s2 r1 7-8";
    let expected = [link(1, 2, Because::Time), link(2, 1, Because::Session)];
    assert_eq!(circle(back), expected);
    let elsewhere = back.replace("s2 r1", "s3 r1");
    assert_eq!(check(&calls(&elsewhere)).anomalies, []);
    let unset = circle("s1 w1 1-2\ns2 r1 3-4\ns2 r- 5-6");
    assert_eq!(unset.len(), 2);
    assert_eq!(unset[1], link(1, 0, Because::Session));
}

#[test]
fn a_write_that_its_own_connection_does_not_show_is_flagged() {
    let own = "s1 w1 1-2\ns2 w2 3-4\ns2 r1 5-6";
    assert_eq!(
        circle(own)[1],
        link(2, 1, Because::Session),
        "told that it is done where it is not applied"
    );
    let under_way = own.replace("r1 5-6", "r1 3-6");
    assert_eq!(check(&calls(&under_way)).anomalies, []);
}

#[test]
fn a_write_done_twice_is_flagged() {
    // The answer to 1 was lost, and it was sent again behind 2.
    let again = "s1 w1? 1-90
         s2 r1 2-3
         s3 w2 4-5
         s2 r2 6-7
         s2 r1 8-9";
    let expected = [link(1, 2, Because::Time), link(2, 1, Because::Session)];
    assert_eq!(circle(again), expected);
    // Late, and once, is no harm.
    let late = again.replace("s2 r1 2-3", "s2 r- 2-3");
    assert_eq!(check(&calls(&late)).anomalies, []);
}

#[test]
fn an_old_read_behind_a_write_of_another_register_is_flagged() {
    let behind = "s1 w1 1-2
         s1 w2 3-4
         s2 w7 5-6 k1
         s2 r1 7-8";
    assert_eq!(circle(behind)[1], link(2, 1, Because::Barrier));
    for before in ["s2 w7 5-9 k1", "s2 w7 3-6 k1", "s3 w7 5-6 k1"] {
        let fine = behind.replace("s2 w7 5-6 k1", before);
        assert_eq!(check(&calls(&fine)).anomalies, [], "{before}");
    }
}

#[test]
fn two_connections_that_saw_other_orders_are_flagged() {
    let parted = "s1 w1 1-9
         s2 w2 2-8
         s3 r1 10-11
         s3 r2 12-13
         s4 r2 10-11
         s4 r1 12-13";
    assert_eq!(circle(parted).len(), 2);
    let agreed = parted.replace("s4 r1 12-13", "s4 r2 12-13");
    assert_eq!(check(&calls(&agreed)).anomalies, []);
}

#[test]
fn what_nobody_wrote_is_flagged() {
    let unwritten = |text: &str, failed| {
        let found = check(&calls(text)).anomalies;
        let expected = Anomaly::UnwrittenRead {
            key: Key(0),
            value: Value(5),
            session: 2,
            failed,
        };
        assert_eq!(found, [expected]);
    };
    unwritten("s2 r5 1-2", false);
    unwritten("s1 w5! 1-2\ns2 r5 3-4", true);
    unwritten("s2 r5 1-2\ns1 w5 3-4", false);
    assert_eq!(check(&calls("s2 r5 1-4\ns1 w5 3-9")).anomalies, []);
}

/// Whether some order of the writes of a register explains all that was seen: by search
/// (Wing and Gong), with the state of the promise in full instead of pairs of writes.
fn is_explained(calls: &[Call], key: Key) -> bool {
    let calls: Vec<Call> = calls
        .iter()
        .filter(|call| match call.access {
            Access::Write(_, Outcome::Ok) => true,
            Access::Write(..) | Access::Read(_) => call.key == key,
        })
        .filter(|call| !matches!(call.access, Access::Write(_, Outcome::Fail)))
        .copied()
        .collect();
    let mut done = vec![None; calls.len()];
    search(&calls, key, &mut done, &mut Vec::new())
}

/// `done`: of each call that happened the place in the order that its connection has seen.
fn search(calls: &[Call], key: Key, done: &mut Vec<Option<usize>>, order: &mut Vec<Value>) -> bool {
    let is_unknown = |call: &Call| matches!(call.access, Access::Write(_, Outcome::Info));
    let must = |at: usize, done: &[Option<usize>]| done[at].is_none() && !is_unknown(&calls[at]);
    if (0..calls.len()).all(|at| !must(at, done)) {
        return true;
    }
    for at in 0..calls.len() {
        let call = calls[at];
        let comes_later =
            (0..calls.len()).any(|other| must(other, done) && calls[other].ended < call.began);
        if done[at].is_some() || comes_later {
            continue;
        }
        let seen = match call.access {
            Access::Write(value, _) => {
                if call.key == key {
                    order.push(value);
                }
                order.len()
            }
            Access::Read(value) => {
                let place = match value {
                    None => Some(0),
                    Some(value) => order.iter().position(|v| *v == value).map(|at| at + 1),
                };
                let seen = (0..calls.len())
                    .filter(|other| calls[*other].session == call.session)
                    .filter(|other| !is_unknown(&calls[*other]) && calls[*other].ended < call.began)
                    .filter_map(|other| done[other]);
                let least = seen.max().unwrap_or(0);
                match place.filter(|place| *place >= least) {
                    Some(place) => place,
                    None => continue,
                }
            }
        };
        done[at] = Some(seen);
        if search(calls, key, done, order) {
            return true;
        }
        done[at] = None;
        if matches!(call.access, Access::Write(..)) && call.key == key {
            order.pop();
        }
    }
    false
}

/// Up to seven calls over two or three connections; writes have the values 1 to 4.
fn some_calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (0_u32..3, 0_u64..24, 1_u64..12, 0_u8..8, 0_u64..5, 0_u8..6);
    proptest::collection::vec(call, 1..8).prop_map(|drawn| {
        let mut written = 0;
        let calls = drawn.into_iter().zip(0_u64..);
        let calls = calls.map(|((session, began, length, kind, value, key), number)| {
            let outcome = match kind {
                0 | 1 => Some(Outcome::Ok),
                2 => Some(Outcome::Info),
                3 if value == 0 => Some(Outcome::Fail),
                _ => None,
            };
            let access = match outcome {
                Some(outcome) if written < 4 => {
                    written += 1;
                    Access::Write(Value(written), outcome)
                }
                Some(_) | None => Access::Read((value > 0).then_some(Value(value))),
            };
            Call {
                // Few belong to the other register.
                key: Key(u32::from(key == 0 && matches!(access, Access::Write(..)))),
                session: Session(session),
                // Beginnings are even and ends odd, each number once.
                began: (began * 8 + number) * 2,
                ended: ((began + length) * 8 + number) * 2 + 1,
                access,
            }
        });
        calls.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn pairs_say_what_a_search_through_all_orders_says(calls in some_calls()) {
        // The other register is never read: it has any order.
        let found = check(&calls).anomalies;
        prop_assert_eq!(is_explained(&calls, Key(0)), found.is_empty(), "{:?}", found);
    }
}
