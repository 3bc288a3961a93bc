//! Bugs that can be planted, to prove that the model test finds them.

use std::cell::Cell;

/// A planted bug, by its number in the list of mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A new follower truncates to its high watermark (S-02).
    M1,
    /// The watermark counts the agreed ISR only (S-07).
    M2,
    /// An ISR proposal names the newest boot instead of the one that was seen (S-05).
    M3,
    /// The watermark ignores min ISR (S-01, S-04).
    M4,
    /// Written counts as durable (S-14).
    M5,
    /// A follower joins the ISR before the leader epoch's start offset.
    M9,
    /// A new leader serves before its watermark reached that offset (S-21).
    M10,
    /// A follower accepts data of lower epochs and old sessions.
    M26,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 8] = [
        Mutant::M1,
        Mutant::M2,
        Mutant::M3,
        Mutant::M4,
        Mutant::M5,
        Mutant::M9,
        Mutant::M10,
        Mutant::M26,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants `mutant` in this thread's cores, or none.
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
