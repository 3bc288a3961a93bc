//! Lines: the message groups of a FIFO group, and what of each is out.
//!
//! ```text
//!   line  [ 10   14   15  |  17   18   21 ... ]    all that is not final, in order
//!          '---- out ---'    '--- Queued ---'
//! ```
//! Out is one message, ready, in flight or waiting for its retry; or a run: what one
//! receive was given of the message group, in order. The line moves on when all of it is
//! final, so nobody else has anything of the message group before (Q3).
//!
//! When an attempt at one of a run ends, those behind it are called back: their leases end
//! and they stand in line again until it is final. That is no attempt of theirs, since
//! nobody was to begin with them. What of a run was settled before stays settled. A message
//! that failed comes alone: if it takes its consumer down each time, no other is lost to that.

use std::collections::VecDeque;

use weir_base::Offset;

use super::LiveGroup;
use crate::ids::KeyHash;
use crate::turn::Turn;

/// One message group with anything that is not final; never empty.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Not final, in offset order.
    offsets: VecDeque<Offset>,
    /// How many of the first are out; at least one.
    out: usize,
}

impl LiveGroup {
    /// Stands in line; gives whether nobody stood there.
    pub(super) fn join_line(&mut self, offset: Offset, key: KeyHash) -> bool {
        let line = self.lines.entry(key).or_default();
        let is_last = line.offsets.back().is_none_or(|last| *last < offset);
        assert!(is_last, "Q3: {offset} stands behind what comes after it");
        line.offsets.push_back(offset);
        let is_first = line.out == 0;
        line.out = line.out.max(1);
        is_first
    }

    /// Whether anything of the message group goes first.
    pub(super) fn has_line(&self, key: Option<KeyHash>) -> bool {
        key.is_some_and(|key| self.lines.contains_key(&key))
    }

    /// A message is final: the next goes, if none before it is out.
    pub(super) fn leave_line(&mut self, offset: Offset, key: Option<KeyHash>) {
        let Some((hash, line)) = key.and_then(|key| Some((key, self.lines.get_mut(&key)?))) else {
            return;
        };
        let Ok(at) = line.offsets.binary_search(&offset) else {
            return;
        };
        line.offsets.remove(at);
        if at < line.out {
            line.out -= 1;
        }
        if line.out > 0 {
            return;
        }
        if let Some(next) = line.offsets.front().copied() {
            line.out = 1;
            self.held -= 1;
            self.make_ready(next);
        } else {
            self.lines.remove(&hash);
        }
    }

    /// The message group of a message that is given, if more of it may come along. Versions
    /// are noted as they are given, so that a run would leave out what failed of it.
    pub(super) fn begins_run(&self, offset: Offset) -> Option<KeyHash> {
        let message = self.messages.get(&offset)?;
        let may = message.ended == 0 && !self.settings.versioned;
        message.key.filter(|_| may)
    }

    /// Takes the next of a message group out, to go with what the receive that is served
    /// was given of it.
    pub(super) fn next_of_run(&mut self, key: KeyHash) -> Option<Offset> {
        let most = self.settings.pacing.key_concurrency.unwrap_or(u32::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let line = self.lines.get_mut(&key).filter(|line| line.out < most)?;
        let next = *line.offsets.get(line.out)?;
        let message = self.messages.get(&next)?;
        if message.ended > 0 {
            return None;
        }
        let before = line.offsets.get(line.out.checked_sub(1)?)?;
        let before = self.leases.get(before).map(|lease| &lease.member);
        let served = self.waiting.front().map(|waiting| &waiting.member);
        assert!(
            before.is_some() && before == served,
            "Q3: {next} to {served:?} and what is before it to {before:?}"
        );
        line.out += 1;
        self.held -= 1;
        Some(next)
    }

    /// An attempt at a message ended: calls back what was given with it and comes after it.
    pub(super) fn call_back_behind(&mut self, turn: &mut Turn<'_>, offset: Offset) {
        if let Some((key, at)) = self.place(offset)
            && !weir_base::mutant!(RunsOutliveFailures)
        {
            self.call_back(turn, key, at + 1);
        }
    }

    /// Calls a message back, and what comes after it, if others of its run are out before it;
    /// gives whether they are.
    pub(super) fn step_back(&mut self, turn: &mut Turn<'_>, offset: Offset) -> bool {
        let place = self.place(offset).filter(|(_, at)| *at > 0);
        if let Some((key, at)) = place {
            self.call_back(turn, key, at);
        }
        place.is_some()
    }

    /// Where a message that is out stands in its line.
    fn place(&self, offset: Offset) -> Option<(KeyHash, usize)> {
        let key = self.messages.get(&offset)?.key?;
        let line = self.lines.get(&key)?;
        Some((key, line.offsets.binary_search(&offset).ok()?))
    }

    /// All of a run from place `from` on stands in line again.
    fn call_back(&mut self, turn: &mut Turn<'_>, key: KeyHash, from: usize) {
        let Some(line) = self.lines.get_mut(&key).filter(|line| from < line.out) else {
            return;
        };
        let back: Vec<Offset> = line.offsets.range(from..line.out).copied().collect();
        line.out = from;
        for offset in back {
            self.remove_lease(turn, offset);
            self.make_wait(offset);
        }
    }
}
