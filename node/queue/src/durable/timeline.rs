//! Delayed messages in the order they are due: 20 bytes each, in sorted leaves.
//!
//! A leaf holds up to 1,024 packed entries: 6 bytes deadline, 6 number, 6 place of the
//! payload in the journal (its top bit says whether the message is in the log too), 2 size. Inserting costs a search and moves at most 10 KiB;
//! taking the first moves nothing. Leaves grow by 64 entries at a time, so that little of
//! what they hold is room.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_base::{Offset, Timestamp};

use crate::ids::EntryNumber;

const LEAF_MAX: usize = 1024;
/// Entries for which a leaf makes room at once.
const LEAF_STEP: usize = 64;
/// Sizes are kept in units of this many bytes, rounded up.
const SIZE_UNIT: usize = 64;
/// Set in the place of what is in the log too.
const LOGGED: u64 = 1 << 47;

type Packed = [u8; 20];
type Key = [u8; 12];

/// One delayed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) deliver_at: Timestamp,
    pub(crate) number: EntryNumber,
    pub(crate) payload_at: Offset,
    /// Whether it is in the partition's log as it was sent: then queues alone get it.
    pub(crate) is_logged: bool,
    /// At least the payload's size, unless that is above 4 MiB.
    pub(crate) bytes: usize,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    /// By a lower bound of its entries. No leaf is empty.
    leaves: BTreeMap<Key, VecDeque<Packed>>,
    len: usize,
}

fn six(value: u64) -> [u8; 6] {
    let bytes = value.min((1 << 48) - 1).to_be_bytes();
    [bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn key(deliver_at: Timestamp, entry: EntryNumber) -> Key {
    let mut key = [0; 12];
    let millis = u64::try_from(deliver_at.0).unwrap_or(0);
    key[..6].copy_from_slice(&six(millis));
    key[6..].copy_from_slice(&six(entry.0));
    key
}

fn pack(pending: &Pending) -> Packed {
    let mut packed = [0; 20];
    packed[..12].copy_from_slice(&key(pending.deliver_at, pending.number));
    let place = pending.payload_at.0.min(LOGGED - 1);
    let place = if pending.is_logged {
        place | LOGGED
    } else {
        place
    };
    packed[12..18].copy_from_slice(&six(place));
    let units = u16::try_from(pending.bytes.div_ceil(SIZE_UNIT)).unwrap_or(u16::MAX);
    packed[18..].copy_from_slice(&units.to_be_bytes());
    packed
}

fn unpack(packed: &Packed) -> Pending {
    let units = usize::try_from(number(&packed[18..])).unwrap_or(usize::MAX);
    let place = number(&packed[12..18]);
    Pending {
        deliver_at: Timestamp(number(&packed[..6]).cast_signed()),
        number: EntryNumber(number(&packed[6..12])),
        payload_at: Offset(place & !LOGGED),
        is_logged: place & LOGGED != 0,
        bytes: units * SIZE_UNIT,
    }
}

/// Where the first entry not below `key` is, or would be.
fn place(leaf: &VecDeque<Packed>, key: &Key) -> usize {
    leaf.partition_point(|entry| entry[..12] < key[..])
}

impl Timeline {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, pending: Pending) {
        let (key, packed) = (key(pending.deliver_at, pending.number), pack(&pending));
        let Some(bound) = self.bound_of(&key) else {
            // Below all leaves: the first one's bound is lowered to it.
            let (_, mut leaf) = self.leaves.pop_first().unwrap_or_default();
            if leaf.len() == leaf.capacity() {
                leaf.reserve_exact(LEAF_STEP);
            }
            leaf.push_front(packed);
            self.len += 1;
            self.put(key, leaf);
            return;
        };
        let Some(leaf) = self.leaves.get_mut(&bound) else {
            return;
        };
        let at = place(leaf, &key);
        if leaf.get(at).is_some_and(|entry| entry[..12] == key[..]) {
            leaf[at] = packed;
            return;
        }
        self.len += 1;
        if at == leaf.len() && leaf.len() == LEAF_MAX {
            self.leaves.insert(key, VecDeque::from([packed]));
            return;
        }
        if leaf.len() == leaf.capacity() {
            leaf.reserve_exact(LEAF_STEP);
        }
        leaf.insert(at, packed);
        if leaf.len() > LEAF_MAX {
            let upper = leaf.split_off(LEAF_MAX / 2);
            leaf.shrink_to(leaf.len() + LEAF_STEP);
            self.put_new(upper);
        }
    }

    fn put(&mut self, bound: Key, mut leaf: VecDeque<Packed>) {
        if leaf.len() > LEAF_MAX {
            let upper = leaf.split_off(LEAF_MAX / 2);
            self.put_new(upper);
        }
        self.leaves.insert(bound, leaf);
    }

    fn put_new(&mut self, leaf: VecDeque<Packed>) {
        if let Some(first) = leaf.front() {
            let mut bound = [0; 12];
            bound.copy_from_slice(&first[..12]);
            self.leaves.insert(bound, leaf);
        }
    }

    /// The bound of the leaf that holds `key` if any does.
    fn bound_of(&self, key: &Key) -> Option<Key> {
        self.leaves
            .range(..=*key)
            .next_back()
            .map(|(bound, _)| *bound)
    }

    pub(crate) fn get(&self, deliver_at: Timestamp, number: EntryNumber) -> Option<Pending> {
        let key = key(deliver_at, number);
        let (_, leaf) = self.leaves.range(..=key).next_back()?;
        let entry = leaf.get(place(leaf, &key))?;
        (entry[..12] == key[..]).then(|| unpack(entry))
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, deliver_at: Timestamp, number: EntryNumber) -> bool {
        let key = key(deliver_at, number);
        let Some(bound) = self.bound_of(&key) else {
            return false;
        };
        let Some(leaf) = self.leaves.get_mut(&bound) else {
            return false;
        };
        let at = place(leaf, &key);
        if leaf.get(at).is_none_or(|entry| entry[..12] != key[..]) {
            return false;
        }
        leaf.remove(at);
        self.len -= 1;
        if leaf.is_empty() {
            self.leaves.remove(&bound);
        } else if leaf.len() + 4 * LEAF_STEP < leaf.capacity() {
            leaf.shrink_to(leaf.len() + LEAF_STEP);
        }
        true
    }

    /// In the order they are due.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pending> {
        self.leaves.values().flatten().map(unpack)
    }

    /// Those behind one, which need not be there.
    pub(crate) fn after(
        &self,
        at: Timestamp,
        number: EntryNumber,
    ) -> impl Iterator<Item = Pending> {
        let key = key(at, number);
        let first = self.bound_of(&key).unwrap_or(key);
        let leaves = self.leaves.range(first..).map(|(_, leaf)| leaf);
        let entries = leaves.flat_map(move |leaf| leaf.range(place(leaf, &key)..));
        entries
            .filter(move |entry| entry[..12] != key[..])
            .map(unpack)
    }
}

