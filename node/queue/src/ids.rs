//! Names and numbers of a queue.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A consumer group of queues, or a named subscriber of a broadcast: 1 to 255 bytes.
pub type GroupName = Arc<str>;

/// One consuming or producing client: the host's name for it, unique among live clients.
pub type MemberName = Arc<str>;

/// A group on one journal. Never given out twice, so nothing of a deleted group ever
/// belongs to its namesake.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct GroupNumber(pub u64);

/// A scheduled, half or outgoing message of one journal. Never given out twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct EntryNumber(pub u64);

/// Stands for a message group or business key. Two keys with one hash are ordered, counted
/// and paced as one key, which is safe; deduplication uses 128 bits, where equality counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// The hash of a key's bytes, the same on every node and in every version.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(sip_hash((0x7765_6972, 0x6b65_7973), key))
    }
}

/// SipHash-2-4 of `bytes`: a hash that is the same for ever, and without the key cannot
/// be guessed.
#[must_use]
pub fn sip_hash(key: (u64, u64), bytes: &[u8]) -> u64 {
    let mut state = [
        key.0 ^ 0x736f_6d65_7073_6575,
        key.1 ^ 0x646f_7261_6e64_6f6d,
        key.0 ^ 0x6c79_6765_6e65_7261,
        key.1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = u8::try_from(bytes.len() & 0xff).unwrap_or_default();
    absorb(&mut state, u64::from_le_bytes(last));
    state[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    round(state);
    state[0] ^= word;
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference vectors of SipHash-2-4.
    #[test]
    fn sip_hash_is_the_published_one() {
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(sip_hash(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(sip_hash(key, &bytes[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(sip_hash(key, &bytes), 0xa129_ca61_49be_45e5);
    }
}
