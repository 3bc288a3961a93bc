//! C20 for replays: a dead letter is in one place, the list of dead letters or the log that
//! it came from, and comes back as the message that died.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, QueueAnomaly, QueueHistory};

/// Letters that are in neither place or in both, that came back twice, or as another
/// message. Judges what was read back after the replay had come to its end.
#[must_use]
pub fn check(history: &QueueHistory) -> Vec<QueueAnomaly> {
    let mut letters: BTreeMap<u64, &str> = BTreeMap::new();
    let mut listed: BTreeSet<u64> = BTreeSet::new();
    let mut replayed: BTreeMap<u64, Vec<(&str, u64)>> = BTreeMap::new();
    for event in &history.events {
        if let Event::DeadLetter { id, offset } = event {
            letters.insert(*offset, id);
        } else if let Event::Listed { letter } = event {
            listed.insert(*letter);
        } else if let Event::Replayed { id, letter, offset } = event {
            replayed.entry(*letter).or_default().push((id, *offset));
        }
    }
    let mut found = Vec::new();
    for (letter, id) in &letters {
        let id = || (*id).to_owned();
        let letter = *letter;
        match (listed.contains(&letter), replayed.contains_key(&letter)) {
            (false, false) => found.push(QueueAnomaly::LetterLost { id: id(), letter }),
            (true, true) => found.push(QueueAnomaly::ListedAndReplayed { id: id(), letter }),
            (true, false) | (false, true) => {}
        }
    }
    for (letter, copies) in replayed {
        let died = letters.get(&letter);
        for (id, _) in copies.iter().filter(|(id, _)| died != Some(id)) {
            let id = (*id).to_owned();
            found.push(QueueAnomaly::ReplayedOther { id, letter });
        }
        if let [(id, _), _, ..] = &*copies {
            found.push(QueueAnomaly::ReplayedTwice {
                id: (*id).to_owned(),
                offsets: copies.iter().map(|(_, offset)| *offset).collect(),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{dead, history};
    use super::*;

    fn listed(letter: u64) -> Event {
        Event::Listed { letter }
    }

    fn replayed(id: &str, letter: u64, offset: u64) -> Event {
        Event::Replayed {
            id: id.to_owned(),
            letter,
            offset,
        }
    }

    #[test]
    fn letters_in_no_place_in_both_twice_or_changed_are_flagged() {
        let bad = history(&[
            dead("lost", 0),
            dead("both", 1),
            listed(1),
            replayed("both", 1, 50),
            dead("twice", 2),
            replayed("twice", 2, 51),
            replayed("twice", 2, 52),
            dead("changed", 3),
            replayed("other", 3, 53),
            replayed("new", 9, 54),
        ]);
        let named = |id: &str| id.to_owned();
        let expected = [
            QueueAnomaly::LetterLost {
                id: named("lost"),
                letter: 0,
            },
            QueueAnomaly::ListedAndReplayed {
                id: named("both"),
                letter: 1,
            },
            QueueAnomaly::ReplayedTwice {
                id: named("twice"),
                offsets: vec![51, 52],
            },
            QueueAnomaly::ReplayedOther {
                id: named("other"),
                letter: 3,
            },
            QueueAnomaly::ReplayedOther {
                id: named("new"),
                letter: 9,
            },
        ];
        assert_eq!(check(&bad), expected);
    }

    #[test]
    fn a_message_that_died_and_came_back_more_than_once_is_fine() {
        let good = history(&[
            dead("a", 0),
            replayed("a", 0, 10),
            dead("a", 1),
            replayed("a", 1, 11),
            dead("a", 2),
            listed(2),
            dead("b", 3),
            listed(3),
        ]);
        assert_eq!(check(&good), []);
    }
}
