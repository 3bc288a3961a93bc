//! The machine's entropy, drawn once at start.

use rand_core::{OsRng, TryRngCore};
use weir_base::Entropy;

/// A stream seeded by the operating system.
///
/// # Panics
/// If the operating system gives no entropy: no node may run on a guessable seed.
#[must_use]
pub fn os_entropy() -> Entropy {
    let mut seed = [0; 32];
    if let Err(error) = OsRng.try_fill_bytes(&mut seed) {
        panic!("the operating system gave no entropy: {error}");
    }
    Entropy::from_seed(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(os_entropy().next_u64(), os_entropy().next_u64());
    }
}
