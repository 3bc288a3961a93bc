//! What a replay is: asked for, on record, and told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_base::{Offset, Timestamp};

use super::letter::LetterFacts;
use crate::error::ReplayError;
use crate::ids::EntryNumber;
use crate::message::MessageFacts;

/// Longest cause, key or tag that letters are chosen by, and longest name of who asks.
pub const REPLAY_TEXT_MAX: usize = 1_024;
/// Most letters a second that a replay may ask for.
pub const REPLAY_RATE_MAX: u32 = 1_000_000;
/// Steps that the audit of one replay keeps; the oldest but the first go.
const AUDIT_MAX: usize = 32;

/// What is asked of replays on one partition of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayCommand {
    /// Begins one; there is at most one that is not over.
    Start(StartReplay),
    /// Changes one that is not over.
    Change {
        /// Which.
        replay: EntryNumber,
        /// How.
        change: ReplayChange,
        /// Who asks, for the audit.
        by: Arc<str>,
    },
    /// All that are remembered, and which letters were moved back.
    List {
        /// First retained offset of the partition: letters below are no more.
        start: Offset,
        /// Letters to be looked up.
        of: Vec<Offset>,
    },
}

/// A replay to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartReplay {
    /// First retained offset of the partition: what was moved back below it is forgotten.
    pub begin: Offset,
    /// Letters from here on are left for another replay: the high watermark, at most.
    pub end: Offset,
    /// Which letters.
    pub filter: ReplayFilter,
    /// Letters a second; `None`: as fast as they are taken.
    pub rate: Option<u32>,
    /// Only counts.
    pub dry_run: bool,
    /// Who asks, for the audit.
    pub by: Arc<str>,
}

/// Which letters are moved back: those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFilter {
    /// Dead since this time,
    pub since: Option<Timestamp>,
    /// ... and before this one.
    pub until: Option<Timestamp>,
    /// Given up for this cause, such as `nack`; with or without the consumer's words.
    pub cause: Option<Arc<str>>,
    /// With this key: message group, record key or one of the message's keys.
    pub key: Option<Arc<str>>,
    /// With this tag.
    pub tag: Option<Arc<str>>,
    /// Given up by this group: others may have their letters on the same partition. On record
    /// it stands beside the rest, which had it not from the beginning.
    #[serde(skip)]
    pub group: Option<Arc<str>>,
}

/// What an operator does to a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ReplayChange {
    Pause,
    Resume,
    Cancel,
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayState {
    /// It moves letters.
    Running,
    /// It waits to be resumed.
    Paused,
    /// It has looked at all.
    Done,
    /// It was ended before.
    Cancelled,
}

impl ReplayState {
    /// One word for tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReplayState::Running => "running",
            ReplayState::Paused => "paused",
            ReplayState::Done => "done",
            ReplayState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will be done any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, ReplayState::Done | ReplayState::Cancelled)
    }
}

/// A replay on record: newest value of all of it, so that a successor goes on exactly
/// where its letters are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReplay {
    /// Which letters.
    pub filter: ReplayFilter,
    /// Letters a second.
    pub rate: Option<u32>,
    /// Only counts.
    pub dry_run: bool,
    /// First offset of all.
    pub begin: Offset,
    /// Next offset to be looked at.
    pub position: Offset,
    /// All below is looked at, nothing from here on.
    pub end: Offset,
    /// Where it stands.
    pub state: ReplayState,
    /// Letters moved back, or that would be in a dry run.
    pub moved: u64,
    /// Letters that the filter left.
    pub passed_over: u64,
    /// Letters that do not tell where they came from: they stay.
    pub homeless: u64,
    /// Who did what to it, and when; the first is who began it.
    pub audit: Vec<ReplayStep>,
}

/// A line of a replay's audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayStep {
    /// When.
    pub at: Timestamp,
    /// By whom; empty: it came to its end.
    pub by: Arc<str>,
    /// Where it stood from then on.
    pub state: ReplayState,
    /// Letters moved back until then.
    pub moved: u64,
}

/// A replay, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayView {
    /// Names it on its partition.
    pub number: EntryNumber,
    /// All of it.
    pub replay: StoredReplay,
}

/// What is told of replays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// The one that was begun or changed, or all, oldest first.
    pub replays: Vec<ReplayView>,
    /// How many of the letters that are retained were moved back, by all replays.
    pub moved_back: u64,
    /// Of them: not yet known to be where they came from.
    pub on_the_way: u64,
    /// Those of the letters looked up that were moved back.
    pub among: Vec<Offset>,
}

impl StartReplay {
    /// Checks every field against its bounds.
    pub(super) fn validate(&self) -> Result<(), ReplayError> {
        let (most, asked) = (REPLAY_RATE_MAX, self.rate);
        if let Some(asked) = asked.filter(|rate| !(1..=most).contains(rate)) {
            return Err(ReplayError::Rate { asked, most });
        }
        let ReplayFilter {
            cause,
            key,
            tag,
            group,
            since: _,
            until: _,
        } = &self.filter;
        let texts = [cause, key, tag, group].into_iter().flatten();
        for text in texts.chain([&self.by]) {
            check_text(text)?;
        }
        Ok(())
    }

    pub(super) fn stored(self, now: Timestamp) -> StoredReplay {
        let state = if self.begin < self.end {
            ReplayState::Running
        } else {
            ReplayState::Done
        };
        let mut replay = StoredReplay {
            filter: self.filter,
            rate: self.rate,
            dry_run: self.dry_run,
            begin: self.begin,
            position: self.begin,
            end: self.end.max(self.begin),
            state,
            moved: 0,
            passed_over: 0,
            homeless: 0,
            audit: Vec::new(),
        };
        replay.step(now, self.by, state);
        replay
    }
}

pub(super) fn check_text(text: &str) -> Result<(), ReplayError> {
    let (bytes, max) = (text.len(), REPLAY_TEXT_MAX);
    if bytes > max {
        return Err(ReplayError::Text { bytes, max });
    }
    Ok(())
}

impl ReplayFilter {
    /// Whether it wants the letter.
    pub(super) fn wants(&self, facts: &MessageFacts, letter: &LetterFacts) -> bool {
        let at = facts.stored_at;
        let is_key = |key: &Arc<str>| letter.keys.contains(key);
        let is_cause = |cause: &Arc<str>| {
            let rest = letter.cause.strip_prefix(&**cause);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && self.cause.as_ref().is_none_or(is_cause)
            && self.key.as_ref().is_none_or(is_key)
            && (self.tag.as_ref()).is_none_or(|tag| facts.tag.as_ref() == Some(tag))
            && (self.group.as_ref()).is_none_or(|group| letter.group.as_ref() == Some(group))
    }
}

impl StoredReplay {
    /// It stands elsewhere from now on.
    pub(super) fn step(&mut self, at: Timestamp, by: Arc<str>, state: ReplayState) {
        self.state = state;
        if self.audit.len() == AUDIT_MAX {
            self.audit.remove(1);
        }
        let moved = self.moved;
        self.audit.push(ReplayStep {
            at,
            by,
            state,
            moved,
        });
    }
}
