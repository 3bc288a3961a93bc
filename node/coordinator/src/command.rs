//! What callers may ask of the group coordinator, and what it answers.
//!
//! One machine holds all groups whose id hashes to its journal partition. Terms and
//! rules are those of Kafka's classic group protocol (JoinGroup, SyncGroup, ...).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_base::{Offset, Timestamp, TopicId};

/// A consumer group's name.
pub type GroupId = Arc<str>;
/// A member's id, given by the coordinator: `<client id>-<uuid>`.
pub type MemberId = Arc<str>;

/// One wish of one caller.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum GroupCommand {
    Join(JoinGroup),
    Sync(SyncGroup),
    Heartbeat {
        group: GroupId,
        member: MemberId,
        instance: Option<Arc<str>>,
        generation: i32,
    },
    Leave {
        group: GroupId,
        members: Vec<LeavingMember>,
    },
    CommitOffsets(CommitOffsets),
    /// `partitions: None` asks for all of the group's.
    FetchOffsets {
        group: GroupId,
        partitions: Option<Vec<OffsetKey>>,
    },
    Describe {
        group: GroupId,
    },
    /// All groups of this machine.
    List,
    Delete {
        group: GroupId,
    },
    DeleteOffsets {
        group: GroupId,
        partitions: Vec<OffsetKey>,
    },
}

impl GroupCommand {
    /// The group it concerns, which decides the machine; `None` for `List`.
    #[must_use]
    pub fn group(&self) -> Option<&GroupId> {
        match self {
            GroupCommand::Join(join) => Some(&join.group),
            GroupCommand::Sync(sync) => Some(&sync.group),
            GroupCommand::CommitOffsets(commit) => Some(&commit.group),
            GroupCommand::Heartbeat { group, .. }
            | GroupCommand::Leave { group, .. }
            | GroupCommand::FetchOffsets { group, .. }
            | GroupCommand::Describe { group }
            | GroupCommand::Delete { group }
            | GroupCommand::DeleteOffsets { group, .. } => Some(group),
            GroupCommand::List => None,
        }
    }
}

/// A member (or one to be) joins a generation.
#[derive(Debug, Clone)]
pub struct JoinGroup {
    /// The group.
    pub group: GroupId,
    /// Its member id; `None` on the first call.
    pub member: Option<MemberId>,
    /// What to call it if it has none: the host draws `<client id>-<uuid>`, since the
    /// machine is pure.
    pub fresh_member_id: MemberId,
    /// Static membership (`group.instance.id`).
    pub instance: Option<Arc<str>>,
    /// Whether a newcomer must come again with the id it is given (JoinGroup v4+).
    pub member_id_required: bool,
    /// Whether the caller understands "keep your assignment" (JoinGroup v9+).
    pub skip_assignment_understood: bool,
    /// For describing.
    pub client_id: Arc<str>,
    /// For describing, `/address`.
    pub client_host: Arc<str>,
    /// Silence after which it is dead.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// `consumer`, `connect`, ...
    pub protocol_type: Arc<str>,
    /// Assignors it offers, preferred first, each with its opaque metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// A member asks for its assignment; the leader brings everybody's.
#[derive(Debug, Clone)]
pub struct SyncGroup {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member: MemberId,
    /// Static membership.
    pub instance: Option<Arc<str>>,
    /// The generation it joined.
    pub generation: i32,
    /// If told (v5+): must match the group's.
    pub protocol_type: Option<Arc<str>>,
    /// If told (v5+): must match the group's.
    pub protocol: Option<Arc<str>>,
    /// From the leader: each member's assignment.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Who leaves: by member id, or by instance id alone (an admin's way).
#[derive(Debug, Clone)]
pub struct LeavingMember {
    /// Member id; `None` to go by instance.
    pub member: Option<MemberId>,
    /// Instance id.
    pub instance: Option<Arc<str>>,
}

/// Offsets to store.
#[derive(Debug, Clone)]
pub struct CommitOffsets {
    /// The group.
    pub group: GroupId,
    /// The member, or `None` for a commit from outside the group protocol.
    pub member: Option<MemberId>,
    /// Static membership.
    pub instance: Option<Arc<str>>,
    /// The member's generation; -1 from outside.
    pub generation: i32,
    /// What to store.
    pub offsets: Vec<(OffsetKey, CommittedOffset)>,
}

/// A partition in a group's offsets. By name, as clients commit; `topic_id` pins the
/// incarnation, so that a topic made anew does not inherit offsets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OffsetKey {
    /// Topic name.
    pub topic: Arc<str>,
    /// Topic id.
    pub topic_id: TopicId,
    /// Partition.
    pub partition: u32,
}

/// A committed position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// Next to be consumed.
    pub offset: Offset,
    /// Epoch of the last record consumed, -1 if not told.
    pub leader_epoch: i32,
    /// The client's note, at most 4096 bytes.
    pub metadata: Arc<str>,
    /// When it was committed.
    pub at: Timestamp,
}

