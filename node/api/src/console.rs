//! The admin API's JSON: what the console answers and the command line reads.
//!
//! Fields are only ever added. Times are milliseconds since the Unix epoch.

mod settings;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use settings::{
    BackoffView, ExponentialView, NamedBackoff, QueueSettingsView, parse_on_full, parse_target,
    show_on_full, show_target,
};

/// Whether a node serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Registered, active, its fronts listen, and every partition it knows has a leader.
    pub ready: bool,
    /// The node.
    pub node: u32,
    /// Why it is not ready, for people; empty if it is.
    pub reasons: Vec<String>,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word for programs, such as `unknown_topic`.
    pub error: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The admin address of the node that can answer, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}

/// `GET /v1/cluster`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// The cluster's id; none before it is formed.
    pub cluster_id: Option<String>,
    /// How new the answering node's image is: an index of the metadata log.
    pub version: u64,
    /// The answering node.
    pub node: u32,
    /// The leader of the metadata group, if known.
    pub controller: Option<u32>,
    /// All nodes, by id.
    pub nodes: Vec<NodeView>,
    /// Topics, internal ones included.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions that nobody leads.
    pub leaderless: usize,
    /// Partitions whose ISR is smaller than their replicas.
    pub under_replicated: usize,
    /// Partitions whose ISR is below min ISR: they take no writes.
    pub under_min_isr: usize,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `fenced`, `active` or `draining`.
    pub state: String,
    /// Its boot: the metadata log index of its registration.
    pub epoch: u64,
    /// Its rack.
    pub rack: Option<String>,
    /// Where other nodes reach it.
    pub peer: String,
    /// Where clients reach it, by front.
    pub endpoints: BTreeMap<String, String>,
    /// Partitions it leads.
    pub leads: usize,
    /// Partitions it has a replica of.
    pub replicas: usize,
}

/// A line of `GET /v1/topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicLine {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Made by Weir for itself.
    pub internal: bool,
    /// Its partitions.
    pub partitions: usize,
    /// Replicas of its first partition.
    pub replication_factor: usize,
    /// `sync` or `async`.
    pub flush: String,
    /// `sync` or `async`.
    pub replication: String,
    /// Partitions that nobody leads.
    pub leaderless: usize,
    /// Partitions whose ISR is smaller than their replicas.
    pub under_replicated: usize,
}

/// `POST /v1/topics`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// Partitions; the cluster's default if not told.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Replicas; the cluster's default if not told.
    #[serde(default)]
    pub replication_factor: Option<u16>,
    /// Instead of both: the nodes of each partition, preferred leader first.
    #[serde(default)]
    pub assignment: Option<Vec<Vec<u32>>>,
    /// Topic configs.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Only check.
    #[serde(default)]
    pub validate_only: bool,
}

/// `PATCH /v1/topics/{name}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlterTopic {
    /// The number of partitions to grow to.
    #[serde(default)]
    pub partitions: Option<u32>,
    /// Configs to set.
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
    /// Configs to return to their defaults.
    #[serde(default)]
    pub unset: Vec<String>,
    /// Only check.
    #[serde(default)]
    pub validate_only: bool,
}

/// The answer to a change that was made or, if it was asked, only checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, for people.
    pub message: String,
    /// The topic's id, when one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// `GET /v1/topics/{name}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Made by Weir for itself.
    pub internal: bool,
    /// All its configs.
    pub configs: Vec<ConfigView>,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionView>,
}

/// A config in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Whether it was set, and not the default.
    pub is_set: bool,
    /// What it does.
    pub documentation: String,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionView {
    /// Its index.
    pub partition: u32,
    /// Its leader.
    pub leader: Option<u32>,
    /// The leader's epoch.
    pub leader_epoch: u32,
    /// Nodes with a replica, preferred leader first.
    pub replicas: Vec<u32>,
    /// In-sync replicas.
    pub isr: Vec<u32>,
    /// Eligible leaders outside the ISR.
    pub elr: Vec<u32>,
    /// Being added.
    pub adding: Vec<u32>,
    /// Being removed.
    pub removing: Vec<u32>,
    /// ISR size below which writes are refused.
    pub min_isr: u32,
    /// `sync` or `async`.
    pub flush: String,
    /// `sync` or `async`.
    pub replication: String,
    /// Its offsets; none if the answering node does not lead it.
    pub offsets: Option<OffsetsView>,
}

