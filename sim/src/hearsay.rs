//! What no sound node says of itself, heard in the nodes' logs.
//!
//! - A controller makes its plans on a draft of the very state that they change: it never
//!   refuses one.
//! - Who took office has heard of nobody yet, and fences nobody for silence before a whole
//!   session has passed: most nodes live, and each wrong guess moves their leaders.

use std::collections::BTreeMap;
use std::time::Duration;

/// A session (1.5 s by default) on the fastest clock that the fault model knows.
const SESSION: Duration = Duration::from_millis(1_420);

/// What a node says that begins to lead the metadata group.
pub(crate) const TOOK_OFFICE: &str = "leads the metadata group";

/// Listens to what nodes log.
#[derive(Default)]
pub(crate) struct Hearsay {
    /// When each node that speaks took office last.
    offices: BTreeMap<String, Duration>,
    violations: Vec<String>,
}

impl Hearsay {
    /// `speaker` says `message`, `now` since the run began.
    pub(crate) fn hear(&mut self, speaker: String, message: &str, now: Duration) {
        match message {
            TOOK_OFFICE => {
                self.offices.insert(speaker, now);
            }
            "fenced for silence" => {
                let since = self.offices.get(&speaker).map(|began| now - *began);
                if let Some(since) = since.filter(|since| *since < SESSION) {
                    self.violations.push(format!(
                        "{speaker} fences for silence {since:?} after it took office"
                    ));
                }
            }
            "the controller refused its own plan" => {
                self.violations.push(format!("{speaker} says: {message}"));
            }
            _ => {}
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_in_a_hurry_is_noticed() {
        let mut hearsay = Hearsay::default();
        let mut at = |millis, who: &str, said| {
            hearsay.hear(who.to_owned(), said, Duration::from_millis(millis));
            hearsay.violations().len()
        };
        assert_eq!(at(100, "a", "leads the metadata group"), 0);
        assert_eq!(
            at(200, "b", "fenced for silence"),
            0,
            "it never took office here"
        );
        assert_eq!(at(1_600, "a", "fenced for silence"), 0);
        assert_eq!(at(1_700, "a", "leads the metadata group"), 0);
        assert_eq!(at(1_800, "a", "fenced for silence"), 1);
        assert_eq!(at(1_900, "a", "the controller refused its own plan"), 2);
    }
}
