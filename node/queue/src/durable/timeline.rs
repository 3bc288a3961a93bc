//! Delayed messages in the order they are due, some 11 bytes each, in sorted leaves.
//!
//! A leaf holds up to 1,024 rows of four columns: deadline, number, place of the payload in
//! the journal and size. Neighbours are alike in the high bytes of a column, so a leaf keeps
//! these once and of each row only as many low bytes as differ in it:
//!
//! ```text
//!            deadline, ms     number      place * 2 + logged   size / 64
//! common     0x0193_7c..     0x00_0001..       0x..             0x00..
//! row              4f a1        8e 03 77      2a 11 9c 05           02
//! ```
//! Inserting costs a search and moves at most 11 KiB, or writes the leaf anew where a column
//! has to be wider; taking the first moves nothing. Leaves grow by 64 rows at a time, so
//! that little of what they hold is room.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_base::{Offset, Timestamp};

use crate::ids::EntryNumber;

const LEAF_MAX: usize = 1024;
/// Rows for which a leaf makes room at once.
const LEAF_STEP: usize = 64;
/// Sizes are kept in units of this many bytes, rounded up.
const SIZE_UNIT: usize = 64;
/// Deadline, number, place and whether it is in the log, size.
const COLUMNS: usize = 4;
/// The column of numbers, which no two rows share.
const NUMBER: usize = 1;

type Row = [u64; COLUMNS];
/// Deadline and number.
type Key = (u64, u64);

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
    /// By a lower bound of its rows. No leaf is empty.
    leaves: BTreeMap<Key, Leaf>,
    len: usize,
}

/// Rows in order.
#[derive(Debug, Clone)]
struct Leaf {
    /// The low bytes that are kept of each row, by column.
    widths: [u8; COLUMNS],
    /// One of the rows: above their low bytes all are like it.
    common: Row,
    /// The rows' low bytes, little end first, behind those of `taken` rows that are gone.
    bytes: Vec<u8>,
    taken: usize,
}

fn key(deliver_at: Timestamp, number: EntryNumber) -> Key {
    (u64::try_from(deliver_at.0).unwrap_or(0), number.0)
}

fn pack(pending: &Pending) -> Row {
    let (deliver_at, number) = key(pending.deliver_at, pending.number);
    let place = pending.payload_at.0 << 1 | u64::from(pending.is_logged);
    let units = u16::try_from(pending.bytes.div_ceil(SIZE_UNIT)).unwrap_or(u16::MAX);
    [deliver_at, number, place, u64::from(units)]
}

fn unpack([deliver_at, number, place, units]: Row) -> Pending {
    Pending {
        deliver_at: Timestamp(deliver_at.cast_signed()),
        number: EntryNumber(number),
        payload_at: Offset(place >> 1),
        is_logged: place & 1 != 0,
        bytes: usize::try_from(units).unwrap_or(usize::MAX) * SIZE_UNIT,
    }
}

fn key_of(row: &Row) -> Key {
    (row[0], row[NUMBER])
}

/// The bits of a value that its low `width` bytes hold.
fn low(width: u8) -> u64 {
    u64::MAX.checked_shr(64 - 8 * u32::from(width)).unwrap_or(0)
}

impl Leaf {
    fn of(rows: &[Row]) -> Leaf {
        let mut leaf = Leaf {
            widths: [0; COLUMNS],
            common: rows.first().copied().unwrap_or_default(),
            bytes: Vec::new(),
            taken: 0,
        };
        leaf.widths[NUMBER] = 1;
        for row in rows {
            leaf.widths = leaf.widths_with(row);
        }
        leaf.bytes.reserve_exact((rows.len() + 1) * leaf.stride());
        for row in rows {
            leaf.bytes.extend(leaf.low_bytes(row));
        }
        leaf
    }

    /// Bytes of a row; not 0.
    fn stride(&self) -> usize {
        self.widths.iter().map(|width| usize::from(*width)).sum()
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.stride() - self.taken
    }

    /// How wide columns must be for `row` too.
    fn widths_with(&self, row: &Row) -> [u8; COLUMNS] {
        std::array::from_fn(|column| {
            let differs = u64::BITS - (row[column] ^ self.common[column]).leading_zeros();
            let bytes = u8::try_from(differs.div_ceil(8)).unwrap_or(8);
            bytes.max(self.widths[column])
        })
    }

    fn low_bytes(&self, row: &Row) -> impl Iterator<Item = u8> + use<> {
        let columns = row.map(u64::to_le_bytes).into_iter().zip(self.widths);
        columns.flat_map(|(value, width)| value.into_iter().take(usize::from(width)))
    }

    /// The row of these low bytes.
    fn row(&self, mut bytes: &[u8]) -> Row {
        std::array::from_fn(|column| {
            let width = self.widths[column];
            let mut value = [0; 8];
            let Some((own, rest)) = bytes.split_at_checked(usize::from(width)) else {
                return 0;
            };
            bytes = rest;
            value[..own.len()].copy_from_slice(own);
            self.common[column] & !low(width) | u64::from_le_bytes(value)
        })
    }

