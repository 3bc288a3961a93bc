//! Epochs: the numbers that fence the past. None of them ever falls (I9).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl $name {
            /// The epoch after this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

epoch! {
    /// Fences leaders of one partition; stamped into every batch they append.
    /// The first leader has 1, so that 0 is "before any leader".
    LeaderEpoch(u32)
}
epoch! {
    /// Counts changes of one partition's record (ISR, replicas, leader) in the image.
    PartitionEpoch(u32)
}
epoch! {
    /// One boot of one node: the metadata log index of its registration.
    NodeEpoch(u64)
}

impl LeaderEpoch {
    /// The wire's signed form.
    #[must_use]
    pub fn to_wire(self) -> i32 {
        i32::try_from(self.0).unwrap_or(i32::MAX)
    }

    /// From the wire's signed form; `None` for -1 ("not known").
    #[must_use]
    pub fn from_wire(value: i32) -> Option<LeaderEpoch> {
        u32::try_from(value).ok().map(LeaderEpoch)
    }
}
