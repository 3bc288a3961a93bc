//! Places of message groups: `key_concurrency` of them, where a group is not FIFO.
//!
//! A message that waits for a retry gives its place back; those that wait for one get it in
//! offset order. What FIFO groups do instead: `lines.rs`.

use std::collections::VecDeque;

use weir_base::Offset;

use super::{LiveGroup, State};
use crate::ids::KeyHash;

/// One message group with anything that is ready or in flight.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// Places taken.
    taken: u32,
    /// Who waits for one, in offset order.
    queue: VecDeque<Offset>,
}

impl LiveGroup {
    /// Makes a message ready, or has it wait for its message group.
    pub(super) fn route(&mut self, offset: Offset) {
        let places = self.settings.pacing.key_concurrency;
        let key = self.messages.get(&offset).and_then(|message| message.key);
        let goes = match (key, places) {
            (Some(key), _) if self.settings.fifo => self.join_line(offset, key),
            (Some(key), Some(places)) => self.take_place(offset, key, places),
            (Some(_) | None, _) => true,
        };
        if goes {
            self.make_ready(offset);
        } else {
            self.make_wait(offset);
        }
    }

    pub(super) fn make_ready(&mut self, offset: Offset) {
        if let Some(message) = self.messages.get_mut(&offset) {
            message.state = State::Ready;
            self.ready.push_back(offset);
        }
    }

    /// A message waits behind others of its message group.
    pub(super) fn make_wait(&mut self, offset: Offset) {
        if let Some(message) = self.messages.get_mut(&offset) {
            message.state = State::Queued;
            self.held += 1;
        }
    }

    /// Takes a place, or stands in line for one: gives which.
    fn take_place(&mut self, offset: Offset, key: KeyHash, places: u32) -> bool {
        let key = self.keys.entry(key).or_default();
        let waits = key.taken >= places || !key.queue.is_empty();
        if waits {
            key.queue.push_back(offset);
        } else {
            key.taken += 1;
        }
        !waits
    }

    /// Counts the places of what is in flight when everything else is read again. They may be
    /// more than there are; who waits for one waits until they are fewer.
    pub(super) fn take_places(&mut self) {
        if self.settings.fifo || self.settings.pacing.key_concurrency.is_none() {
            return;
        }
        for key in self.messages.values().filter_map(|message| message.key) {
            self.keys.entry(key).or_default().taken += 1;
        }
    }

    /// Gives a place back; the next in line gets it.
    pub(super) fn release(&mut self, key: Option<KeyHash>) {
        let (Some(places), Some(hash)) = (self.settings.pacing.key_concurrency, key) else {
            return;
        };
        let Some(key) = self.keys.get_mut(&hash) else {
            return;
        };
        key.taken = key.taken.saturating_sub(1);
        while key.taken < places
            && let Some(next) = key.queue.pop_front()
        {
            // What was dropped meanwhile left its entry behind.
            let queued = self.messages.get_mut(&next);
            if let Some(message) = queued.filter(|m| m.state == State::Queued) {
                message.state = State::Ready;
                key.taken += 1;
                self.held -= 1;
                self.ready.push_back(next);
            }
        }
        if key.taken == 0 && key.queue.is_empty() {
            self.keys.remove(&hash);
        }
    }
}
