//! Bugs that can be planted, to prove that the tests and the simulator find them.
//!
//! `mutant!(M6)` stands at the line that the bug spoils and is `false` in every build
//! without the feature `mutants`: no release holds a trace of it. One bug is planted at a
//! time, in the thread that runs the simulation.

/// Whether the named bug is planted.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

/// Whether the named bug is planted.
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_planted($crate::mutant::Mutant::$name)
    };
}

#[cfg(feature = "mutants")]
pub use planted::{Mutant, is_planted, plant};

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Stands in every binary that holds planted bugs, and in no other: what is released is
    /// searched for it.
    const MARK: &str = "this build holds planted bugs";

    /// Plants `mutant` in this thread, or none.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    /// Whether it is the one planted in this thread.
    #[must_use]
    pub fn is_planted(mutant: Mutant) -> bool {
        std::hint::black_box(MARK);
        PLANTED.get() == Some(mutant)
    }

    macro_rules! mutants {
        ($($(#[$of:meta])* $list:ident { $($(#[$doc:meta])* $name:ident,)* })*) => {
            /// A planted bug: by its number in the list of mutants, or by a name of its own.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Mutant {
                $($($(#[$doc])* $name,)*)*
            }

            impl Mutant {
                $($(#[$of])* pub const $list: &[Mutant] = &[$(Mutant::$name,)*];)*
            }
        };
    }

    mutants! {
        /// Of what every node does: for the simulator.
        NODES {
            /// A new follower truncates to its high watermark (S-02).
            M1,
            /// The watermark counts the agreed ISR only (S-07).
            M2,
            /// An ISR proposal names the newest boot instead of the one that was seen (S-05).
            M3,
            /// The watermark ignores min ISR (S-01, S-04).
            M4,
            /// Written counts as durable (S-14).
            M5,
            /// A new segment's name is not synced (S-40).
            M6,
            /// A failed fsync is tried again, and the second try is believed (S-41).
            M7,
            /// A cut moves the end alone: old bytes stay valid behind it (S-10).
            M8,
            /// A follower joins the ISR before the leader epoch's start offset.
            M9,
            /// A new leader serves before its watermark reached that offset (S-21).
            M10,
            /// A cut leaves the producers as they were.
            M11,
            /// Only the last batch of a producer is known again.
            M12,
            /// A batch sent again is answered as out of order, for the client to try anew (S-19).
            M13,
            /// A cut journal leaves the machine's state as it was (S-11).
            M18,
            /// Corruption below the durable end is cut away like a torn tail (S-16).
            M19,
            /// After a power loss a copy that may lack its tail keeps its place (S-15).
            M20,
            /// A leader without its lease acknowledges in async replication (S-08).
            M21,
            /// A replica made anew keeps its name (S-06).
            M22,
            /// A vote is answered before it is on the disk (S-42).
            M23,
            /// Logs that the image does not name yet are deleted at the start (S-13).
            M24,
            /// A voter that came back with another disk counts in the group's quorum.
            M25,
            /// A follower accepts data of lower epochs and old sessions.
            M26,
            /// A reassignment ends with too few in sync (S-18).
            M27,
            /// A copy whose tail was cut is elected without asking the others (S-14).
            M29,
            /// A new controller fences who has not reported to it yet.
            M30,
            /// A lease counts for leaders that the node knows to be replaced (S-08).
            M31,
            /// A change of the metadata is answered by a node that has not applied it.
            M32,
            /// A change of configs is asked for again when its answer is lost.
            M33,
            /// A commit of an ended generation is accepted (S-24).
            M34,
            /// A frame is served whatever it follows: one that a misdirected write displaced, too.
            M35,
            /// Voters grant their leader no lease: one late heartbeat unseats it (S-46).
            L1,
            /// A follower whose stream was reset never opens another.
            L2,
            /// A leader whose disk stalls goes on leading (S-47).
            L4,
        }
        /// Of the data directory alone: for its model.
        DIRECTORIES {
            /// A start takes what it reads for what is on the disk, after a failed fsync too (S-41).
            CacheIsDisk,
        }
        /// Of the queue machine: for its model.
        QUEUES {
            /// A decision does not check which transaction it is for (S-26).
            M14,
            /// A second decision on a half message is accepted (S-38).
            M15,
            /// Delayed messages are forgotten when they are due, before they are appended (S-37).
            M16,
            /// A new leader appends what its predecessor was releasing once more (S-34).
            M17,
            /// A half message that nobody can be asked about stops the checks of all (S-39).
            M28,
            /// The cursor passes a block with a few messages that are not final.
            CursorLeaps,
            /// A receipt of an earlier attempt settles a later one.
            OldReceipts,
            /// A lease that runs out is no attempt.
            TimeoutsAreFree,
            /// A FIFO group goes on with a message group while its first message waits for a retry.
            RetryLetsFollowersPass,
            /// What was given behind a message of its message group stays so when that one fails.
            RunsOutliveFailures,
            /// A lease that runs out behind others of its message group is an attempt.
            FollowersPay,
            /// A message that failed too often is removed without a copy in the dead letters.
            DeadLettersVanish,
            /// A delayed message that is on its way is said to be cancelled.
            CancelLies,
            /// Ids of messages that are delivered at once are not remembered.
            DedupForgets,
            /// A dead letter that is moved back is not marked so.
            ReplayForgetsMark,
            /// A paced replay passes over what it may not move yet.
            ReplaySkips,
        }
    }
}
