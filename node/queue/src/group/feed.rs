//! What the host read for the group: new messages, and holes where some should be.

use weir_base::Offset;

use super::{LiveGroup, LiveMessage, State};
use crate::command::Feed;
use crate::counts::hour_of;
use crate::message::MessageFacts;
use crate::options::GAPS_MAX;
use crate::record::{BLOCK_OFFSETS, Ending, QueueRecord};
use crate::timers::Timer;
use crate::turn::Turn;

impl LiveGroup {
    /// Whether the facts answer the last want.
    pub(crate) fn feed(&mut self, turn: &mut Turn<'_>, feed: &Feed) -> bool {
        if self.wanted != Some(feed.from) {
            return false;
        }
        self.wanted = None;
        let mut next = feed.from;
        for facts in &feed.facts {
            if facts.offset < next || facts.offset >= feed.end {
                continue;
            }
            let hour = hour_of(facts.stored_at);
            self.take_hole(turn, feed, (next, facts.offset), hour);
            next = facts.offset + 1;
            // What is in flight was read before the settings changed.
            if !self.is_final(turn, facts.offset) && !self.messages.contains_key(&facts.offset) {
                self.take_in(turn, facts, hour);
            }
        }
        let hour = feed.facts.last().map_or(turn.now, |facts| facts.stored_at);
        self.take_hole(turn, feed, (next, feed.end), hour_of(hour));
        self.position = self.skip_final(turn, self.position.max(feed.end));
        true
    }

    /// Offsets without a record: some never had one, the others are missing.
    fn take_hole(&mut self, turn: &mut Turn<'_>, feed: &Feed, hole: (Offset, Offset), hour: u32) {
        if hole.0 >= hole.1 {
            return;
        }
        for (from, to) in &feed.no_messages {
            let part = (hole.0.max(*from), hole.1.min(*to));
            self.mark_range(turn, part, hour, Ending::NoMessage, false);
        }
        let missing = self.mark_range(turn, hole, hour, Ending::Missing, false);
        if missing > 0 && turn.stored(self.number).gaps.len() < GAPS_MAX {
            turn.record(QueueRecord::Gap {
                group: self.number,
                from: hole.0,
                offsets: Some(hole.1 - hole.0),
            });
        }
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, facts: &MessageFacts, hour: u32) {
        let offset = facts.offset;
        let is_for_others = facts.only.is_some_and(|only| only != self.name_hash);
        let delays = turn.state.delays.as_ref();
        let comes_later = facts.not_before.zip(delays);
        let ending = if comes_later.is_some_and(|(at, delays)| delays.take(at)) {
            Some(Ending::Delayed)
        } else if is_for_others || !self.filter.wants(facts) {
            Some(Ending::Filtered)
        } else if self.is_superseded(turn, facts.key, facts.version) {
            Some(Ending::Superseded)
        } else {
            None
        };
        if let Some(ending) = ending {
            self.mark_range(turn, (offset, offset + 1), hour, ending, false);
            return;
        }
        let attempts = turn.stored(self.number).attempts.get(&offset);
        let message = LiveMessage {
            state: State::Ready,
            ended: attempts.map_or(0, |attempts| attempts.ended),
            hour,
            bytes: facts.bytes,
            key: facts.key,
            version: facts.version,
        };
        self.messages.insert(offset, message);
        let retry_at = attempts.map(|attempts| attempts.next_at);
        match retry_at.filter(|due| *due > turn.now) {
            Some(due) if !self.has_line(facts.key) => {
                self.retry_later(turn, offset, due);
                if let Some(key) = facts.key.filter(|_| self.settings.fifo) {
                    self.join_line(offset, key);
                }
            }
            Some(_) | None => self.route(offset),
        }
    }

    /// A message waits for its time.
    pub(super) fn retry_later(
        &mut self,
        turn: &mut Turn<'_>,
        offset: Offset,
        at: weir_base::Timestamp,
    ) {
        if let Some(message) = self.messages.get_mut(&offset) {
            message.state = State::Retrying;
            self.held += 1;
            self.retrying += 1;
            turn.core.timers.arm(at, Timer::Retry(self.number, offset));
        }
    }

    /// The first offset from `position` on that is not final.
    pub(super) fn skip_final(&self, turn: &Turn<'_>, position: Offset) -> Offset {
        let stored = turn.stored(self.number);
        let mut at = position.0.max(stored.cursor() * BLOCK_OFFSETS);
        loop {
            let number = at / BLOCK_OFFSETS;
            let block = self
                .marks
                .get(&number)
                .or_else(|| stored.blocks.get(&number));
            let Some(block) = block else {
                return Offset(at);
            };
            let done = (block.finished >> (at % BLOCK_OFFSETS)).trailing_ones();
            at += u64::from(done);
            if at / BLOCK_OFFSETS == number {
                return Offset(at);
            }
        }
    }
}
