//! Message groups: who may be delivered beside whom.
//!
//! A FIFO group gives each message group one place, held from the moment its first message
//! is ready until that one is final, retries included: those behind it wait, in offset
//! order, and all other message groups flow (Q3). With `key_concurrency` alone there are
//! that many places, and a message that waits for a retry gives its place back.

use std::collections::VecDeque;

use weir_base::Offset;

use super::{LiveGroup, State};
use crate::ids::KeyHash;

/// One message group with anything that is not final.
#[derive(Debug, Default)]
pub(super) struct KeyQueue {
    /// Places taken.
    taken: u32,
    /// Who waits for one, in offset order.
    queue: VecDeque<Offset>,
}

impl LiveGroup {
    /// Places of each message group; `None` if the group does not look at them.
    fn places(&self) -> Option<u32> {
        if self.settings.fifo {
            return Some(1);
        }
        self.settings.pacing.key_concurrency
    }

    /// Makes a message ready, or has it wait for its message group.
    pub(super) fn route(&mut self, offset: Offset) {
        let places = self.places();
        let Some(message) = self.messages.get_mut(&offset) else {
            return;
        };
        if let (Some(places), Some(key)) = (places, message.key) {
            let key = self.keys.entry(key).or_default();
            if key.taken >= places || !key.queue.is_empty() {
                message.state = State::Queued;
                key.queue.push_back(offset);
                self.held += 1;
                return;
            }
            key.taken += 1;
        }
        message.state = State::Ready;
        self.ready.push_back(offset);
    }

    /// A message that was fed waits for its retry: in a FIFO group it holds its place.
    pub(super) fn take_place(&mut self, key: Option<KeyHash>) {
        if let Some(key) = key.filter(|_| self.settings.fifo) {
            self.keys.entry(key).or_default().taken += 1;
        }
    }

    /// Whether all places of the key are taken, or others wait for one.
    pub(super) fn is_blocked(&self, key: Option<KeyHash>) -> bool {
        let (Some(places), Some(key)) = (self.places(), key) else {
            return false;
        };
        let key = self.keys.get(&key);
        key.is_some_and(|key| key.taken >= places || !key.queue.is_empty())
    }

    /// Gives a place back; the next in line gets it.
    pub(super) fn release(&mut self, key: Option<KeyHash>) {
        let (Some(places), Some(hash)) = (self.places(), key) else {
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
