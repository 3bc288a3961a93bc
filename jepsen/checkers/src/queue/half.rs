//! C18: a half message is seen if and only if it was committed, and once (T1 to T5). What is
//! asked about it is judged in `check_back.rs`.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

#[derive(Default)]
struct Decisions {
    commit_tried: bool,
    committed: bool,
    rolled_back: bool,
}

/// Half messages that were seen without a commit, decided both ways, or stored twice. That
/// a committed one is not lost is C14.
#[must_use]
pub fn check(history: &QueueHistory) -> Vec<QueueAnomaly> {
    let mut halves: BTreeMap<&str, Decisions> = BTreeMap::new();
    for event in &history.events {
        if let Event::Prepared { id, .. } = event {
            halves.entry(id).or_default();
        }
        if let Event::Decided {
            id,
            commit,
            outcome,
            ..
        } = event
        {
            let half = halves.entry(id).or_default();
            half.commit_tried |= *commit && *outcome != Outcome::Fail;
            half.committed |= *commit && *outcome == Outcome::Ok;
            half.rolled_back |= !*commit && *outcome == Outcome::Ok;
        }
    }
    let (delivered, stored) = (history.delivered(), history.stored());
    let mut found = Vec::new();
    for (id, half) in &halves {
        let named = || (*id).to_owned();
        let is_seen = delivered.contains_key(id) || stored.contains_key(id);
        if is_seen && (!half.commit_tried || half.rolled_back) {
            found.push(QueueAnomaly::SeenUncommitted { id: named() });
        }
        if half.committed && half.rolled_back {
            found.push(QueueAnomaly::DecidedTwice { id: named() });
        }
        if let Some(offsets) = stored.get(id).filter(|offsets| offsets.len() > 1) {
            found.push(QueueAnomaly::Doubled {
                id: named(),
                offsets: offsets.clone(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{decided, delivered, history, prepared, stored};
    use super::*;

    fn half(id: &str, decisions: &[(bool, Outcome)]) -> Vec<Event> {
        let mut events = vec![prepared(id, 0)];
        let decisions = decisions.iter();
        events.extend(decisions.map(|(commit, outcome)| decided(id, *commit, *outcome, 0)));
        events
    }

    #[test]
    fn what_is_seen_uncommitted_or_decided_twice_is_flagged() {
        let mut bad = half("open", &[]);
        bad.push(delivered("open", 1, 0));
        bad.extend(half("back", &[(false, Outcome::Ok)]));
        bad.push(stored("back", 7));
        bad.extend(half("both", &[(true, Outcome::Ok), (false, Outcome::Ok)]));
        let named = |id: &str| id.to_owned();
        let expected = [
            QueueAnomaly::SeenUncommitted { id: named("back") },
            QueueAnomaly::DecidedTwice { id: named("both") },
            QueueAnomaly::SeenUncommitted { id: named("open") },
        ];
        assert_eq!(check(&history(&bad)), expected);
    }

    #[test]
    fn an_unknown_commit_may_be_seen_or_not() {
        let mut good = half("seen", &[(true, Outcome::Info)]);
        good.push(delivered("seen", 1, 0));
        good.extend(half("unseen", &[(true, Outcome::Info)]));
        good.extend(half("no", &[(true, Outcome::Fail), (false, Outcome::Ok)]));
        assert_eq!(check(&history(&good)), []);
    }
}
