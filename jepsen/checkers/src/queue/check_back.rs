//! C18, T6 and T7: who left a half message undecided is asked, in time, so often and no more;
//! then it is parked, and never dropped. What is decided is asked about no more.

use std::collections::BTreeMap;

use super::{Event, Outcome, Patience, QueueAnomaly, QueueHistory};

/// What a queue promises of its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckBacks {
    /// Milliseconds between two questions about one half message.
    pub interval: i64,
    /// Questions about one, at most.
    pub checks_max: usize,
    /// How late a question may be, beside the interval: it needs a leader, and somebody who
    /// can be asked.
    pub patience: Patience,
    /// How long a question may be under way, in milliseconds, when its answer has been given
    /// otherwise.
    pub under_way: i64,
    /// When the history ended.
    pub end: i64,
}

#[derive(Default)]
struct Half {
    /// When it is to be asked about first, once it is known to be kept.
    check_at: Option<i64>,
    /// When somebody first tried to decide on it.
    tried_at: Option<i64>,
    /// When a decision was acknowledged first.
    decided_at: Option<i64>,
    asked: Vec<i64>,
    /// Questions counted of it when all was over, and whether it was parked then.
    kept: Option<(usize, bool)>,
}

/// Judges a history at the end of which all half messages that are left were read.
#[must_use]
pub fn check(history: &QueueHistory, promised: &CheckBacks) -> Vec<QueueAnomaly> {
    let seen = (history.delivered(), history.stored());
    let mut found = Vec::new();
    for (id, half) in halves(history) {
        let named = || id.to_owned();
        if let Some(decided) = half.decided_at {
            let last = decided + 2 * promised.interval + promised.under_way;
            let after = half.asked.iter().find(|at| **at > last);
            found.extend(after.map(|at| QueueAnomaly::AskedAfterDecision {
                id: named(),
                decided,
                at: *at,
            }));
        }
        if half.asked.len() > promised.checks_max {
            let times = half.asked.len();
            found.push(QueueAnomaly::AskedTooOften { id: named(), times });
        }
        let is_seen = seen.0.contains_key(id) || seen.1.contains_key(id);
        match half.kept {
            Some(_) if half.decided_at.is_some() || is_seen => {
                found.push(QueueAnomaly::DecidedAndKept { id: named() });
            }
            Some((checks, true)) if checks < promised.checks_max => {
                found.push(QueueAnomaly::ParkedEarly {
                    id: named(),
                    checks,
                });
            }
            None if half.check_at.is_some() && half.tried_at.is_none() && !is_seen => {
                found.push(QueueAnomaly::HalfDropped { id: named() });
            }
            Some(_) | None => {}
        }
        found.extend(unasked(id, &half, promised));
    }
    found
}

/// The first question that did not come in time.
fn unasked(id: &str, half: &Half, promised: &CheckBacks) -> Option<QueueAnomaly> {
    let mut due = half.check_at?;
    let until = half.tried_at.unwrap_or(promised.end);
    for number in 0..promised.checks_max {
        let asked = half.asked.get(number).copied();
        if asked.is_none() && half.kept.is_some_and(|(_, parked)| parked) {
            // A question may have been lost on its way.
            return None;
        }
        let at = asked.map_or(until, |at| at.min(until));
        if promised.patience.is_over(due, at) {
            let id = id.to_owned();
            return Some(QueueAnomaly::AskedLate { id, due, at });
        }
        due = asked? + promised.interval;
    }
    None
}

fn halves(history: &QueueHistory) -> BTreeMap<&str, Half> {
    let mut halves: BTreeMap<&str, Half> = BTreeMap::new();
    for event in &history.events {
        match event {
            Event::Prepared {
                id,
                outcome,
                check_at,
            } => {
                let half = halves.entry(id).or_default();
                if *outcome == Outcome::Ok {
                    half.check_at = Some(*check_at);
                }
            }
            Event::Decided {
                id, outcome, at, ..
            } => {
                let half = halves.entry(id).or_default();
                half.tried_at.get_or_insert(*at);
                if *outcome == Outcome::Ok {
                    half.decided_at.get_or_insert(*at);
                }
            }
            Event::Asked { id, at } => halves.entry(id).or_default().asked.push(*at),
            Event::Kept { id, checks, parked } => {
                halves.entry(id).or_default().kept = Some((*checks, *parked));
            }
            Event::Sent { .. }
            | Event::Cancelled { .. }
            | Event::Delivered { .. }
            | Event::Acked { .. }
            | Event::Returned { .. }
            | Event::Stored { .. }
            | Event::DeadLetter { .. }
            | Event::Listed { .. }
            | Event::Replayed { .. } => {}
        }
    }
    halves
}