/// A partition's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsView {
    /// First retained.
    pub log_start: u64,
    /// End of what is committed.
    pub high_watermark: u64,
}

/// `GET /v1/topics/{name}/offsets?at=earliest|latest|<milliseconds>`: for each partition
/// that the answering node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundOffsets {
    /// The topic.
    pub topic: String,
    /// Offsets by partition; for a time, the high watermark if no record is as young.
    pub offsets: BTreeMap<u32, u64>,
}

/// A line of `GET /v1/groups`: groups that the answering node coordinates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupLine {
    /// Its id.
    pub group: String,
    /// Kafka's word: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`, `Dead`.
    pub state: String,
    /// `consumer`, `connect`, ...; empty for a group that only commits.
    pub protocol_type: String,
    /// The node that coordinates it.
    pub coordinator: u32,
}

/// `GET /v1/groups/{group}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its id.
    pub group: String,
    /// Kafka's word.
    pub state: String,
    /// Its protocol type.
    pub protocol_type: String,
    /// The assignor chosen.
    pub protocol: String,
    /// The node that coordinates it.
    pub coordinator: u32,
    /// Its members.
    pub members: Vec<GroupMemberView>,
    /// What it committed.
    pub offsets: Vec<CommittedView>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMemberView {
    /// Its id.
    pub member: String,
    /// Its static id.
    pub instance: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// Its partitions by topic; none if they are not in Kafka's consumer format.
    pub assignment: Option<BTreeMap<String, Vec<u32>>>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedView {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to be consumed.
    pub offset: u64,
    /// The client's note.
    pub metadata: String,
    /// When it was committed.
    pub at: i64,
    /// High watermark; none if the answering node does not lead the partition.
    pub end: Option<u64>,
}

/// `POST /v1/groups/{group}/offsets`: commits in the place of an empty group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetOffsets {
    /// What to commit.
    pub offsets: Vec<ResetOffset>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The next offset to be consumed.
    pub offset: u64,
}

/// A line of `GET /v1/queues`: one group on one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueLine {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The group.
    pub group: String,
    /// All messages below are final for it, in blocks of 128.
    pub cursor: u64,
    /// End of the partition.
    pub end: u64,
    /// Messages that are not final.
    pub lag: u64,
    /// Read ahead and not delivered.
    pub ready: u64,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// Waiting for a retry.
    pub retrying: u64,
    /// Receives that wait.
    pub waiting: u64,
    /// Acknowledged so far.
    pub acked: u64,
    /// Moved to the dead letters so far.
    pub dead_lettered: u64,
    /// The node that leads it.
    pub node: u32,
    /// When the oldest message that is not final was stored; none if there is none.
    #[serde(default)]
    pub oldest: Option<i64>,
    /// How many messages may wait: the group's own limit or the topic's; none: no limit.
    #[serde(default)]
    pub capacity: Option<u64>,
    /// What happens to more: `reject`, `drop-oldest` or `redirect`.
    #[serde(default)]
    pub on_full: String,
    /// What is set for it.
    #[serde(default)]
    pub settings: QueueSettingsView,
    /// When it is forgotten, should nobody ask for messages until then; none: never.
    #[serde(default)]
    pub expires_at: Option<i64>,
}

/// A line of `GET /v1/queues-watch`: what one partition's queues keep beside their groups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueStoreLine {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Delayed messages that are not due.
    pub delayed: u64,
    /// Half messages that nobody decided on.
    pub halves: u64,
    /// Of them, those that are asked about no more: an operator must decide.
    pub halves_parked: u64,
    /// Messages on their way elsewhere.
    pub outgoing: u64,
    /// Messages that were refused elsewhere: an operator must send them on.
    pub undeliverable: u64,
}