    fn get(&self, at: usize) -> Option<Row> {
        let stride = self.stride();
        let start = (self.taken + at) * stride;
        self.bytes
            .get(start..start + stride)
            .map(|own| self.row(own))
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows_from(0)
    }

    fn rows_from(&self, at: usize) -> impl Iterator<Item = Row> {
        let stride = self.stride();
        let bytes = self.bytes.get((self.taken + at) * stride..).unwrap_or(&[]);
        bytes.chunks_exact(stride).map(|own| self.row(own))
    }

    /// Where the first row not below `key` is, or would be, and whether it has that key.
    fn place(&self, key: Key) -> (usize, bool) {
        let (mut first, mut end) = (0, self.len());
        while first < end {
            let middle = usize::midpoint(first, end);
            let found = self.get(middle).map(|row| key_of(&row).cmp(&key));
            match found {
                Some(Ordering::Less) => first = middle + 1,
                Some(Ordering::Equal) => return (middle, true),
                Some(Ordering::Greater) | None => end = middle,
            }
        }
        (first, false)
    }

    fn insert(&mut self, at: usize, row: &Row) {
        let widths = self.widths_with(row);
        if widths != self.widths {
            let mut rows: Vec<Row> = self.rows().collect();
            rows.insert(at, *row);
            *self = Leaf::of(&rows);
            return;
        }
        let stride = self.stride();
        if self.bytes.len() + stride > self.bytes.capacity() {
            self.bytes.reserve_exact(LEAF_STEP * stride);
        }
        let start = (self.taken + at) * stride;
        self.bytes.splice(start..start, self.low_bytes(row));
    }

    fn remove(&mut self, at: usize) {
        let stride = self.stride();
        if at == 0 {
            self.taken += 1;
        } else {
            let start = (self.taken + at) * stride;
            self.bytes.drain(start..start + stride);
        }
        let room = self.bytes.capacity() / stride - self.len();
        if room > 4 * LEAF_STEP {
            self.bytes.drain(..self.taken * stride);
            self.taken = 0;
            self.bytes.shrink_to(self.bytes.len() + LEAF_STEP * stride);
        }
    }

    /// Keeps the lower half and gives the upper one.
    fn split(&mut self) -> Leaf {
        let rows: Vec<Row> = self.rows().collect();
        let (lower, upper) = rows.split_at(rows.len() / 2);
        *self = Leaf::of(lower);
        Leaf::of(upper)
    }
}

impl Timeline {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, pending: Pending) {
        let row = pack(&pending);
        let key = key_of(&row);
        let Some(bound) = self.bound_of(key) else {
            // Below all leaves: the first one's bound is lowered to it.
            match self.leaves.pop_first() {
                Some((_, mut leaf)) => {
                    leaf.insert(0, &row);
                    self.put(key, leaf);
                }
                None => self.put(key, Leaf::of(&[row])),
            }
            self.len += 1;
            return;
        };
        let Some(leaf) = self.leaves.get_mut(&bound) else {
            return;
        };
        let (at, is_known) = leaf.place(key);
        if is_known {
            leaf.remove(at);
        } else {
            self.len += 1;
        }
        if at == leaf.len() && leaf.len() == LEAF_MAX {
            self.leaves.insert(key, Leaf::of(&[row]));
            return;
        }
        leaf.insert(at, &row);
        if leaf.len() > LEAF_MAX {
            let upper = leaf.split();
            self.put_new(upper);
        }
    }

    fn put(&mut self, bound: Key, mut leaf: Leaf) {
        if leaf.len() > LEAF_MAX {
            let upper = leaf.split();
            self.put_new(upper);
        }
        self.leaves.insert(bound, leaf);
    }

    fn put_new(&mut self, leaf: Leaf) {
        if let Some(first) = leaf.get(0) {
            self.leaves.insert(key_of(&first), leaf);
        }
    }

    /// The bound of the leaf that holds `key` if any does.
    fn bound_of(&self, key: Key) -> Option<Key> {
        let mut below = self.leaves.range(..=key);
        below.next_back().map(|(bound, _)| *bound)
    }

    pub(crate) fn get(&self, deliver_at: Timestamp, number: EntryNumber) -> Option<Pending> {
        let key = key(deliver_at, number);
        let (_, leaf) = self.leaves.range(..=key).next_back()?;
        let (at, is_known) = leaf.place(key);
        is_known.then(|| leaf.get(at).map(unpack))?
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, deliver_at: Timestamp, number: EntryNumber) -> bool {
        let key = key(deliver_at, number);
        let Some(bound) = self.bound_of(key) else {
            return false;
        };
        let Some(leaf) = self.leaves.get_mut(&bound) else {
            return false;
        };
        let (at, is_known) = leaf.place(key);
        if !is_known {
            return false;
        }
        leaf.remove(at);
        self.len -= 1;
        if leaf.len() == 0 {
            self.leaves.remove(&bound);
        }
        true
    }

    /// In the order they are due.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pending> {
        self.leaves.values().flat_map(Leaf::rows).map(unpack)
    }

    /// Those behind one, which need not be there.
    pub(crate) fn after(
        &self,
        at: Timestamp,
        number: EntryNumber,
    ) -> impl Iterator<Item = Pending> {
        let key = key(at, number);
        let first = self.bound_of(key).unwrap_or(key);
        let leaves = self.leaves.range(first..).map(|(_, leaf)| leaf);
        let rows = leaves.flat_map(move |leaf| leaf.rows_from(leaf.place(key).0));
        rows.filter(move |row| key_of(row) != key).map(unpack)
    }
}