#[cfg(test)]
mod tests {
    use super::super::script::{decided, history, prepared, stored};
    use super::*;

    fn asked(id: &str, at: i64) -> Event {
        let id = id.to_owned();
        Event::Asked { id, at }
    }

    fn kept(id: &str, checks: usize, parked: bool) -> Event {
        let id = id.to_owned();
        Event::Kept { id, checks, parked }
    }

    /// Two questions, 100 ms apart; each may be 50 ms late, but not before 1,000.
    fn promised() -> CheckBacks {
        CheckBacks {
            interval: 100,
            checks_max: 2,
            patience: Patience {
                most: 50,
                excused: vec![(0, 1_000)],
            },
            under_way: 10,
            end: 5_000,
        }
    }

    fn named(id: &str) -> String {
        id.to_owned()
    }

    #[test]
    fn what_is_asked_late_or_never_is_flagged() {
        let bad = history(&[
            prepared("first", 1_100),
            asked("first", 1_151),
            asked("first", 1_300),
            kept("first", 2, true),
            prepared("never", 1_100),
            kept("never", 0, false),
            prepared("second", 1_100),
            asked("second", 1_100),
            decided("second", true, Outcome::Ok, 1_251),
        ]);
        let late = |id: &str, due, at| QueueAnomaly::AskedLate {
            id: named(id),
            due,
            at,
        };
        let expected = [
            late("first", 1_100, 1_151),
            late("never", 1_100, 5_000),
            late("second", 1_200, 1_251),
        ];
        assert_eq!(check(&bad, &promised()), expected);
    }

    #[test]
    fn what_is_asked_or_decided_in_time_is_fine() {
        let good = history(&[
            prepared("parked", 1_100),
            asked("parked", 1_150),
            asked("parked", 1_300),
            kept("parked", 2, true),
            prepared("decided", 1_100),
            decided("decided", false, Outcome::Ok, 1_149),
            prepared("before", 100),
            asked("before", 1_050),
            decided("before", true, Outcome::Ok, 1_060),
            stored("before", 3),
        ]);
        assert_eq!(check(&good, &promised()), []);
    }

    #[test]
    fn what_is_asked_too_often_or_when_it_is_decided_is_flagged() {
        let bad = history(&[
            prepared("often", 1_100),
            asked("often", 1_100),
            asked("often", 1_200),
            asked("often", 1_300),
            kept("often", 2, true),
            prepared("over", 1_100),
            decided("over", true, Outcome::Ok, 1_110),
            asked("over", 1_321),
        ]);
        let expected = [
            QueueAnomaly::AskedTooOften {
                id: named("often"),
                times: 3,
            },
            QueueAnomaly::AskedAfterDecision {
                id: named("over"),
                decided: 1_110,
                at: 1_321,
            },
        ];
        assert_eq!(check(&bad, &promised()), expected);
    }

    #[test]
    fn a_question_that_was_under_way_is_fine() {
        let good = history(&[
            prepared("h", 1_100),
            decided("h", true, Outcome::Ok, 1_110),
            asked("h", 1_320),
        ]);
        assert_eq!(check(&good, &promised()), []);
    }

    #[test]
    fn what_is_dropped_parked_early_or_kept_for_ever_is_flagged() {
        let bad = history(&[
            prepared("dropped", 4_999),
            prepared("early", 4_999),
            kept("early", 1, true),
            prepared("stays", 4_900),
            decided("stays", true, Outcome::Ok, 4_950),
            kept("stays", 0, false),
        ]);
        let expected = [
            QueueAnomaly::HalfDropped {
                id: named("dropped"),
            },
            QueueAnomaly::ParkedEarly {
                id: named("early"),
                checks: 1,
            },
            QueueAnomaly::DecidedAndKept { id: named("stays") },
        ];
        assert_eq!(check(&bad, &promised()), expected);
    }

    #[test]
    fn what_somebody_may_have_decided_may_be_gone() {
        let good = history(&[
            prepared("maybe", 4_900),
            decided("maybe", false, Outcome::Info, 4_950),
            prepared("open", 4_999),
            kept("open", 0, false),
            prepared("back", 4_900),
            decided("back", false, Outcome::Ok, 4_950),
        ]);
        assert_eq!(check(&good, &promised()), []);
    }
}
