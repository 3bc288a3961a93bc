//! Bytes from outside: every decoder that reads what a client, a peer or a disk gave.
//!
//! A target is a plain function of bytes. Whatever they are, it must return: never
//! panic, hang, or hold memory out of proportion to them. Where more can be said it is
//! asserted: what decodes encodes to the same, what was recovered is recovered again.
//! Called by `tests/fuzz.rs` (the corpus and changes of it, in every build) and by
//! the libfuzzer targets of the `fuzz` directory. Async targets run in one thread, on
//! time that jumps ([`world`]), so that equal bytes give equal runs and a wait of days
//! takes none.
//!
//! [`canary`] and [`greedy_canary`] believe a length they read: who runs the targets
//! must see them fail.

mod change;
mod decoders;
mod kafka;
mod peers;
pub mod seeds;
mod storage;
mod world;

pub use decoders::{batch, canary, greedy_canary, group_record, metadata_command};
pub use kafka::kafka_session;
pub use peers::peer_frame;
pub use storage::{segment_recovery, wal_recovery};

pub use change::{Change, plainly};

/// A target and how its inputs are changed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the function, of its corpus directory and of its libfuzzer target.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// What makes a new input of one of the corpus. Half of what it gives has its
    /// checksums or length prefixes mended, to get behind their check.
    pub change: Change,
}

/// All targets that must hold.
pub const TARGETS: &[Target] = &[
    Target {
        name: "batch",
        run: batch,
        change: change::batch,
    },
    Target {
        name: "kafka_session",
        run: kafka_session,
        change: change::kafka,
    },
    Target {
        name: "segment_recovery",
        run: segment_recovery,
        change: change::segment,
    },
    Target {
        name: "wal_recovery",
        run: wal_recovery,
        change: change::wal,
    },
    Target {
        name: "peer_frame",
        run: peer_frame,
        change: plainly,
    },
    Target {
        name: "metadata_command",
        run: metadata_command,
        change: plainly,
    },
    Target {
        name: "group_record",
        run: group_record,
        change: plainly,
    },
];