/// The answer to a [`GroupCommand`] of the same name.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum GroupReply {
    Join(Result<Joined, GroupError>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// One result a leaving member, in order; the outer error concerns the group.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    CommitOffsets(Result<(), GroupError>),
    FetchOffsets(Result<Vec<(OffsetKey, Option<CommittedOffset>)>, GroupError>),
    Describe(Result<GroupDescription, GroupError>),
    List(Vec<GroupListing>),
    Delete(Result<(), GroupError>),
    /// One result a partition, in order.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
}

/// A completed join.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The new generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Arc<str>,
    /// The protocol chosen.
    pub protocol: Arc<str>,
    /// Who assigns.
    pub leader: MemberId,
    /// The caller's id.
    pub member: MemberId,
    /// Whether the leader need not assign anew (static member came back unchanged).
    pub skip_assignment: bool,
    /// For the leader only: everybody with instance id and metadata.
    pub members: Vec<(MemberId, Option<Arc<str>>, Bytes)>,
}

/// An assignment.
#[derive(Debug, Clone)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Arc<str>,
    /// The protocol chosen.
    pub protocol: Arc<str>,
    /// The caller's share, opaque.
    pub assignment: Bytes,
}

/// Why the coordinator refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// Not a legal group name.
    #[error("group id is empty or too long")]
    InvalidGroupId,
    /// Come again with this id (JoinGroup v4+).
    #[error("join again with member id {0}")]
    MemberIdRequired(MemberId),
    /// The group does not know the member: join again.
    #[error("member is unknown to the group")]
    UnknownMember,
    /// Another process took the static member's place.
    #[error("another member took this instance id")]
    FencedInstance,
    /// The member's generation is over.
    #[error("generation is not the group's current one")]
    IllegalGeneration,
    /// The group is rebalancing: join again.
    #[error("group is rebalancing")]
    RebalanceInProgress,
    /// No assignor or protocol type in common.
    #[error("no group protocol in common with the other members")]
    InconsistentProtocol,
    /// Outside the allowed range.
    #[error("session timeout is outside {min:?}..{max:?}")]
    InvalidSessionTimeout {
        /// Least allowed.
        min: Duration,
        /// Most allowed.
        max: Duration,
    },
    /// The group has its greatest size, in members or in bytes.
    #[error("group has reached its maximum size")]
    GroupFull,
    /// Only an empty group can be deleted.
    #[error("group has members")]
    NotEmpty,
    /// No such group.
    #[error("group does not exist")]
    NoSuchGroup,
    /// Offsets of a topic that the group's members subscribe to cannot be deleted.
    #[error("group is subscribed to the topic")]
    Subscribed,
    /// A note of a commit is longer than 4096 bytes, or the commit is too large.
    #[error("offset metadata is too long")]
    MetadataTooLong,
}

/// A group, as admins see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupDescription {
    /// The group.
    pub group: GroupId,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: GroupState,
    /// Its protocol type.
    pub protocol_type: Arc<str>,
    /// The protocol chosen, empty unless stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A group member, as admins see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct MemberDescription {
    pub member: MemberId,
    pub instance: Option<Arc<str>>,
    pub client_id: Arc<str>,
    pub client_host: Arc<str>,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A line of the group list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub struct GroupListing {
    pub group: GroupId,
    pub protocol_type: Arc<str>,
    pub state: GroupState,
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl GroupState {
    /// The protocol's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}