/// A line of `GET /v1/queues/{topic}/undeliverable`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UndeliverableLine {
    /// Its partition.
    pub partition: u32,
    /// Names it on its partition.
    pub number: u64,
    /// When it was set aside.
    pub at: i64,
    /// Where it was to go: a topic and a partition.
    pub to: String,
    /// Why it was refused.
    pub reason: String,
    /// Its message id; empty if it has none.
    pub id: String,
}

/// `POST /v1/queues/{topic}/undeliverable/{partition}`: sends messages on, at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendOn {
    /// Which; none: all of the partition.
    #[serde(default)]
    pub numbers: Vec<u64>,
    /// To partition 0 of this topic; none: where they were to go.
    #[serde(default)]
    pub to: Option<String>,
}

/// A line of `GET /v1/queues/{topic}/gaps/{group}`: offsets at which a group found no record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GapLine {
    /// The partition.
    pub partition: u32,
    /// The first of them.
    pub from: u64,
    /// How many.
    pub offsets: u64,
}

/// `PATCH /v1/queues/{topic}/groups/{group}`: what is left out stays, or is the default of
/// a group that this makes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlterQueueGroup {
    /// Deliveries of one message before it is dead-lettered.
    pub attempts: Option<u16>,
    /// The pause before another one.
    pub backoff: Option<BackoffView>,
    /// Whether messages of one message group are delivered one after the other.
    pub fifo: Option<bool>,
    /// Lease of a receive that names none, ms.
    pub lease: Option<u64>,
    /// Deliveries a second, of all partitions together; 0: as fast as it asks.
    pub rate: Option<u32>,
    /// Messages delivered and not settled, of all partitions together; 0: no limit.
    pub concurrency: Option<u32>,
    /// The same of one message group or key; 0: no limit.
    pub key_concurrency: Option<u32>,
    /// Where messages go that failed too often: `topic` or `topic:partition`; empty:
    /// `dlq.<group>`.
    pub dead_letter: Option<String>,
    /// How many messages may wait for it on each partition; 0: as many as for the topic.
    pub capacity: Option<u64>,
    /// What happens to more: `reject`, `drop-oldest` or `redirect:topic:partition`.
    pub on_full: Option<String>,
    /// The broadcast that it subscribes to; empty: it competes.
    pub broadcast: Option<String>,
    /// Whether an older version of a key is left out once a newer one was delivered.
    pub versioned: Option<bool>,
    /// Forgotten after so long without a receive, ms; 0: 24 h for a subscriber of a
    /// broadcast, else never.
    pub expires: Option<u64>,
    /// Whether a group that this makes begins at the start of the topic; else at its end.
    pub from_start: bool,
}

/// The answer: on how many partitions, those that the node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlteredQueueGroup {
    /// How many.
    pub partitions: usize,
}

/// A line of `GET /v1/queues/{topic}/delayed`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DelayedLine {
    /// When it is due.
    pub deliver_at: i64,
    /// Its partition.
    pub partition: u32,
    /// Names it, to cancel it.
    pub handle: String,
    /// Its message id; empty if it has none.
    pub id: String,
}

/// A line of `GET /v1/queues/{topic}/halves`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HalfView {
    /// When it was prepared.
    pub prepared_at: i64,
    /// Its partition.
    pub partition: u32,
    /// Names it, to decide on it.
    pub handle: String,
    /// Its message id; empty if it has none.
    pub id: String,
    /// The group of producers that can be asked.
    pub producers: String,
    /// How often it was asked about.
    pub checks: u32,
    /// Whether it is asked about no more.
    pub parked: bool,
}

/// `POST /v1/queues/{topic}/halves/{handle}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideHalf {
    /// Whether it is committed; else rolled back.
    pub commit: bool,
}

/// A line of `GET /v1/queues/{topic}/trace/{partition}/{offset}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingView {
    /// The group.
    pub group: String,
    /// `not-reached`, `final`, `ready`, `queued`, `delayed`, `in-flight` or `retrying`.
    pub standing: String,
    /// Attempts that ended, oldest first: cause and time.
    pub ended: Vec<(String, i64)>,
    /// Who has it, if it is in flight.
    pub member: Option<String>,
    /// When its lease ends, or it is delivered again.
    pub until: Option<i64>,
}

