//! C16: in an ordered group a message is not delivered before the one ahead of it in its
//! message group is settled or among the dead letters, but for one that comes right behind
//! it in the same answer.

use std::collections::BTreeMap;

use super::{Event, QueueAnomaly, QueueHistory, Tries};

/// Messages that overtook. The order is that of the log, of one partition: `group_of` tells
/// a message's group by its id. Judges what was read back at the end.
#[must_use]
pub fn check(history: &QueueHistory, group_of: impl Fn(&str) -> Option<&str>) -> Vec<QueueAnomaly> {
    let (dead, stored) = (history.dead_letters(), history.stored());
    let mut groups: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for (id, offsets) in &stored {
        if let Some((group, first)) = group_of(id).zip(offsets.first()) {
            groups.entry(group).or_default().push((*first, id));
        }
    }
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    for messages in groups.values_mut() {
        messages.sort_unstable();
        let pairs = messages.windows(2).filter_map(|pair| match pair {
            [(_, ahead), (_, id)] => Some((*id, *ahead)),
            _ => None,
        });
        before.extend(pairs);
    }
    let mut tries = Tries::default();
    let mut delivered: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for event in &history.events {
        tries.note(event);
        let Event::Delivered { id, asked, .. } = event else {
            continue;
        };
        delivered.insert(id, *asked);
        if let Some(ahead) = before.get(&**id)
            && !tries.may_be_settled(ahead)
            && !dead.contains_key(ahead)
            && delivered.get(ahead) != Some(asked)
        {
            found.push(QueueAnomaly::Overtook {
                id: id.clone(),
                before: (*ahead).to_owned(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{acked, dead, delivered, history, stored};
    use super::super::{Event, Outcome};
    use super::*;

    fn asked(id: &str, asked: usize) -> Event {
        Event::Delivered {
            id: id.to_owned(),
            attempt: 1,
            at: 0,
            asked,
        }
    }

    fn group(id: &str) -> Option<&str> {
        id.split_once('-').map(|(group, _)| group)
    }

    #[test]
    fn a_message_that_overtakes_is_flagged_though_the_other_came_first() {
        let returned = Event::Returned {
            id: "a-1".to_owned(),
            outcome: Outcome::Ok,
            next: None,
        };
        let bad = history(&[
            delivered("a-1", 1, 0),
            returned,
            acked("a-1", Outcome::Info),
            acked("a-1", Outcome::Fail),
            asked("a-2", 4),
            acked("a-1", Outcome::Ok),
            stored("a-1", 4),
            stored("a-2", 9),
        ]);
        let expected = [QueueAnomaly::Overtook {
            id: "a-2".to_owned(),
            before: "a-1".to_owned(),
        }];
        assert_eq!(check(&bad, group), expected);
    }

    #[test]
    fn behind_settled_and_dead_ones_beside_others_and_again_is_fine() {
        let good = history(&[
            delivered("b-1", 1, 0),
            delivered("a-2", 1, 0),
            acked("a-2", Outcome::Info),
            // Its order is that of the log, not that of its number.
            delivered("a-1", 1, 0),
            asked("a-2", 4),
            acked("a-1", Outcome::Ok),
            asked("a-3", 6),
            asked("a-4", 7),
            // One answer.
            asked("a-5", 8),
            asked("a-6", 8),
            delivered("alone", 1, 0),
            stored("a-2", 3),
            stored("a-1", 4),
            stored("b-1", 5),
            stored("a-3", 6),
            stored("a-4", 7),
            stored("a-5", 8),
            stored("a-6", 9),
            stored("alone", 10),
            dead("a-3", 0),
            dead("a-4", 1),
        ]);
        assert_eq!(check(&good, group), []);
    }
}
