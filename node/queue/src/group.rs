//! One group while it is served: what was read ahead, leases, waiting receives.
//!
//! ```text
//!   fed ---> Ready ---> InFlight ---> final (marked in `marks`, recorded at the turn's end)
//!     \        ^  ^        |
//!      \       |  +--------+---> Retrying (attempt recorded; in FIFO groups its followers
//!       \      |           |       stay Queued behind it)
//!        +--> Queued <-----+     behind another message of its message group
//! ```
//! Always: a message that is in `messages` is not final and below `position`, or in flight
//! since before the settings changed; everything else below `position` is final (Q1).
//! `leases` has an entry for exactly the messages in flight. All of it is lost with the leader: its successor reads again from the cursor.

mod admin;
mod feed;
mod keys;
mod lines;
mod marks;
mod pace;
mod receive;
mod settle;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use weir_base::machine::Token;
use weir_base::{Offset, Timestamp};

use crate::error::QueueError;
use crate::filter::CompiledFilter;
use crate::ids::{GroupName, GroupNumber, KeyHash, MemberName};
use crate::message::Want;
use crate::options::QueueOptions;
use crate::record::{BLOCK_OFFSETS, Block};
use crate::settings::GroupSettings;
use crate::turn::Turn;

use keys::KeyQueue;
use lines::Line;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// May be delivered.
    Ready,
    /// Behind another of its message group.
    Queued,
    /// Delivered; `leases` has more.
    InFlight,
    /// Failed, and its time has not come.
    Retrying,
}

/// A message that was fed and is not final.
#[derive(Debug, Clone)]
struct LiveMessage {
    state: State,
    /// Attempts that ended.
    ended: u16,
    /// When it was stored, for the ledger.
    hour: u32,
    /// Of key, value and headers.
    bytes: u32,
    key: Option<KeyHash>,
    version: Option<u64>,
}

/// A delivery that is not settled.
#[derive(Debug, Clone)]
struct Lease {
    /// Told in the receipt.
    number: u64,
    attempt: u16,
    until: Timestamp,
    since: Timestamp,
    invisible: Duration,
    auto_renew: bool,
    member: MemberName,
    attempt_id: Option<Arc<str>>,
}

/// A receive that waits.
#[derive(Debug)]
struct Waiting {
    token: Token,
    member: MemberName,
    until: Timestamp,
    /// Whether its end has a timer: not before it was found that it must wait.
    armed: bool,
    batch_max: usize,
    invisible: Duration,
    attempt_id: Option<Arc<str>>,
    auto_renew: bool,
}

/// A group that is served.
#[derive(Debug)]
pub(crate) struct LiveGroup {
    number: GroupNumber,
    name: GroupName,
    /// What messages for one group alone name.
    name_hash: KeyHash,
    settings: GroupSettings,
    filter: CompiledFilter,
    /// All below was fed.
    position: Offset,
    /// What the host was asked for.
    wanted: Option<Offset>,
    messages: BTreeMap<Offset, LiveMessage>,
    /// Those that are `Ready`, in the order of delivery; a few that no longer are.
    ready: VecDeque<Offset>,
    /// Places of message groups, if the group bounds them.
    keys: BTreeMap<KeyHash, KeyQueue>,
    /// Message groups with anything that is not final, if the group is FIFO.
    lines: BTreeMap<KeyHash, Line>,
    leases: BTreeMap<Offset, Lease>,
    /// Messages that are `Queued` or `Retrying`.
    held: usize,
    retrying: usize,
    /// Blocks that differ from what is on record, whole.
    marks: BTreeMap<u64, Block>,
    /// Those that must be recorded at the end of the turn.
    touched: Vec<u64>,
    /// Whether `marks` changed in this turn.
    marked: bool,
    /// Versions delivered in this turn.
    fresh_versions: Vec<(KeyHash, u64)>,
    waiting: VecDeque<Waiting>,
    /// Attempt ids and what they were given.
    repeats: BTreeMap<Arc<str>, Vec<Offset>>,
    /// When the next delivery is due by the rate, in nanoseconds since 1970.
    paced_until: i64,
    /// When members in wait are served again, in nanoseconds since 1970.
    stride_until: i64,
    /// When it was last asked for messages.
    asked_at: Timestamp,
}

impl LiveGroup {
    pub(crate) fn new(
        number: GroupNumber,
        name: GroupName,
        settings: GroupSettings,
        position: Offset,
        now: Timestamp,
    ) -> Result<Self, QueueError> {
        let filter = settings
            .filter
            .compile()
            .map_err(|error| QueueError::Settings(error.into()))?;
        Ok(Self {
            number,
            name_hash: KeyHash::of(name.as_bytes()),
            name,
            settings,
            filter,
            position,
            wanted: None,
            messages: BTreeMap::new(),
            ready: VecDeque::new(),
            keys: BTreeMap::new(),
            lines: BTreeMap::new(),
            leases: BTreeMap::new(),
            held: 0,
            retrying: 0,
            marks: BTreeMap::new(),
            touched: Vec::new(),
            marked: false,
            fresh_versions: Vec::new(),
            waiting: VecDeque::new(),
            repeats: BTreeMap::new(),
            paced_until: 0,
            stride_until: 0,
            asked_at: now,
        })
    }

    /// Ends a turn in which anything happened to the group: serves who waits, and records
    /// what became final. Once a turn: the records are made from the state before it.
    pub(crate) fn end_turn(&mut self, turn: &mut Turn<'_>) {
        self.serve(turn);
        self.flush(turn);
        self.fresh_versions.clear();
    }

    /// What is to be read for the group, if anything is and was not asked for already.
    pub(crate) fn want(&mut self, options: &QueueOptions, position: Offset) -> Option<Want> {
        let in_use = !self.waiting.is_empty() || !self.leases.is_empty();
        let span = self.position.0.saturating_sub(position.0);
        let has_room = self.ready.len() <= options.ready_max / 2
            && self.held < options.held_max
            && span < options.span_max;
        if self.wanted.is_some() || !in_use || !has_room {
            return None;
        }
        self.wanted = Some(self.position);
        Some(Want {
            group: self.number,
            from: self.position,
            records_max: options.ready_max - self.ready.len(),
            needs: self.filter.needs(),
        })
    }

    /// Whether the offset is final, on record or in this turn.
    fn is_final(&self, turn: &Turn<'_>, offset: Offset) -> bool {
        let block = self.marks.get(&(offset.0 / BLOCK_OFFSETS));
        match block {
            Some(block) => block.holds(offset),
            None => turn.stored(self.number).is_final(offset),
        }
    }
}
