//! What operators ask: views, seeks, drops, deletion.

use std::collections::BTreeSet;

use weir_base::Offset;

use super::{LiveGroup, State};
use crate::counts::{bits, hour_of};
use crate::durable::QueueState;
use crate::error::QueueError;
use crate::ids::{GroupName, GroupNumber};
use crate::record::{BLOCK_OFFSETS, Block, Counts, Ending, QueueRecord, StoredGroupSettings};
use crate::reply::{Books, GroupMeasure, GroupView, Standing};
use crate::settings::{Capacity, GroupSettings, OnFull};
use crate::turn::Turn;

impl LiveGroup {
    /// A new group, and the records that make it.
    pub(crate) fn create(
        turn: &mut Turn<'_>,
        name: GroupName,
        settings: GroupSettings,
        start: Offset,
    ) -> Result<Self, QueueError> {
        let number = GroupNumber(turn.draw().0);
        let group = Self::new(number, name, settings, start, turn.now)?;
        group.record_settings(turn, start);
        group.record_position(turn, start);
        Ok(group)
    }

    fn record_settings(&self, turn: &mut Turn<'_>, start: Offset) {
        turn.record(QueueRecord::Group {
            group: self.name.clone(),
            value: Some(StoredGroupSettings {
                number: self.number,
                start,
                settings: self.settings.clone(),
            }),
        });
    }

    /// Everything below `position` is final, uncounted.
    fn record_position(&self, turn: &mut Turn<'_>, position: Offset) {
        let (group, block) = (self.number, position.0 / BLOCK_OFFSETS);
        turn.record(QueueRecord::Cursor {
            group,
            block: Some(block),
        });
        let finished = bits(block, Offset::ZERO, position);
        if finished != 0 {
            let counts = Vec::new();
            turn.record(QueueRecord::Block {
                group,
                block,
                value: Some(Block { finished, counts }),
            });
        }
    }

    /// Replaces the settings. Where other messages are wanted, or others may be delivered
    /// beside each other, all is read again from the first that is not final. What is in
    /// flight stays so, and its receipts count (decisions/0009); but an order that begins
    /// anew begins with nothing in flight: there deliveries end, as attempts.
    pub(crate) fn set(
        &mut self,
        turn: &mut Turn<'_>,
        settings: GroupSettings,
    ) -> Result<(), QueueError> {
        if settings == self.settings {
            return Ok(());
        }
        let filter = settings.filter.compile();
        let filter = filter.map_err(|error| QueueError::Settings(error.into()))?;
        let old = &self.settings;
        let (was_fifo, is_fifo) = (old.fifo, settings.fifo);
        let other_messages = old.filter != settings.filter;
        let other_places = old.pacing.key_concurrency != settings.pacing.key_concurrency;
        let other_order = was_fifo != is_fifo || (is_fifo && other_messages);
        if other_order {
            self.end_all(turn);
        }
        if self.settings.pacing.rate != settings.pacing.rate {
            self.forget_pace();
        }
        self.filter = filter;
        self.settings = settings;
        if other_order || other_messages || (other_places && !is_fifo) {
            let position = turn.stored(self.number).position();
            self.read_again(position);
        }
        self.record_settings(turn, turn.stored(self.number).start);
        Ok(())
    }

    /// Ends all deliveries. What that made final is recorded here: the marks are forgotten.
    fn end_all(&mut self, turn: &mut Turn<'_>) {
        let held: Vec<Offset> = self.leases.keys().copied().collect();
        self.abandon_all(turn, held);
        self.flush(turn);
    }

    /// Forgets all that was read ahead; receives go on waiting.
    fn restart(&mut self, turn: &mut Turn<'_>, position: Offset) {
        for (offset, lease) in std::mem::take(&mut self.leases) {
            let timer = crate::timers::Timer::Lease(self.number, offset);
            turn.core.timers.disarm(lease.until, timer);
        }
        self.repeats.clear();
        self.read_again(position);
    }

    /// Forgets all that was read ahead and is not in flight.
    fn read_again(&mut self, position: Offset) {
        let leases = &self.leases;
        self.messages
            .retain(|offset, _| leases.contains_key(offset));
        self.ready.clear();
        self.keys.clear();
        self.lines.clear();
        self.marks.clear();
        self.touched.clear();
        self.marked = false;
        (self.held, self.retrying) = (0, 0);
        self.wanted = None;
        self.position = position;
        self.take_places();
    }

