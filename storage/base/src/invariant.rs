//! What must always hold, numbered once. Asserts and checkers cite these numbers.

/// An invariant of the whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// One leader per partition and leader epoch; one Raft leader per term.
    I1,
    /// Logs match below the lesser of two high watermarks; same offset and epoch, same bytes.
    I2,
    /// The true high watermark never falls, and acknowledged data stays at its offset.
    I3,
    /// Every running ISR or ELR member holds all below the true high watermark, as durably as the mode says.
    I4,
    /// A serving leader's maximal ISR contains the controller's ISR and ELR.
    I5,
    /// A full ISR leaves the ELR empty; ISR and ELR are disjoint subsets of the replicas.
    I6,
    /// ISR, ELR and last known ELR together stay at min ISR once they were.
    I7,
    /// No consumer sees a record above the high watermark.
    I8,
    /// Leader, partition and node epochs never fall at any observer.
    I9,
    /// A fenced node leads nothing after its lease.
    I10,
    /// Per producer and epoch, sequences in the log are gapless and unique.
    I11,
    /// After a restart the disk holds a state that its fsync history allows.
    I12,
    /// At most one decision per transaction.
    I13,
    /// Pending timers equal the fold of the log.
    I14,
    /// A broker's image is a prefix of the committed metadata log.
    I15,
    /// A message of a queue is in exactly one state, and at most one receipt for it is live.
    Q1,
    /// Acknowledged and dead-lettered are for ever; ended attempts never fall, and none beyond the maximum is delivered.
    Q2,
    /// Within a message group, message n+1 is not delivered while n is invisible, unless behind it in one answer.
    Q3,
    /// Nothing is visible before its delivery time; a rolled-back half message is never visible; an undecided one is asked about until decided.
    Q4,
    /// A machine's durable state is the fold of its journal: replay from the snapshot and from the start agree.
    Q5,
    /// A committed offset regresses only by an admin's reset and never exceeds the high watermark.
    G1,
    /// Two live members of one group generation never own the same partition.
    G2,
}