/// The same messages, however they lie in leaves.
impl PartialEq for Timeline {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Timeline {}

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let leaves = self.leaves.values();
        serializer.collect_seq(leaves.map(|leaf| {
            let bytes: Vec<u8> = leaf.iter().flatten().copied().collect();
            Bytes::from(bytes)
        }))
    }
}

impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut timeline = Self::default();
        for bytes in Vec::<Bytes>::deserialize(deserializer)? {
            let (entries, rest) = bytes.as_chunks::<20>();
            if !rest.is_empty() || entries.is_empty() {
                return Err(Error::custom("a leaf of delayed messages is cut"));
            }
            timeline.len += entries.len();
            timeline.put_new(entries.iter().copied().collect());
        }
        Ok(timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pending(at: u64, number: u64) -> Pending {
        Pending {
            deliver_at: Timestamp(at.cast_signed()),
            number: EntryNumber(number),
            payload_at: Offset(number * 3),
            is_logged: number.is_multiple_of(3),
            bytes: 64,
        }
    }

    /// A plain set is the twin; deadlines rise, fall and are drawn, some are taken out.
    #[test]
    fn it_is_a_sorted_set() {
        let mut random = 12345u64;
        let mut draw = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 40
        };
        for kind in 0..4u64 {
            let (mut timeline, mut twin) = (Timeline::default(), BTreeSet::new());
            for number in 0..20_000u64 {
                let at = match kind {
                    0 => number,
                    1 => 1_000_000 - number,
                    2 => draw(),
                    _ => draw() % 3,
                };
                timeline.insert(pending(at, number));
                twin.insert((at, number));
                if draw() % 3 == 0 {
                    let pick = (draw(), draw() % 20_000);
                    let near = twin.range(pick..).next().copied().unwrap_or(pick);
                    let (at, number) = (Timestamp(near.0.cast_signed()), EntryNumber(near.1));
                    assert_eq!(timeline.get(at, number).is_some(), twin.contains(&near));
                    assert_eq!(timeline.remove(at, number), twin.remove(&near));
                    assert!(!timeline.remove(at, number));
                }
            }
            let expected = || twin.iter().map(|(at, number)| pending(*at, *number));
            assert_eq!(timeline.len(), twin.len());
            assert!(timeline.iter().eq(expected()));
            assert_eq!(timeline.iter().next(), expected().next());
            let (at, number) = *twin.iter().nth(5_000).unwrap();
            let after = timeline.after(Timestamp(at.cast_signed()), EntryNumber(number));
            assert!(after.eq(expected().skip(5_001)));
            let bytes = postcard::to_stdvec(&timeline).unwrap();
            let copy: Timeline = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(copy, timeline);
            for (at, number) in twin {
                assert!(timeline.remove(Timestamp(at.cast_signed()), EntryNumber(number)));
            }
            assert!(timeline.len() == 0 && timeline.leaves.is_empty());
        }
    }

    #[test]
    fn a_hundred_thousand_take_little_more_than_20_bytes_each() {
        let mut random = 1u64;
        for in_order in [true, false] {
            let mut timeline = Timeline::default();
            for number in 0..100_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = if in_order { number } else { random >> 20 };
                timeline.insert(pending(at, number));
            }
            let leaves = timeline.leaves.values();
            let bytes: usize = leaves.map(|leaf| leaf.capacity() * 20 + 64).sum();
            assert!(bytes / timeline.len() <= 23, "{}", bytes / timeline.len());
        }
    }
}
