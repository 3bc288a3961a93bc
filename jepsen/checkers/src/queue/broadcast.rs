//! C21: a broadcast reaches each of its subscribers, and an older version of something never
//! follows a newer one.
//!
//! A history is that of one subscriber: what was sent to all, and what was delivered to this
//! one. Who asks for versions may miss one that a newer one overtook, and none else.

use std::collections::BTreeMap;

use super::{Event, Outcome, QueueAnomaly, QueueHistory};

/// A delivered version: its number, the message, where it stands in the history, and when it
/// was asked for.
type Seen<'h> = (u64, &'h str, usize, usize);

/// What a subscriber missed, and what came too late. `version_of` tells what a message is
/// about, and its version, by its id; `None` of a message that has none. Judges what was
/// drained.
#[must_use]
pub fn check<'h, Subject: Ord>(
    history: &'h QueueHistory,
    version_of: impl Fn(&'h str) -> Option<(Subject, u64)>,
) -> Vec<QueueAnomaly> {
    let mut found = older(history, &version_of);
    let delivered = history.delivered();
    let mut newest: BTreeMap<Subject, u64> = BTreeMap::new();
    for id in delivered.keys() {
        if let Some((subject, version)) = version_of(id) {
            let newest = newest.entry(subject).or_default();
            *newest = version.max(*newest);
        }
    }
    for event in &history.events {
        let Event::Sent {
            id,
            outcome: Outcome::Ok,
            ..
        } = event
        else {
            continue;
        };
        let is_overtaken = version_of(id).is_some_and(|(subject, version)| {
            newest.get(&subject).is_some_and(|newest| *newest > version)
        });
        if !delivered.contains_key(&**id) && !is_overtaken {
            found.push(QueueAnomaly::Missed { id: id.clone() });
        }
    }
    found
}

/// Deliveries of an older version that were asked for when a newer one had come, or that
/// come behind it in the same answer. An answer that was under way proves nothing.
pub fn older<'h, Subject: Ord>(
    history: &'h QueueHistory,
    version_of: impl Fn(&'h str) -> Option<(Subject, u64)>,
) -> Vec<QueueAnomaly> {
    let mut seen: BTreeMap<Subject, Vec<Seen<'h>>> = BTreeMap::new();
    let mut found = Vec::new();
    for (now, event) in history.events.iter().enumerate() {
        let Event::Delivered { id, asked, .. } = event else {
            continue;
        };
        let Some((subject, version)) = version_of(id) else {
            continue;
        };
        // Rising versions: of two, the newer one that came first says more.
        let seen = seen.entry(subject).or_default();
        let newer = seen
            .iter()
            .find(|(other, _, at, with)| *other > version && (at < asked || with == asked));
        if let Some((_, newer, ..)) = newer {
            found.push(QueueAnomaly::OlderFollowed {
                id: id.clone(),
                newer: (*newer).to_owned(),
            });
        }
        if seen.last().is_none_or(|(last, ..)| *last < version) {
            seen.push((version, id, now, *asked));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::script::{acked, history, sent};
    use super::*;

    fn asked(id: &str, asked: usize) -> Event {
        Event::Delivered {
            id: id.to_owned(),
            attempt: 1,
            at: 0,
            asked,
        }
    }

    /// `price.3`: the third version of the price.
    fn version(id: &str) -> Option<(&str, u64)> {
        let (subject, version) = id.split_once('.')?;
        Some((subject, version.parse().ok()?))
    }

    #[test]
    fn an_older_version_behind_a_newer_one_and_a_missed_message_are_flagged() {
        let bad = history(&[
            sent("price.1", Outcome::Ok),
            sent("price.2", Outcome::Ok),
            sent("news", Outcome::Ok),
            sent("stock.7", Outcome::Ok),
            asked("price.2", 4),
            asked("price.1", 5),
            // Both in one answer, and the wrong way round.
            asked("rate.9", 6),
            asked("rate.8", 6),
            asked("stock.6", 8),
        ]);
        let followed = |id: &str, newer: &str| QueueAnomaly::OlderFollowed {
            id: id.to_owned(),
            newer: newer.to_owned(),
        };
        let missed = |id: &str| QueueAnomaly::Missed { id: id.to_owned() };
        let expected = [
            followed("price.1", "price.2"),
            followed("rate.8", "rate.9"),
            missed("news"),
            missed("stock.7"),
        ];
        assert_eq!(check(&bad, version), expected);
    }

    #[test]
    fn without_versions_all_of_it_has_to_come_in_any_order() {
        let seen = history(&[
            sent("price.1", Outcome::Ok),
            sent("price.2", Outcome::Ok),
            asked("price.2", 2),
        ]);
        let missed = QueueAnomaly::Missed {
            id: "price.1".to_owned(),
        };
        assert_eq!(check(&seen, |_| None::<((), u64)>), [missed]);
        let seen = history(&[
            sent("price.1", Outcome::Ok),
            asked("price.2", 1),
            asked("price.1", 2),
        ]);
        assert_eq!(check(&seen, |_| None::<((), u64)>), []);
    }

    #[test]
    fn overtaken_versions_repeated_ones_and_late_answers_are_fine() {
        let good = history(&[
            sent("price.1", Outcome::Ok),
            sent("price.3", Outcome::Ok),
            sent("price.2", Outcome::Ok),
            sent("price.4", Outcome::Info),
            sent("stock.1", Outcome::Fail),
            // Versions 1 and 2 were overtaken; the third comes twice.
            asked("price.3", 5),
            acked("price.3", Outcome::Fail),
            asked("price.3", 7),
            // Its answer was under way when that of the newer one was asked for.
            asked("rate.2", 8),
            asked("rate.1", 7),
            // Of other things.
            asked("stock.0", 10),
        ]);
        assert_eq!(check(&good, version), []);
    }
}
