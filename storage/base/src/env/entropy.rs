//! Randomness as a tree of named streams.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::Uuid;

/// A stream of random numbers, shared by its clones. Not for long-term secrets.
#[derive(Clone)]
pub struct Entropy {
    seed: [u8; 32],
    stream: Arc<Mutex<ChaCha12Rng>>,
}

impl Entropy {
    /// A stream that is the same for the same seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self {
            seed,
            stream: Arc::new(Mutex::new(ChaCha12Rng::from_seed(seed))),
        }
    }

    /// An independent stream that depends on this one's seed and on `name` only,
    /// not on what was drawn so far. The same name gives the same stream: give
    /// every user a name of its own.
    #[must_use]
    pub fn fork(&self, name: &str) -> Entropy {
        let mut seed = self.seed;
        for (lane, chunk) in seed.chunks_exact_mut(8).enumerate() {
            let mut hash = fnv(&(lane as u64).to_le_bytes(), 0xcbf2_9ce4_8422_2325);
            hash = fnv(chunk, hash);
            hash = fnv(name.as_bytes(), hash);
            chunk.copy_from_slice(&hash.to_le_bytes());
        }
        // One round of the cipher, since FNV alone leaves lanes alike.
        let mut mixed = [0; 32];
        ChaCha12Rng::from_seed(seed).fill_bytes(&mut mixed);
        Entropy::from_seed(mixed)
    }

    /// The next 64 random bits.
    pub fn next_u64(&self) -> u64 {
        self.stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next_u64()
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        // The bias of a plain remainder is below 2^-32 for every bound used here.
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(bytes);
    }

    /// A random name (version 4 form).
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }
}

fn fnv(bytes: &[u8], start: u64) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_do_not_depend_on_what_was_drawn() {
        let root = Entropy::from_seed([1; 32]);
        let before = root.fork("a").next_u64();
        root.next_u64();
        assert_eq!(root.fork("a").next_u64(), before);
        assert_ne!(root.fork("b").next_u64(), before);
        assert_ne!(Entropy::from_seed([2; 32]).fork("a").next_u64(), before);
    }
}
