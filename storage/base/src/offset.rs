//! Positions in a partition's log.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A record's position in its partition. All ranges are half-open, so an
/// `Offset` that ends a range (log end, high watermark) is exclusive.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Offset = Offset(0);

    /// The wire's signed form; offsets stay below 2^63 by assignment.
    #[must_use]
    pub fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// From the wire's signed form; `None` for the negative sentinels.
    #[must_use]
    pub fn from_wire(value: i64) -> Option<Offset> {
        u64::try_from(value).ok().map(Offset)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Add<u64> for Offset {
    type Output = Offset;
    fn add(self, records: u64) -> Offset {
        Offset(self.0 + records)
    }
}

/// The number of offsets between two positions; panics if `rhs` is the later one.
impl Sub for Offset {
    type Output = u64;
    fn sub(self, rhs: Offset) -> u64 {
        self.0 - rhs.0
    }
}
