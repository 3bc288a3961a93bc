//! Bugs that can be planted, to prove that the model test finds them.

use std::cell::Cell;

/// A planted bug: by its number in the list of mutants, or by a name of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A decision does not check which transaction it is for (S-26).
    M14,
    /// A second decision on a half message is accepted (S-38).
    M15,
    /// Delayed messages are forgotten when they are due, before they are appended (S-37).
    M16,
    /// A new leader appends what its predecessor was releasing once more (S-34).
    M17,
    /// A half message that nobody can be asked about stops the checks of all (S-39).
    M28,
    /// The cursor passes a block with a few messages that are not final.
    CursorLeaps,
    /// A receipt of an earlier attempt settles a later one.
    OldReceipts,
    /// A lease that runs out is no attempt.
    TimeoutsAreFree,
    /// A FIFO group goes on with a message group while its first message waits for a retry.
    RetryLetsFollowersPass,
    /// A message that failed too often is removed without a copy in the dead letters.
    DeadLettersVanish,
    /// A delayed message that is on its way is said to be cancelled.
    CancelLies,
    /// Ids of messages that are delivered at once are not remembered.
    DedupForgets,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 12] = [
        Mutant::M14,
        Mutant::M15,
        Mutant::M16,
        Mutant::M17,
        Mutant::M28,
        Mutant::CursorLeaps,
        Mutant::OldReceipts,
        Mutant::TimeoutsAreFree,
        Mutant::RetryLetsFollowersPass,
        Mutant::DeadLettersVanish,
        Mutant::CancelLies,
        Mutant::DedupForgets,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants `mutant` in this thread's machines, or none.
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
