//! Dead letters and the replays that move them back.

use serde::{Deserialize, Serialize};

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
    /// Of this group: others may have their letters there, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
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