/// `GET /v1/queues/{topic}/find?`: messages of partitions that the answering node leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundMessages {
    /// At most about 1,000.
    pub messages: Vec<FoundMessage>,
    /// Whether there may be more among what was looked through.
    pub more: bool,
    /// What was.
    pub looked_through: Vec<LookedThrough>,
}

/// Offsets of a partition that were looked through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedThrough {
    /// The partition.
    pub partition: u32,
    /// First retained offset.
    pub start: u64,
    /// The first that was looked at; what is before it is asked for with `before`.
    pub from: u64,
    /// All below it were.
    pub end: u64,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundMessage {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// When it was stored.
    pub at: i64,
    /// Its id.
    pub id: String,
    /// Its keys, message group first.
    pub keys: Vec<String>,
    /// The dead letter that it was before it was replayed, `topic-partition-offset`.
    pub replayed_from: Option<String>,
    /// The message that it was before it died, if it is a dead letter.
    #[serde(default)]
    pub origin: Option<String>,
}

/// `GET /v1/queues/{topic}/kept?name=`: delayed, half and undeliverable messages of an id or
/// key, on partitions that the answering node leads, as far back as compaction left them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessages {
    /// At most 100 a partition.
    pub messages: Vec<KeptMessage>,
    /// Whether there are more.
    pub more: bool,
}

/// A message that the journal keeps or kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMessage {
    /// Its partition.
    pub partition: u32,
    /// Names it on its partition.
    pub number: u64,
    /// What befell it.
    pub story: Vec<StoryLine>,
}

/// A line of `GET /v1/queues/{topic}/story/{partition}/{offset}`: what the journal tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoryLine {
    /// When.
    pub at: i64,
    /// What happened, for people.
    pub what: String,
    /// Until when it waits from then on, if it does.
    #[serde(default)]
    pub until: Option<i64>,
    /// Where it, or its copy, goes: `topic-partition`.
    #[serde(default)]
    pub to: Option<String>,
}

/// An hour in which messages were stored, and how they ended for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the queue machine's")]
pub struct LedgerLine {
    /// Hours since 1970; 0 is all that is older than the ledger reaches back.
    pub hour: u32,
    pub partition: u32,
    /// Offsets of the log from the first record of this hour to the first of a later one;
    /// none for hours that the log no longer holds.
    #[serde(default)]
    pub produced: Option<u64>,
    pub acked: u64,
    pub dead_lettered: u64,
    pub forwarded: u64,
    pub filtered: u64,
    pub superseded: u64,
    pub dropped: u64,
    pub missing: u64,
    pub no_message: u64,
    pub sought: i64,
    /// Of those that were produced, how many are not final.
    #[serde(default)]
    pub pending: Option<u64>,
    /// What is left of `produced` when all the others are taken off: accounted for under
    /// another hour, since its own time is not that of its neighbours in the log, or since a
    /// seek or a full queue made it final. All hours together it is nothing.
    #[serde(default)]
    pub other_hour: Option<i64>,
}

/// A line of `GET /v1/queues/{topic}/books/{group}?since_hour=`: the ledger of one group on
/// a partition that the answering node leads, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BooksView {
    /// The partition.
    pub partition: u32,
    /// Offsets since the group began.
    pub produced: u64,
    /// Of them, how many are not final.
    pub pending: u64,
    /// By hour.
    pub hours: Vec<LedgerLine>,
    /// Offsets at which the group found no record.
    pub gaps: Vec<GapLine>,
    /// Whether there may be more, which are only counted.
    pub gaps_more: bool,
    /// Offsets that the log no longer holds and that are not final: nobody was given them.
    pub removed: u64,
    /// Final offsets less those that are counted: always 0, or the ledger is wrong.
    pub unaccounted: i64,
}

