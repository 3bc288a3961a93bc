//! Bugs that can be planted, to prove that the tests find them.

use std::cell::Cell;

/// A planted bug, by its number in the list of mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A suspect is elected as if its log were known to be whole (S-14).
    M29,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 1] = [Mutant::M29];
}

thread_local! {
    static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Plants `mutant` in this thread's planners, or none.
pub fn plant(mutant: Option<Mutant>) {
    PLANTED.set(mutant);
}

pub(crate) fn is_planted(mutant: Mutant) -> bool {
    PLANTED.get() == Some(mutant)
}
