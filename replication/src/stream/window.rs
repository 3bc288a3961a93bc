//! What one follower node catches up with, of all streams to it.
//!
//! All of it goes into one write-ahead log there, and what is appended now stands behind
//! all of it. So it is bounded by one window, which `pace.rs` finds, however many streams
//! there are; a stream that finds no room stands in line, is woken when its turn comes,
//! and takes one read's worth.
//!
//! ```text
//!   stream ──take──▶ under way ≤ window ──give back──▶ the first in line is woken
//!              └─ no room: in line ─────────────────────────┘
//! ```
//! One read always fits, however small the window: else nothing would move. Locks: a
//! stream asks with its own lock held, so nothing here calls a stream; it wakes its writer.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use weir_base::Monotonic;

use super::pace::Pace;

/// A stream, as its window knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member(u64);

/// Room for one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes to ask for.
    pub(crate) bytes_max: usize,
    /// Bytes it counts for until it is known what it found: a batch is read whole, and the
    /// next one is taken to be as large as the latest.
    pub(crate) held: usize,
}

/// The window that all streams to one follower node share.
#[derive(Debug)]
pub(crate) struct CatchUpWindow {
    /// Bytes of one read, at most.
    read: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pace: Pace,
    /// Bytes of all streams that were read, or are being read, and not stored.
    under_way: usize,
    /// Bytes of the latest read, if it found more than it asked for: a batch is read whole.
    batch: usize,
    streams: BTreeMap<Member, Stream>,
    /// Streams that want to read and found no room, in turn.
    line: VecDeque<Member>,
    joined: u64,
}

#[derive(Debug)]
struct Stream {
    wake: Arc<Notify>,
    /// Its part of `under_way`.
    bytes: usize,
    /// Offsets it had left when last asked.
    left: u64,
}

impl CatchUpWindow {
    /// At most `limit` bytes, of which none should wait longer than `delay`; `read` bytes of
    /// one read.
    pub(crate) fn new(limit: usize, read: usize, delay: Duration) -> CatchUpWindow {
        CatchUpWindow {
            read,
            state: Mutex::new(State {
                pace: Pace::new(limit, delay),
                under_way: 0,
                batch: 0,
                streams: BTreeMap::new(),
                line: VecDeque::new(),
                joined: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream to this follower opened; `wake` is told when it may read.
    pub(crate) fn join(&self, wake: Arc<Notify>) -> Member {
        let mut state = self.state();
        state.joined += 1;
        let member = Member(state.joined);
        let stream = Stream {
            wake,
            bytes: 0,
            left: 0,
        };
        state.streams.insert(member, stream);
        member
    }

    /// The stream ended, and what of it was under way is void.
    pub(crate) fn leave(&self, member: Member) {
        let mut state = self.state();
        if let Some(stream) = state.streams.remove(&member) {
            state.under_way -= stream.bytes;
            state.line.retain(|other| *other != member);
            state.call_next(self.read);
        }
    }

    /// Room for a read; without it, the stream has a place in line.
    pub(crate) fn take(&self, member: Member) -> Option<Room> {
        let mut state = self.state();
        let is_next = state.line.front().is_none_or(|first| *first == member);
        if !is_next || !state.has_room(self.read) {
            if !state.line.contains(&member) {
                state.line.push_back(member);
            }
            return None;
        }
        state.line.pop_front();
        let room = state.room(self.read);
        state.under_way += room.held;
        state.streams.get_mut(&member)?.bytes += room.held;
        state.call_next(self.read);
        Some(room)
    }

    /// A read found so many bytes.
    pub(crate) fn found(&self, bytes: usize) {
        let mut state = self.state();
        let asked = state.pace.read_bytes(self.read);
        state.batch = if bytes > asked { bytes } else { 0 };
    }

    /// Has nothing to read any more: the next in line may.
    pub(crate) fn pass(&self, member: Member) {
        let mut state = self.state();
        if state.line.front() == Some(&member) {
            state.line.pop_front();
            state.call_next(self.read);
        } else {
            state.line.retain(|other| *other != member);
        }
    }

    /// The stream's part changed from `before` bytes to `after`: a read found more or less
    /// than was asked for, or a session is over.
    pub(crate) fn change(&self, member: Member, before: usize, after: usize) {
        let mut state = self.state();
        if let Some(stream) = state.streams.get_mut(&member) {
            stream.bytes = stream.bytes + after - before;
            state.under_way = state.under_way + after - before;
            if after < before {
                state.call_next(self.read);
            }
        }
    }

    /// Whether something of the stream is under way.
    pub(crate) fn holds(&self, member: Member) -> bool {
        let state = self.state();
        state.streams.get(&member).is_some_and(|s| s.bytes > 0)
    }

    /// A chunk that was read at `since` is on the follower's disk.
    pub(crate) fn on_stored(&self, now: Monotonic, since: Monotonic, bytes: usize) {
        self.state().pace.on_stored(now, since, bytes);
    }

    /// The same of one that was in no hurry to get there ([`Pace::grow`]).
    pub(crate) fn grow(&self, bytes: usize) {
        self.state().pace.grow(bytes);
    }

    /// Now and then, whether catching up gets anywhere: the stream has `left` offsets to go.
    pub(crate) fn look_back(&self, member: Member, now: Monotonic, left: u64) {
        let mut state = self.state();
        if let Some(stream) = state.streams.get_mut(&member) {
            stream.left = left;
        }
        if state.pace.is_due(now) {
            let left = state.streams.values().map(|stream| stream.left).sum();
            state.pace.on_period(now, left);
            state.call_next(self.read);
        }
    }
}

impl State {
    /// What a read takes, which asks for `most` bytes at the most.
    fn room(&self, most: usize) -> Room {
        let bytes_max = self.pace.read_bytes(most);
        Room {
            bytes_max,
            held: bytes_max.max(self.batch),
        }
    }

    fn has_room(&self, most: usize) -> bool {
        self.under_way == 0 || self.under_way + self.room(most).held <= self.pace.window()
    }

    /// Wakes the first in line if there is room.
    fn call_next(&self, most: usize) {
        if self.has_room(most)
            && let Some(first) = self.line.front()
            && let Some(stream) = self.streams.get(first)
        {
            stream.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_larger_than_the_window_go_one_by_one() {
        const BATCH: usize = 254 * 1024;
        let window = CatchUpWindow::new(8 << 20, 1 << 20, Duration::from_millis(1));
        let [one, two] = [(); 2].map(|()| window.join(Arc::default()));
        let read = |member| {
            let room = window.take(member)?;
            assert!(room.bytes_max < BATCH);
            window.found(BATCH);
            window.change(member, room.held, BATCH);
            Some(room.held)
        };
        assert!(read(one).is_some());
        assert_eq!(read(one), None);
        assert_eq!(read(two), None);
        for (done, next, other) in [(one, one, two), (one, two, one)] {
            window.change(done, BATCH, 0);
            assert_eq!(read(next), Some(BATCH), "as large as the one before");
            assert_eq!(read(other), None, "one is under way");
        }
    }

    #[test]
    fn a_small_batch_makes_room_for_others() {
        let window = CatchUpWindow::new(8 << 20, 1 << 20, Duration::from_millis(1));
        let member = window.join(Arc::default());
        for found in [254 * 1024, 4096] {
            let held = window.take(member).map_or(0, |room| room.held);
            assert!(held > 0);
            window.found(found);
            window.change(member, held, 0);
        }
        assert!(window.take(member).is_some());
        assert!(window.take(member).is_some(), "two reads make a window");
        assert_eq!(window.take(member), None);
    }
}