/// `POST /v1/queues/{topic}/groups/{group}/seek`: moves the group on partitions that the
/// answering node leads; others are left to theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeekQueueGroup {
    /// By partition: the next offset to be delivered, within what the log holds.
    pub offsets: BTreeMap<u32, u64>,
    /// Only check.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a change of a group on one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QueueStep {
    /// The partition.
    pub partition: u32,
    /// `done`, `checked` (a dry run), `absent` (the group is not there) or `failed`.
    pub outcome: String,
    /// For a seek: where the group was.
    pub from: Option<u64>,
    /// ... and is to be.
    pub to: Option<u64>,
    /// Messages from there to the end.
    pub lag: Option<u64>,
    /// Why it failed, for people; else empty.
    pub why: String,
}

/// A line of `GET /v1/dlq/{topic}`: dead letters of a partition that the answering node
/// leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLettersView {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// First retained offset.
    pub start: u64,
    /// End of the partition.
    pub end: u64,
    /// Letters that were not moved back.
    pub letters: u64,
    /// Letters moved back that are not known to be there yet.
    pub on_the_way: u64,
    /// Replays that are remembered, oldest first.
    pub replays: Vec<ReplayLine>,
}

/// A replay of dead letters: `POST /v1/dlq/{topic}/replays` begins one and gives it,
/// `POST /v1/dlq/{topic}/replays/{partition}/{replay}/{pause|resume|cancel}` changes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplayLine {
    /// Names it on its partition.
    pub replay: u64,
    /// Its partition.
    pub partition: u32,
    /// `running`, `paused`, `done` or `cancelled`.
    pub state: String,
    /// Only counts.
    pub dry_run: bool,
    /// Letters a second; none: as fast as they are taken.
    pub rate: Option<u32>,
    /// Which letters.
    pub filter: LettersWanted,
    /// First offset of all.
    pub begin: u64,
    /// Next offset to be looked at.
    pub position: u64,
    /// It ends there.
    pub end: u64,
    /// Letters moved back, or that would be in a dry run.
    pub moved: u64,
    /// Letters that the filter left.
    pub passed_over: u64,
    /// Letters that do not tell where they came from: they stay.
    pub homeless: u64,
    /// Who did what to it; the first is who began it.
    pub audit: Vec<ReplayStepView>,
}

/// Which dead letters: those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LettersWanted {
    /// Dead since this time,
    #[serde(default)]
    pub since: Option<i64>,
    /// ... and before this one.
    #[serde(default)]
    pub until: Option<i64>,
    /// For this cause, such as `nack` or `lease-timeout`.
    #[serde(default)]
    pub cause: Option<String>,
    /// With this key.
    #[serde(default)]
    pub key: Option<String>,
    /// With this tag.
    #[serde(default)]
    pub tag: Option<String>,
}

/// A line of a replay's audit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReplayStepView {
    /// When.
    pub at: i64,
    /// Who, as they named themselves; empty: it came to its end.
    pub by: String,
    /// Where it stood from then on.
    pub state: String,
    /// Letters moved back until then.
    pub moved: u64,
}

/// `POST /v1/dlq/{topic}/replays`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginReplay {
    /// The partition of the letters.
    #[serde(default)]
    pub partition: u32,
    /// Which letters.
    #[serde(default)]
    pub filter: LettersWanted,
    /// Letters a second; none: as fast as they are taken.
    #[serde(default)]
    pub rate: Option<u32>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
    /// Who asks, for the audit.
    #[serde(default)]
    pub by: String,
}

/// `POST /v1/dlq/{topic}/replays/{partition}/{replay}/{pause|resume|cancel}`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeReplay {
    /// Who asks, for the audit.
    #[serde(default)]
    pub by: String,
}

/// A line of `GET /v1/queues/{topic}/records/{partition}/{offset}`, and of
/// `GET /v1/dlq/{topic}/letters/{partition}/{offset}`, which leaves out what was moved back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// Where it is.
    pub offset: u64,
    /// When it was stored.
    pub at: i64,
    /// Its key, as text as far as it is.
    pub key: Option<String>,
    /// Its headers, in order.
    pub headers: Vec<(String, String)>,
    /// Bytes of its value.
    pub bytes: u64,
    /// The first of them, as text as far as they are.
    pub value: String,
}
