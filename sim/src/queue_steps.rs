//! The steps by which queues move what they keep, at each of which their leader may die:
//! those of a half message, of a delayed one, and of one that becomes a dead letter.
//!
//! ```text
//!   half stored --+--> asked about --> answered --+--> commit written --> commit leaves --> commit visible
//!                 |         +--> parked           |                                             |
//!                 +-------------------------------+--> rollback written                  commit done
//!   delay stored --+--> release leaves --> release visible --> release done
//!                  +--> cancel written
//!   last attempt failed --> letter leaves --> letter written --> letter done
//! ```
//! Each is one write to the write-ahead log of whoever leads: a record of the journal, or a
//! batch where the message goes. That a message is due is no write: between that and "release
//! leaves" is the moment before the latter.

mod reader;

pub(crate) use reader::{Found, Reader};

/// Names steps, and the states of having killed somebody there.
macro_rules! steps {
    ($($step:ident $name:literal)*) => {
        /// One write that somebody leads.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Step {
            $($step,)*
        }

        impl Step {
            /// All there are.
            pub(crate) const ALL: &[Step] = &[$(Step::$step,)*];

            /// The state that a run has reached that killed somebody there.
            pub(crate) fn point(self, moment: Moment) -> &'static str {
                match (self, moment) {
                    $(
                        (Self::$step, Moment::Before) => concat!("killed before: ", $name),
                        (Self::$step, Moment::Behind) => concat!("killed right behind: ", $name),
                        (Self::$step, Moment::Committed) => concat!("killed when committed: ", $name),
                    )*
                }
            }
        }

        /// The states of having killed somebody at a step.
        pub(crate) const POINTS: &[&str] = &[$(
            concat!("killed before: ", $name),
            concat!("killed right behind: ", $name),
            concat!("killed when committed: ", $name),
        )*];
    };
}

steps! {
    HalfStored "half stored"
    HalfAsked "half asked about"
    HalfAnswered "half answered"
    HalfParked "half parked"
    CommitWritten "commit written"
    RollbackWritten "rollback written"
    CommitLeaves "commit leaves"
    CommitVisible "commit visible"
    CommitDone "commit done"
    DelayStored "delay stored"
    CancelWritten "cancel written"
    ReleaseLeaves "release leaves"
    ReleaseVisible "release visible"
    ReleaseDone "release done"
    LastAttemptFailed "last attempt failed"
    LetterLeaves "letter leaves"
    LetterWritten "letter written"
    LetterDone "letter done"
}

impl Step {
    /// Those of a half message.
    #[cfg(test)]
    pub(crate) const HALF: &[Step] = &[
        Step::HalfStored,
        Step::HalfAsked,
        Step::HalfAnswered,
        Step::HalfParked,
        Step::CommitWritten,
        Step::RollbackWritten,
        Step::CommitLeaves,
        Step::CommitVisible,
        Step::CommitDone,
    ];
    /// Those of a delayed message.
    #[cfg(test)]
    pub(crate) const DELAY: &[Step] = &[
        Step::DelayStored,
        Step::CancelWritten,
        Step::ReleaseLeaves,
        Step::ReleaseVisible,
        Step::ReleaseDone,
    ];
    /// Those of a move to the dead letters.
    #[cfg(test)]
    pub(crate) const LETTER: &[Step] = &[
        Step::LastAttemptFailed,
        Step::LetterLeaves,
        Step::LetterWritten,
        Step::LetterDone,
    ];
}

/// When somebody dies at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Instead of it.
    Before,
    /// It is on the leader's disk; nobody else was told so.
    Behind,
    /// It is committed. What follows from it is not written yet, or just so.
    Committed,
}

impl Moment {
    pub(crate) const ALL: &[Moment] = &[Moment::Before, Moment::Behind, Moment::Committed];
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_belongs_to_one_way_and_every_moment_has_a_name_of_its_own() {
        let ways = [Step::HALF, Step::DELAY, Step::LETTER].concat();
        assert_eq!(ways, Step::ALL);
        let points = |step: Step| Moment::ALL.iter().map(move |moment| step.point(*moment));
        let named: Vec<&str> = Step::ALL.iter().copied().flat_map(points).collect();
        assert_eq!(named, POINTS);
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len());
    }
}
