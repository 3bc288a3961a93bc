//! The two questions every error answers.

/// What the caller, or the node, should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultClass {
    /// The caller's doing; the same request will fail again.
    Rejected,
    /// Not here or not now: another node, or later.
    Retry,
    /// This replica holds bad data: take it out and repair it from a peer.
    Quarantine,
    /// The data directory is dead for this process (a failed fsync is never retried).
    DiskLost,
    /// The node must stop.
    Stop,
}

/// What became of a write that returned an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Definitely not in any log.
    NotAppended,
    /// May be in the log now or later: time-outs and lost leadership.
    Indeterminate,
}
