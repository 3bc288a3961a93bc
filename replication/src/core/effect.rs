//! What the core wants done, and the messages two cores exchange.
//!
//! The shell carries effects out in order, to their end, before the next input: the
//! core never sees a half-done truncation. The model test does the same on toy logs.

use serde::{Deserialize, Serialize};
use weir_base::image::Durability;
use weir_base::{LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, Uuid};
use weir_storage::EpochEnd;

/// One attempt of a follower to follow: chosen by the follower, higher than every
/// earlier one, over restarts too. Claims made in an older session are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Session {
    /// The follower's boot.
    pub node_epoch: NodeEpoch,
    /// Counts within the boot.
    pub number: u64,
}

/// Follower to leader: "I stand here, send me what follows".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The epoch the follower believes in.
    pub leader_epoch: LeaderEpoch,
    /// Names this attempt.
    pub session: Session,
    /// The follower's replica, so that a former self is not taken for it (S-06).
    pub replica: Uuid,
    /// Its log start.
    pub start: Offset,
    /// Its log end offset.
    pub end: Offset,
    /// Its durable end offset.
    pub durable_end: Offset,
    /// Epoch of its last batch.
    pub last_epoch: LeaderEpoch,
}

/// Follower to leader: a claim of position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch it holds in.
    pub leader_epoch: LeaderEpoch,
    /// The session it holds in.
    pub session: Session,
    /// Log end offset.
    pub end: Offset,
    /// Durable end offset.
    pub durable_end: Offset,
}

/// Leader to follower, ahead of zero or more batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataHeader {
    /// The leader's epoch; lower ones than the follower knows are rejected.
    pub leader_epoch: LeaderEpoch,
    /// The session it belongs to.
    pub session: Session,
    /// The leader's high watermark.
    pub high_watermark: Offset,
    /// The leader's log start.
    pub log_start: Offset,
}

/// Leader to follower: why there is no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The logs differ: the leader's largest epoch not above the follower's last, and
    /// where it ended. The follower truncates and opens again.
    Diverging {
        /// That epoch.
        epoch: LeaderEpoch,
        /// One past its last offset.
        end: Offset,
    },
    /// The leader no longer holds what the follower misses: begin anew at its log start.
    Reset {
        /// The leader's log start.
        start: Offset,
    },
    /// Not the leader, not in that epoch, or not a replica it knows.
    Refused,
}

/// A change of the partition that the leader asks the controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsrProposal {
    /// The leader's epoch; must be the current one.
    pub leader_epoch: LeaderEpoch,
    /// The record it is based on; must be the current one.
    pub partition_epoch: PartitionEpoch,
    /// The ISR asked for, sorted by node, each with the boot it was seen in (S-05).
    pub isr: Vec<(NodeId, NodeEpoch)>,
    /// The pending durability whose flush barrier has passed, to be put in force.
    pub durability: Option<Durability>,
}

/// How a proposal was answered, apart from the new record itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsrAnswer {
    /// Agreed on; the record was given to `on_record` first.
    Agreed,
    /// Definitely not done, and never will be: the request was evaluated and refused.
    Refused,
    /// May have been done, or may yet be: no answer, or the record moved on meanwhile.
    Unknown,
}

/// What the shell must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append the control batch that starts the epoch, then call `on_appended`.
    AppendBarrier(LeaderEpoch),
    /// The high watermark rose to this: release waiters, wake readers, tell followers.
    AdvanceHighWatermark(Offset),
    /// Ask the controller, and bring its answer to `on_record` and `on_isr_answer`.
    ProposeIsr(IsrProposal),
    /// Start sending to a follower; one (empty) frame at once confirms the session.
    Stream {
        /// The follower.
        to: NodeId,
        /// Its session; whatever was sent in an older one stops.
        session: Session,
        /// First offset to send.
        from: Offset,
    },
    /// Tell a would-be follower why not.
    Answer {
        /// The follower.
        to: NodeId,
        /// Its session.
        session: Session,
        /// This leader's epoch, or the newest this node knows.
        leader_epoch: LeaderEpoch,
        /// Why.
        answer: Answer,
    },
    /// Ask the leader for data.
    Open {
        /// The leader.
        to: NodeId,
        /// The request.
        open: Open,
    },
    /// Tell the leader where this replica stands. A newer one replaces an older unsent one.
    Progress {
        /// The leader.
        to: NodeId,
        /// The claim.
        progress: Progress,
    },
    /// Cut the log, durably, then call `on_position`.
    TruncateTo {
        /// New end.
        to: Offset,
        /// How many offsets of the cut may have been acknowledged (asynchronous
        /// replication only): never silently lost, always counted.
        acknowledged: u64,
    },
    /// Forget the log and continue at this offset, then call `on_position`.
    ResetTo(Offset),
    /// Raise the log start, then call `on_position`.
    SetStart(Offset),
    /// This replica leads no longer: what waits is indeterminate; stop all streams.
    LeadershipLost,
    /// The ISR fell below min ISR: what waits for it is indeterminate.
    BelowMinIsr {
        /// ISR size.
        isr: u32,
        /// The floor.
        min_isr: u32,
    },
    /// Elected in an epoch of which the log already holds batches: a former run of this
    /// process led it. The controller must elect anew.
    LeadershipRefused(LeaderEpoch),
}

/// Effects in the order to carry them out.
pub type Effects = Vec<Effect>;

/// `EpochEnd` of a message.
impl Answer {
    pub(crate) fn diverging(found: EpochEnd) -> Answer {
        Answer::Diverging {
            epoch: found.epoch,
            end: found.end,
        }
    }
}
