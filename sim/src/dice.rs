//! Choices that follow from a seed, in the words that plans use.

use weir_base::Entropy;

/// A stream of choices.
pub(crate) struct Dice(Entropy);

impl Dice {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self(entropy)
    }

    /// True once in `n`.
    pub(crate) fn one_in(&self, n: u64) -> bool {
        self.0.below(n) == 0
    }

    /// From `least` to `most`, both included.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.0.below(most.saturating_sub(least) + 1)
    }

    /// As [`Dice::between`], every order of magnitude as likely as the next.
    pub(crate) fn magnitude(&self, least: u64, most: u64) -> u64 {
        let doublings = (most / least.max(1)).checked_ilog2().unwrap_or(0);
        let base = least << self.between(0, u64::from(doublings));
        self.between(base, (base * 2).min(most))
    }

    /// One of them.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn pick<T: Copy>(&self, of: &[T]) -> T {
        let at = self.between(0, of.len() as u64 - 1);
        of[usize::try_from(at).unwrap_or(0)]
    }

    /// The same in another order.
    pub(crate) fn shuffled<T: Copy>(&self, of: &[T]) -> Vec<T> {
        let mut left = of.to_vec();
        let mut out = Vec::new();
        while !left.is_empty() {
            let at = self.between(0, left.len() as u64 - 1);
            out.push(left.swap_remove(usize::try_from(at).unwrap_or(0)));
        }
        out
    }
}
