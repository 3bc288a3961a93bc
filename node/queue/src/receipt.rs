//! Handles that clients hold: receipts of deliveries, handles of delayed and half messages.
//!
//! Opaque text outside: `<partition>.<numbers in hexadecimal>.<seal>`. The partition is
//! in front so that a call finds its machine. The seal is a keyed hash over all of it, by
//! a secret of the journal, so a handle that was not given is told from one that is over.

use std::fmt;

use weir_base::{Offset, Timestamp};

use crate::ids::{EntryNumber, GroupNumber, sip_hash};

/// The journal's secret: drawn once, kept for ever.
pub type Secret = (u64, u64);

/// Entitles to settle one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    /// Index of the partition that gave it.
    pub partition: u32,
    /// Which leadership of the journal gave it.
    pub(crate) reign: u64,
    /// Which delivery of that leadership.
    pub(crate) lease: u64,
    /// The group.
    pub group: GroupNumber,
    /// The message.
    pub offset: Offset,
    /// Which attempt, from 1.
    pub attempt: u16,
    seal: u64,
}

/// Names a delayed message, to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleHandle {
    /// Index of the partition that gave it.
    pub partition: u32,
    /// When it is due.
    pub deliver_at: Timestamp,
    /// Its number.
    pub number: EntryNumber,
    seal: u64,
}

/// Names a half message, to decide on it: the transaction id of fronts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HalfHandle {
    /// Index of the partition that gave it.
    pub partition: u32,
    /// Its number.
    pub number: EntryNumber,
    seal: u64,
}

fn seal(secret: Secret, kind: u64, partition: u32, numbers: &[u64]) -> u64 {
    let mut bytes = [0; 8 * 8];
    let words = [kind, partition.into()].into_iter();
    let places = bytes.as_chunks_mut::<8>().0.iter_mut();
    for (place, word) in places.zip(words.chain(numbers.iter().copied())) {
        *place = word.to_le_bytes();
    }
    sip_hash(secret, &bytes)
}

impl Receipt {
    /// Sealed with the journal's secret.
    #[must_use]
    pub fn new(
        secret: Secret,
        partition: u32,
        (reign, lease): (u64, u64),
        (group, offset): (GroupNumber, Offset),
        attempt: u16,
    ) -> Self {
        let mut receipt = Self {
            partition,
            reign,
            lease,
            group,
            offset,
            attempt,
            seal: 0,
        };
        receipt.seal = receipt.sealed(secret);
        receipt
    }

    fn numbers(&self) -> [u64; 5] {
        let attempt = u64::from(self.attempt);
        [self.reign, self.lease, self.group.0, self.offset.0, attempt]
    }

    fn sealed(&self, secret: Secret) -> u64 {
        seal(secret, 1, self.partition, &self.numbers())
    }

    /// Whether this partition's journal gave it.
    #[must_use]
    pub fn is_sealed_by(&self, secret: Secret, partition: u32) -> bool {
        self.partition == partition && self.seal == self.sealed(secret)
    }

    /// Reads the text form; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, [reign, lease, group, offset, attempt, seal]) = parse(text)?;
        Some(Self {
            partition,
            reign,
            lease,
            group: GroupNumber(group),
            offset: Offset(offset),
            attempt: u16::try_from(attempt).ok()?,
            seal,
        })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.partition, &self.numbers(), self.seal)
    }
}

impl ScheduleHandle {
    /// Sealed with the journal's secret.
    #[must_use]
    pub fn new(secret: Secret, partition: u32, deliver_at: Timestamp, number: EntryNumber) -> Self {
        let mut handle = Self {
            partition,
            deliver_at,
            number,
            seal: 0,
        };
        handle.seal = seal(secret, 2, partition, &handle.numbers());
        handle
    }

    fn numbers(&self) -> [u64; 2] {
        [self.deliver_at.0.cast_unsigned(), self.number.0]
    }

    /// Whether this partition's journal gave it.
    #[must_use]
    pub fn is_sealed_by(&self, secret: Secret, partition: u32) -> bool {
        self.partition == partition && self.seal == seal(secret, 2, partition, &self.numbers())
    }

    /// Reads the text form; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, [at, number, seal]) = parse(text)?;
        Some(Self {
            partition,
            deliver_at: Timestamp(at.cast_signed()),
            number: EntryNumber(number),
            seal,
        })
    }
}

impl fmt::Display for ScheduleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.partition, &self.numbers(), self.seal)
    }
}

impl HalfHandle {
    /// Sealed with the journal's secret.
    #[must_use]
    pub fn new(secret: Secret, partition: u32, number: EntryNumber) -> Self {
        let seal = seal(secret, 3, partition, &[number.0]);
        Self {
            partition,
            number,
            seal,
        }
    }

    /// Whether this partition's journal gave it.
    #[must_use]
    pub fn is_sealed_by(&self, secret: Secret, partition: u32) -> bool {
        self.partition == partition && self.seal == seal(secret, 3, partition, &[self.number.0])
    }

    /// Reads the text form; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (partition, [number, seal]) = parse(text)?;
        Some(Self {
            partition,
            number: EntryNumber(number),
            seal,
        })
    }
}

impl fmt::Display for HalfHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self.partition, &[self.number.0], self.seal)
    }
}

fn print(f: &mut fmt::Formatter<'_>, partition: u32, numbers: &[u64], seal: u64) -> fmt::Result {
    write!(f, "{partition}.")?;
    for number in numbers {
        write!(f, "{number:x}.")?;
    }
    write!(f, "{seal:016x}")
}

/// Exactly the partition and `N` numbers.
fn parse<const N: usize>(text: &str) -> Option<(u32, [u64; N])> {
    let mut parts = text.split('.');
    // Neither signs nor spaces, which `from_str_radix` would take in part.
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let partition = parts.next().filter(|part| digits(part))?.parse().ok()?;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let part = parts.next().filter(|part| digits(part))?;
        *number = u64::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some((partition, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Secret = (7, 9);

    #[test]
    fn text_round_trips_and_one_changed_character_is_noticed() {
        let receipt = Receipt::new(
            SECRET,
            3,
            (65_536, 42),
            (GroupNumber(70_000), Offset(1 << 40)),
            16,
        );
        let text = receipt.to_string();
        assert_eq!(Receipt::parse(&text), Some(receipt));
        assert!(receipt.is_sealed_by(SECRET, 3));
        assert!(!receipt.is_sealed_by(SECRET, 4) && !receipt.is_sealed_by((7, 8), 3));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
            let changed = Receipt::parse(std::str::from_utf8(&changed).unwrap());
            assert!(changed.is_none_or(|changed| !changed.is_sealed_by(SECRET, 3)));
        }
    }

    #[test]
    fn handles_of_one_kind_are_not_of_another() {
        let half = HalfHandle::new(SECRET, 1, EntryNumber(5));
        let schedule = ScheduleHandle::new(SECRET, 1, Timestamp(-9), EntryNumber(5));
        assert_eq!(HalfHandle::parse(&half.to_string()), Some(half));
        assert_eq!(ScheduleHandle::parse(&schedule.to_string()), Some(schedule));
        assert!(half.is_sealed_by(SECRET, 1) && schedule.is_sealed_by(SECRET, 1));
        assert_eq!(HalfHandle::parse(&schedule.to_string()), None);
        for bad in ["", ".", "1", "1.2", "1.+2.3", "1.2.3.4", "x.1.2", "1.2. 3"] {
            assert_eq!(HalfHandle::parse(bad), None, "{bad}");
        }
    }
}