    /// Moves the group. The ledger says how many messages were made final or pending
    /// again by it, so that it goes on adding up.
    pub(crate) fn seek(&mut self, turn: &mut Turn<'_>, to: Offset) {
        let (group, stored) = (self.number, turn.stored(self.number));
        let start = stored.start.min(to);
        if start < stored.start {
            self.record_settings(turn, start);
        }
        let mut counted: Vec<(u32, Counts)> = Vec::new();
        for (block, value) in &stored.blocks {
            turn.record(QueueRecord::Block {
                group,
                block: *block,
                value: None,
            });
            counted.extend(&value.counts);
        }
        for offset in stored.attempts.keys() {
            turn.record(QueueRecord::Attempts {
                group,
                offset: *offset,
                value: None,
            });
        }
        let sought = Counts {
            sought: (to - start).cast_signed() - stored.counts().total(),
            ..Counts::default()
        };
        counted.push((hour_of(turn.now), sought));
        self.record_hours(turn, counted);
        self.record_position(turn, to);
        self.restart(turn, to);
    }

    /// How many messages may wait, if the oldest make room for more.
    fn dropping(&self, default: Option<&Capacity>) -> Option<u64> {
        let capacity = self.settings.capacity.as_ref().or(default)?;
        (capacity.on_full == OnFull::DropOldest).then_some(capacity.messages_max)
    }

    /// Whether some are to be dropped, the log ending at `end`.
    pub(crate) fn is_over(
        &self,
        state: &QueueState,
        end: Offset,
        default: Option<&Capacity>,
    ) -> bool {
        let position = state.stored(self.number).position();
        let max = self.dropping(default);
        max.is_some_and(|max| state.originals.waiting(position, end) > max)
    }

    /// Drops the oldest messages that are not in flight, down to the group's capacity.
    pub(crate) fn trim(
        &mut self,
        turn: &mut Turn<'_>,
        end: Offset,
        default: Option<&Capacity>,
    ) -> u64 {
        let Some(messages_max) = self.dropping(default) else {
            return 0;
        };
        let to = turn.state.originals.room_from(messages_max, end);
        let old = self.messages.range(..to);
        let old = old.filter(|(_, message)| message.state != State::InFlight);
        let old: Vec<Offset> = old.map(|(offset, _)| *offset).collect();
        let mut dropped = old.len() as u64;
        for offset in old {
            self.finish(turn, offset, Ending::Dropped);
        }
        let messages = &self.messages;
        self.ready.retain(|offset| messages.contains_key(offset));
        if self.position < to {
            let range = (self.position, to);
            let hour = hour_of(turn.now);
            dropped += self.mark_range(turn, range, hour, Ending::Dropped, true);
            self.position = to;
            self.wanted = None;
        }
        dropped
    }