/// The same messages, however they lie in leaves.
impl PartialEq for Timeline {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Timeline {}

/// A leaf in a snapshot: its columns' widths, what is common, and its rows' low bytes.
type Saved = ([u8; COLUMNS], Row, Bytes);

impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.leaves.values().map(|leaf| {
            let gone = leaf.taken * leaf.stride();
            let bytes = leaf.bytes.get(gone..).unwrap_or(&[]);
            let saved: Saved = (leaf.widths, leaf.common, Bytes::copy_from_slice(bytes));
            saved
        }))
    }
}

impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut timeline = Self::default();
        for (widths, common, bytes) in Vec::<Saved>::deserialize(deserializer)? {
            let leaf = Leaf {
                widths,
                common,
                bytes: bytes.into(),
                taken: 0,
            };
            let is_wide = widths.iter().any(|width| *width > 8) || widths[NUMBER] == 0;
            if is_wide || leaf.bytes.is_empty() || !leaf.bytes.len().is_multiple_of(leaf.stride()) {
                return Err(Error::custom("a leaf of delayed messages is damaged"));
            }
            timeline.len += leaf.len();
            timeline.put_new(leaf);
        }
        Ok(timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::iter;

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
    fn a_hundred_thousand_take_little_more_than_11_bytes_each() {
        let mut random = 1u64;
        for in_order in [true, false] {
            let mut timeline = Timeline::default();
            for number in 0..100_000 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                // Within two days, if not as they come.
                let day = 86_400_000;
                let at = if in_order {
                    number
                } else {
                    (random >> 20) % (2 * day)
                };
                timeline.insert(pending(at, number));
            }
            let leaves = timeline.leaves.values();
            let bytes: usize = leaves.map(|leaf| leaf.bytes.capacity() + 128).sum();
            assert!(bytes / timeline.len() <= 12, "{}", bytes / timeline.len());
        }
    }

    /// Each column at its greatest, beside its least.
    #[test]
    fn every_value_comes_back() {
        let deadlines = [0, 1, 255, 256, 1_732_000_000_000, i64::MAX];
        let numbers = [0, 1, 0xffff, 0x1_0000, u64::MAX];
        let places = [0, 1, (1 << 40) - 1, 1 << 40, u64::MAX >> 1];
        let sizes = [0, 64, 255 * 64, 256 * 64, 65_535 * 64];
        let mut all: Vec<Pending> = Vec::new();
        for (at, number) in deadlines
            .iter()
            .flat_map(|at| iter::repeat(at).zip(numbers))
        {
            let turn = all.len();
            all.push(Pending {
                deliver_at: Timestamp(*at),
                number: EntryNumber(number),
                payload_at: Offset(places[turn % places.len()]),
                is_logged: turn.is_multiple_of(2),
                bytes: sizes[turn / 2 % sizes.len()],
            });
        }
        for order in 0..3 {
            let mut timeline = Timeline::default();
            match order {
                0 => all.iter().for_each(|one| timeline.insert(*one)),
                1 => all.iter().rev().for_each(|one| timeline.insert(*one)),
                _ => (0..all.len()).for_each(|turn| timeline.insert(all[turn * 7 % all.len()])),
            }
            assert!(timeline.iter().eq(all.iter().copied()), "{order}");
        }
    }

    #[test]
    fn a_damaged_leaf_is_refused() {
        let good: Saved = ([1, 1, 1, 1], [0; 4], Bytes::from_static(&[1; 8]));
        let bad: [Saved; 4] = [
            ([9, 1, 1, 1], [0; 4], Bytes::from_static(&[1; 12])),
            ([1, 0, 1, 1], [0; 4], Bytes::from_static(&[1; 3])),
            ([1, 1, 1, 1], [0; 4], Bytes::from_static(&[1; 7])),
            ([1, 1, 1, 1], [0; 4], Bytes::new()),
        ];
        let read = |leaf: Saved| {
            let bytes = postcard::to_stdvec(&vec![leaf]).unwrap();
            postcard::from_bytes::<Timeline>(&bytes)
        };
        assert_eq!(read(good).unwrap().len(), 2);
        for leaf in bad {
            read(leaf.clone()).expect_err(&format!("{leaf:?}"));
        }
    }
}
