//! Hand-made histories as text, for tests: one operation a line, one millisecond apart.
//!
//! ```text
//! p0 ok send 0=7@3 0=8@4     invoked and answered: key 0, value 7, offset 3, ...
//! p0 invoke send 0=9         invoked
//! p0 end-info send 0=9       answered: end-ok, end-info, end-fail
//! p1 ok poll 0=7@3 !1        read; key 1 was rebalanced meanwhile
//! p1 ok txn send 0=1@0 poll 0=1@0
//! p1 ok assign 0 1           or subscribe
//! p1 ok share g 3 0 1        group g, generation 3, keys 0 and 1
//! p1 ok commit g 0@5         group g, key 0, next offset 5; or committed
//! 500                        let 500 ms pass
//! ```

use super::{
    Action, History, Key, Kind, Micro, Offset, Offsets, Op, Process, Read, Send, Share, Value,
};

pub(crate) fn history(text: &str) -> History {
    let mut ops: Vec<Op> = Vec::new();
    let mut now_ms = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Ok(pause) = line.parse::<u64>() {
            now_ms += pause;
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let process = Process(words[0].trim_start_matches('p').parse().unwrap());
        let kinds: &[Kind] = match words[1] {
            "ok" => &[Kind::Invoke, Kind::Ok],
            "info" => &[Kind::Invoke, Kind::Info],
            "fail" => &[Kind::Invoke, Kind::Fail],
            "invoke" => &[Kind::Invoke],
            "end-ok" => &[Kind::Ok],
            "end-info" => &[Kind::Info],
            "end-fail" => &[Kind::Fail],
            other => panic!("no such kind: {other}"),
        };
        let rebalanced = words
            .iter()
            .filter_map(|w| w.strip_prefix('!'))
            .map(key)
            .collect();
        let items: Vec<&str> = words[2..]
            .iter()
            .copied()
            .filter(|w| !w.starts_with('!'))
            .collect();
        for &kind in kinds {
            now_ms += 1;
            ops.push(Op {
                index: ops.len() as u64,
                process,
                kind,
                action: action(&items),
                t_ns: now_ms * 1_000_000,
                node: None,
                rebalanced: if kind == Kind::Invoke {
                    Vec::new()
                } else {
                    Clone::clone(&rebalanced)
                },
            });
        }
    }
    History::new(ops).unwrap()
}

fn key(text: &str) -> Key {
    Key(text.parse().unwrap())
}

/// `0=7@3` or `0=7`.
fn record(text: &str) -> (Key, Value, Option<Offset>) {
    let (rest, offset) = match text.split_once('@') {
        Some((rest, offset)) => (rest, Some(offset.parse().unwrap())),
        None => (text, None),
    };
    let (k, value) = rest.split_once('=').unwrap();
    (key(k), Value(value.parse().unwrap()), offset)
}

fn read(text: &str) -> Read {
    let (key, value, offset) = record(text);
    Read {
        key,
        offset: offset.unwrap(),
        value,
    }
}

fn action(items: &[&str]) -> Action {
    let rest = &items[1..];
    let offsets = || Offsets {
        group: rest[0].to_owned(),
        offsets: rest[1..]
            .iter()
            .map(|o| o.split_once('@').unwrap())
            .map(|(k, o)| (key(k), o.parse().unwrap()))
            .collect(),
    };
    match items[0] {
        "send" => Action::Send(rest.iter().map(|r| Send::from(record(r))).collect()),
        "poll" => Action::Poll(rest.iter().map(|r| read(r)).collect()),
        "assign" => Action::Assign(rest.iter().map(|k| key(k)).collect()),
        "subscribe" => Action::Subscribe(rest.iter().map(|k| key(k)).collect()),
        "share" => Action::Share(Share {
            group: rest[0].to_owned(),
            generation: rest[1].parse().unwrap(),
            keys: rest[2..].iter().map(|k| key(k)).collect(),
        }),
        "commit" => Action::Commit(offsets()),
        "committed" => Action::Committed(offsets()),
        "txn" => {
            let mut steps: Vec<Micro> = Vec::new();
            let mut sending = false;
            for item in rest {
                match *item {
                    "send" => sending = true,
                    "poll" => {
                        sending = false;
                        steps.push(Micro::Poll(Vec::new()));
                    }
                    _ if sending => steps.push(Micro::Send(Send::from(record(item)))),
                    _ => match steps.last_mut() {
                        Some(Micro::Poll(reads)) => reads.push(read(item)),
                        Some(Micro::Send(_)) | None => panic!("poll what? {item}"),
                    },
                }
            }
            Action::Txn(steps)
        }
        other => panic!("no such action: {other}"),
    }
}