    /// Deletes all that is on record of the group.
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>) {
        self.answer_gone(turn);
        let (group, stored) = (self.number, turn.stored(self.number));
        self.restart(turn, Offset::ZERO);
        turn.record(QueueRecord::Group {
            group: self.name.clone(),
            value: None,
        });
        for block in stored.blocks.keys().copied() {
            let value = None;
            turn.record(QueueRecord::Block {
                group,
                block,
                value,
            });
        }
        for offset in stored.attempts.keys().copied() {
            let value = None;
            turn.record(QueueRecord::Attempts {
                group,
                offset,
                value,
            });
        }
        for hour in stored.ledger.keys().copied() {
            let value = None;
            turn.record(QueueRecord::Ledger { group, hour, value });
        }
        for from in stored.gaps.keys().copied() {
            let offsets = None;
            turn.record(QueueRecord::Gap {
                group,
                from,
                offsets,
            });
        }
        for key in stored.versions.keys().copied() {
            let value = None;
            turn.record(QueueRecord::Version { group, key, value });
        }
        turn.record(QueueRecord::Cursor { group, block: None });
    }

    /// The group as admins see it.
    pub(crate) fn view(&self, turn: &Turn<'_>) -> GroupView {
        let stored = turn.stored(self.number);
        // What the filter left out is final, though not on record before its block is full.
        let cursor = self.skip_final(turn, stored.position());
        let members = self.leases.values().map(|lease| &lease.member);
        let members = members.chain(self.waiting.iter().map(|waiting| &waiting.member));
        let members: BTreeSet<_> = members.collect();
        GroupView {
            group: self.name.clone(),
            number: self.number,
            settings: self.settings.clone(),
            cursor: cursor.max(stored.start),
            finished_above: stored.finished_above(cursor),
            in_flight: self.leases.len(),
            retrying: self.retrying,
            ready: self.messages.len() - self.leases.len() - self.retrying,
            waiting: self.waiting.len(),
            members: members.len(),
            expires_at: self.expires_at(turn.now),
            counts: stored.counts(),
        }
    }

    /// What there is to watch.
    pub(crate) fn measure(&self, state: &QueueState) -> GroupMeasure {
        let stored = state.stored(self.number);
        let position = stored.position().max(stored.start);
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        GroupMeasure {
            group: self.name.clone(),
            position,
            finished_above: stored.finished_above(position),
            in_flight: count(self.leases.len()),
            retrying: count(self.retrying),
            counts: stored.counts(),
        }
    }

    /// Offsets at which no record was found.
    pub(crate) fn gaps(&self, turn: &Turn<'_>) -> Vec<(Offset, u64)> {
        let gaps = &turn.stored(self.number).gaps;
        gaps.iter()
            .map(|(from, offsets)| (*from, *offsets))
            .collect()
    }

    /// Where a message stands.
    pub(crate) fn standing(&self, turn: &Turn<'_>, offset: Offset) -> Standing {
        let stored = turn.stored(self.number);
        let Some(message) = self.messages.get(&offset) else {
            let reached = offset >= stored.start && self.is_final(turn, offset);
            return match stored.attempts.get(&offset) {
                _ if reached => Standing::Final,
                Some(attempts) => Standing::Retrying(attempts.clone()),
                None => Standing::NotReached,
            };
        };
        let lease = self.leases.get(&offset);
        match (message.state, lease, stored.attempts.get(&offset)) {
            (State::InFlight, Some(lease), _) => Standing::InFlight {
                member: lease.member.clone(),
                attempt: lease.attempt,
                until: lease.until,
            },
            (State::Retrying, _, Some(attempts)) => Standing::Retrying(attempts.clone()),
            (State::Queued, ..) => Standing::Queued,
            (State::Ready | State::InFlight | State::Retrying, ..) => Standing::Ready,
        }
    }

    /// The ledger, blocks that the cursor has not passed included, and how many offsets are
    /// final below each of `below`.
    pub(crate) fn ledger(&self, turn: &Turn<'_>, below: &[Offset]) -> Books {
        let stored = turn.stored(self.number);
        let mut hours = stored.ledger.clone();
        let start = stored.start.0;
        let passed = stored.cursor() * BLOCK_OFFSETS;
        let mut above = 0;
        let mut wanted = below.iter().peekable();
        let mut finished_below = Vec::with_capacity(below.len());
        // What changed lately stands in the marks, whole.
        let blocks: BTreeSet<u64> = stored
            .blocks
            .keys()
            .chain(self.marks.keys())
            .copied()
            .collect();
        for number in blocks.range(stored.cursor()..) {
            let marked = self.marks.get(number);
            let Some(block) = marked.or_else(|| stored.blocks.get(number)) else {
                continue;
            };
            let end = Offset((number + 1) * BLOCK_OFFSETS);
            while let Some(offset) = wanted.next_if(|offset| **offset < end) {
                let within = block.finished & bits(*number, Offset::ZERO, *offset);
                let finished = offset.0.min(passed) + above + u64::from(within.count_ones());
                finished_below.push(finished.saturating_sub(start));
            }
            above += u64::from(block.finished.count_ones());
            for (hour, counts) in &block.counts {
                hours.entry(*hour).or_default().add(counts);
            }
        }
        let rest = wanted.map(|offset| (offset.0.min(passed) + above).saturating_sub(start));
        finished_below.extend(rest);
        Books {
            start: stored.start,
            hours: hours.into_iter().collect(),
            finished: (passed + above).saturating_sub(start),
            finished_below,
        }
    }

    /// The name, for tables.
    pub(crate) fn name(&self) -> &GroupName {
        &self.name
    }

    pub(crate) fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Looks for the time at which it expires.
    pub(crate) fn arm_expiry(&self, turn: &mut Turn<'_>) {
        if let Some(at) = self.expires_at(turn.now) {
            let timer = crate::timers::Timer::Expiry(self.number);
            turn.core.timers.arm(at, timer);
        }
    }
}
