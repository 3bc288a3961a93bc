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
    /// A committed offset regresses only by an admin's reset and never exceeds the high watermark.
    G1,
    /// Two live members of one group generation never own the same partition.
    G2,
}
