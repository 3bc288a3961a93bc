//! The leader's end of a stream: what is to be sent to one follower node, by partition.
//!
//! A cursor per partition says what was sent and what is queued. Freshly appended groups
//! are queued from memory while the follower's window has room; a cursor that fell behind
//! is served by reads from the log (`catch_up.rs`) until it reaches the end again. Cursors
//! take turns, a frame each, those at the tail and those behind alike.
//!
//! Bounded: queued and unclaimed bytes of a cursor together stay within its window, but
//! for one batch; what does not fit is not queued at all and read from the log later.
//! What was read so counts until the follower has it on its disk, since what is appended now
//! stands behind it in one write-ahead log there; `window.rs` says how much it may be, of all
//! streams to the follower together.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use weir_base::image::FlushMode;
use weir_base::{LeaderEpoch, Monotonic, Offset, RecordBatch, TopicPartition};
use weir_storage::{PartitionLog, ReadChunk};

use super::window::{CatchUpWindow, Member, Room};
use super::{ToFollower, encode_to_follower};
use crate::core::effect::{Answer, DataHeader, Progress, Session};
use crate::inbox::Inbox;

/// Batches ready to be sent; shared by all followers of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) base: Offset,
    pub(crate) end: Offset,
    pub(crate) bytes: usize,
    pub(crate) chunks: Arc<[Bytes]>,
}

/// Bodies up to this size are copied next to their heads: a chunk of its own costs more.
const COPY_BYTES_MAX: usize = 2048;

impl Piece {
    /// A group of batches, heads copied, large bodies shared.
    pub(crate) fn of(batches: &[RecordBatch]) -> Option<Piece> {
        let (first, last) = (batches.first()?, batches.last()?);
        let mut chunks = Vec::new();
        let mut small = BytesMut::new();
        for batch in batches {
            small.extend_from_slice(batch.head());
            if batch.body().len() <= COPY_BYTES_MAX {
                small.extend_from_slice(batch.body());
            } else {
                chunks.push(small.split().freeze());
                chunks.push(batch.body().clone());
            }
        }
        if !small.is_empty() {
            chunks.push(small.freeze());
        }
        Some(Piece {
            base: first.base_offset(),
            end: last.end_offset(),
            bytes: batches.iter().map(RecordBatch::size).sum(),
            chunks: chunks.into(),
        })
    }
}

/// A session that holds up others is over if nothing is heard of it for so long: its replica
/// may have failed, and then nobody will ever say that what was sent is on the disk.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often it is looked at how catching up goes.
pub(crate) const LOOK_BACK_EVERY: Duration = Duration::from_secs(1);

/// Where a partition stands, as its frames tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    /// Whether the follower brings at once to its disk what it is sent.
    pub(crate) flush: FlushMode,
}

/// What came from the log and is not on the follower's disk.
struct Fetched {
    end: Offset,
    bytes: usize,
    /// When it was read.
    since: Monotonic,
}

struct Cursor {
    leader_epoch: LeaderEpoch,
    session: Session,
    log: Arc<dyn PartitionLog>,
    inbox: Arc<Inbox>,
    standing: Standing,
    /// Watermark and log start as last sent; `None` until the session was confirmed.
    told: Option<(Offset, Offset)>,
    queue: VecDeque<Piece>,
    queued_bytes: usize,
    /// End of what is sent or queued.
    next: Offset,
    unclaimed: VecDeque<(Offset, usize)>,
    unclaimed_bytes: usize,
    fetched: VecDeque<Fetched>,
    /// Bytes of it, and of the read that is under way.
    fetched_bytes: usize,
    /// Bytes held for that read; zero if there is none.
    reading: usize,
    /// When the follower last said where it stands, or was first sent what it is behind with.
    heard: Monotonic,
    /// In `State::ready`,
    is_listed: bool,
    /// ... and in `State::waiting`.
    is_waiting: bool,
}

struct State {
    cursors: BTreeMap<TopicPartition, Cursor>,
    /// Cursors that have something to do, in turn.
    ready: VecDeque<TopicPartition>,
    /// Those behind, which wait for a read, in turn.
    waiting: VecDeque<TopicPartition>,
    /// Whether the stream has a place in its window's line.
    is_in_line: bool,
    looked_back: Monotonic,
    answers: VecDeque<ToFollower>,
    is_closed: bool,
}

/// The sending side of one stream.
pub(crate) struct Outlet {
    state: Mutex<State>,
    pub(crate) wake: Arc<Notify>,
    window: Arc<CatchUpWindow>,
    member: Member,
    limits: Limits,
}

/// Bounds of one stream, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of one cursor: queued and unclaimed.
    pub(crate) window: usize,
    /// Of one frame.
    pub(crate) frame: usize,
}

/// What the stream's writer does next.
pub(crate) enum Next {
    /// Send this.
    Frame(Vec<Bytes>),
    /// Read this from the log and give it to [`Outlet::on_read`].
    Read(Behind),
    /// Wait.
    Nothing,
}

/// A cursor that must be served from the log.
pub(crate) struct Behind {
    pub(crate) at: TopicPartition,
    pub(crate) session: Session,
    pub(crate) log: Arc<dyn PartitionLog>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) from: Offset,
    pub(crate) below: Offset,
    pub(crate) bytes_max: usize,
}

impl Outlet {
    /// A stream that shares `window` with all others to its follower.
    pub(crate) fn new(limits: Limits, window: Arc<CatchUpWindow>) -> Outlet {
        let wake = Arc::new(Notify::new());
        Outlet {
            member: window.join(Arc::clone(&wake)),
            state: Mutex::new(State {
                cursors: BTreeMap::new(),
                ready: VecDeque::new(),
                waiting: VecDeque::new(),
                is_in_line: false,
                looked_back: Monotonic::default(),
                answers: VecDeque::new(),
                is_closed: false,
            }),
            wake,
            window,
            limits,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a session's cursor and gives it a turn.
    fn with(&self, at: TopicPartition, session: Session, change: impl FnOnce(&mut Cursor)) {
        let mut state = self.state();
        let Some(cursor) = state.cursors.get_mut(&at) else {
            return;
        };
        if cursor.session != session {
            return;
        }
        let before = cursor.fetched_bytes;
        change(cursor);
        let after = cursor.fetched_bytes;
        if after != before {
            self.window.change(self.member, before, after);
        }
        state.list(at);
        drop(state);
        self.wake.notify_one();
    }

    /// Starts sending a partition; replaces an older session's cursor.
    pub(crate) fn start(
        &self,
        at: TopicPartition,
        leader_epoch: LeaderEpoch,
        session: Session,
        from: Offset,
        standing: Standing,
        (log, inbox): (Arc<dyn PartitionLog>, Arc<Inbox>),
    ) {
        let cursor = Cursor {
            leader_epoch,
            session,
            log,
            inbox,
            standing,
            told: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next: from,
            unclaimed: VecDeque::new(),
            unclaimed_bytes: 0,
            fetched: VecDeque::new(),
            fetched_bytes: 0,
            reading: 0,
            heard: Monotonic::default(),
            is_listed: false,
            is_waiting: false,
        };
        {
            let mut state = self.state();
            if state.is_closed {
                return;
            }
            self.remove(&mut state, at);
            state.cursors.insert(at, cursor);
        }
        self.with(at, session, |_| {});
    }

    /// Stops sending a partition.
    pub(crate) fn stop(&self, at: TopicPartition, session: Session) {
        let mut state = self.state();
        if state.cursors.get(&at).is_some_and(|c| c.session == session) {
            self.remove(&mut state, at);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn remove(&self, state: &mut State, at: TopicPartition) {
        state.ready.retain(|listed| *listed != at);
        state.waiting.retain(|listed| *listed != at);
        if let Some(cursor) = state.cursors.remove(&at) {
            self.window.change(self.member, cursor.fetched_bytes, 0);
        }
    }

    /// News of a partition: where it stands, and what was just appended.
    pub(crate) fn offer(
        &self,
        at: TopicPartition,
        session: Session,
        standing: Standing,
        piece: Option<&Piece>,
    ) {
        let window = self.limits.window;
        self.with(at, session, |cursor| {
            cursor.standing = standing;
            if let Some(piece) = piece.filter(|piece| piece.base == cursor.next) {
                let used = cursor.queued_bytes + cursor.unclaimed_bytes;
                if used == 0 || used + piece.bytes <= window {
                    cursor.queue(piece.clone());
                }
            }
        });
    }

    /// The follower claims everything below its end: its window opens. Below the durable
    /// end it is on its disk, and makes room for more that is to be caught up with.
    pub(crate) fn on_progress(&self, at: TopicPartition, progress: &Progress, now: Monotonic) {
        self.with(at, progress.session, |cursor| {
            cursor.heard = now;
            let claimed = |(end, _): &(Offset, usize)| *end <= progress.end;
            for (_, bytes) in passed(&mut cursor.unclaimed, claimed) {
                cursor.unclaimed_bytes -= bytes;
            }
            let (mut bytes, mut since) = (0, None);
            for stored in passed(&mut cursor.fetched, |f| f.end <= progress.durable_end) {
                bytes += stored.bytes;
                since = Some(stored.since);
            }
            cursor.fetched_bytes -= bytes;
            match (since, cursor.standing.flush) {
                (None, _) => {}
                (Some(since), FlushMode::Sync) => self.window.on_stored(now, since, bytes),
                (Some(_), FlushMode::Async) => self.window.grow(bytes),
            }
        });
        self.look_back(now);
    }

    /// Now and then, tells the window how much is left, and ends sessions that hold it up and
    /// are silent.
    pub(crate) fn look_back(&self, now: Monotonic) {
        let (mut left, mut silent) = (0, vec![]);
        let mut state = self.state();
        if now.since(state.looked_back) < LOOK_BACK_EVERY {
            return;
        }
        state.looked_back = now;
        for (at, cursor) in &state.cursors {
            left += cursor.standing.end.0.saturating_sub(cursor.next.0);
            if !cursor.fetched.is_empty() && now.since(cursor.heard) > SILENCE_MAX {
                silent.push((*at, cursor.leader_epoch, cursor.session));
            }
        }
        drop(state);
        for (at, epoch, session) in silent {
            self.refuse(at, epoch, session);
        }
        self.window.look_back(self.member, now, left);
    }

    /// Ends a session: the follower opens another.
    fn refuse(&self, at: TopicPartition, epoch: LeaderEpoch, session: Session) {
        self.stop(at, session);
        self.answer(at, epoch, session, Answer::Refused);
    }

    /// Whether something that was read is not on the follower's disk, or waits to be read.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.state().is_in_line || self.window.holds(self.member)
    }

    /// What a read for a cursor found. One that leads nowhere ends the session: asked
    /// anew, the follower's place in the log is judged anew.
    pub(crate) fn on_read(
        &self,
        at: TopicPartition,
        session: Session,
        chunk: ReadChunk,
        now: Monotonic,
    ) {
        let mut stuck = None;
        self.window.found(chunk.bytes);
        self.with(at, session, |cursor| {
            cursor.fetched_bytes -= std::mem::take(&mut cursor.reading);
            if chunk.bytes > 0 && chunk.base == cursor.next {
                if cursor.fetched.is_empty() {
                    cursor.heard = now;
                }
                cursor.fetched.push_back(Fetched {
                    end: chunk.end,
                    bytes: chunk.bytes,
                    since: now,
                });
                cursor.fetched_bytes += chunk.bytes;
                cursor.queue(Piece {
                    base: chunk.base,
                    end: chunk.end,
                    bytes: chunk.bytes,
                    chunks: chunk.chunks.into(),
                });
            } else {
                stuck = Some(cursor.leader_epoch);
            }
        });
        if let Some(epoch) = stuck {
            self.refuse(at, epoch, session);
        }
    }

    /// Sends an answer instead of data.
    pub(crate) fn answer(
        &self,
        at: TopicPartition,
        leader_epoch: LeaderEpoch,
        session: Session,
        answer: Answer,
    ) {
        let mut state = self.state();
        if !state.is_closed {
            let answer = ToFollower::Answer(at, leader_epoch, session, answer);
            state.answers.push_back(answer);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The epoch a cursor sends in, if the session is still its own.
    pub(crate) fn epoch_of(&self, at: TopicPartition, session: Session) -> Option<LeaderEpoch> {
        let state = self.state();
        let cursor = state.cursors.get(&at).filter(|c| c.session == session)?;
        Some(cursor.leader_epoch)
    }

    /// The stream ended.
    pub(crate) fn close(&self) {
        let cursors = {
            let mut state = self.state();
            state.is_closed = true;
            state.answers.clear();
            state.ready.clear();
            state.waiting.clear();
            std::mem::take(&mut state.cursors)
        };
        self.window.leave(self.member);
        drop(cursors);
    }

    /// The read whose turn it is, if there is room for it.
    fn next_read(&self, state: &mut State) -> Option<Behind> {
        while let Some(&at) = state.waiting.front() {
            let cursor = state.cursors.get_mut(&at);
            if let Some(cursor) = cursor.filter(|c| c.is_behind(self.limits.window)) {
                let room = self.window.take(self.member);
                state.is_in_line = room.is_none();
                cursor.is_waiting = room.is_none();
                let behind = cursor.read(at, room?);
                state.waiting.pop_front();
                return Some(behind);
            }
            state.waiting.pop_front();
            if let Some(cursor) = state.cursors.get_mut(&at) {
                cursor.is_waiting = false;
            }
        }
        if std::mem::take(&mut state.is_in_line) {
            self.window.pass(self.member);
        }
        None
    }

    /// The writer's next step.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(answer) = state.answers.pop_front() {
            return Next::Frame(vec![encode_to_follower(&answer)]);
        }
        loop {
            // Reads first: they run beside what is sent, and are few.
            if let Some(behind) = self.next_read(&mut state) {
                return Next::Read(behind);
            }
            let Some(at) = state.ready.pop_front() else {
                return Next::Nothing;
            };
            let State {
                cursors,
                ready,
                waiting,
                ..
            } = &mut *state;
            let Some(cursor) = cursors.get_mut(&at) else {
                continue;
            };
            cursor.is_listed = false;
            if let Some(frame) = cursor.frame(at, self.limits) {
                // More may be queued: to the end of the line.
                cursor.is_listed = true;
                ready.push_back(at);
                return Next::Frame(frame);
            }
            if cursor.is_behind(self.limits.window)
                && !std::mem::replace(&mut cursor.is_waiting, true)
            {
                waiting.push_back(at);
            }
        }
    }
}

impl State {
    /// Gives a cursor a turn.
    fn list(&mut self, at: TopicPartition) {
        if let Some(cursor) = self.cursors.get_mut(&at)
            && !std::mem::replace(&mut cursor.is_listed, true)
        {
            self.ready.push_back(at);
        }
    }
}

/// Takes off the front what `is_past`.
fn passed<T>(line: &mut VecDeque<T>, is_past: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
    let count = line.iter().take_while(|item| is_past(item)).count();
    line.drain(..count)
}

impl Cursor {
    fn queue(&mut self, piece: Piece) {
        self.next = piece.end;
        self.queued_bytes += piece.bytes;
        self.queue.push_back(piece);
    }

    fn has_room(&self, window: usize) -> bool {
        self.unclaimed_bytes < window
    }

    /// One frame: queued batches, or only news of the watermark.
    fn frame(&mut self, at: TopicPartition, limits: Limits) -> Option<Vec<Bytes>> {
        let news = (self.standing.high_watermark, self.standing.log_start);
        let has_data = !self.queue.is_empty() && self.has_room(limits.window);
        if self.told == Some(news) && !has_data {
            return None;
        }
        self.told = Some(news);
        let header = DataHeader {
            leader_epoch: self.leader_epoch,
            session: self.session,
            high_watermark: news.0,
            log_start: news.1,
        };
        let mut chunks = vec![encode_to_follower(&ToFollower::Data(at, header))];
        let mut bytes = 0;
        while self.has_room(limits.window) && bytes < limits.frame {
            let Some(piece) = self.queue.pop_front() else {
                break;
            };
            bytes += piece.bytes;
            chunks.extend(piece.chunks.iter().cloned());
            self.queued_bytes -= piece.bytes;
            self.unclaimed_bytes += piece.bytes;
            self.unclaimed.push_back((piece.end, piece.bytes));
        }
        Some(chunks)
    }

    /// Whether it is to be served from the log now.
    fn is_behind(&self, window: usize) -> bool {
        let is_behind = self.queue.is_empty() && self.next < self.standing.end;
        self.reading == 0 && is_behind && self.has_room(window)
    }

    fn read(&mut self, at: TopicPartition, room: Room) -> Behind {
        self.reading = room.held;
        self.fetched_bytes += room.held;
        Behind {
            at,
            session: self.session,
            log: Arc::clone(&self.log),
            inbox: Arc::clone(&self.inbox),
            from: self.next,
            below: self.standing.end,
            bytes_max: room.bytes_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use weir_base::Uuid;
    use weir_storage::MemLog;

    use super::*;
    use crate::options::ReplicationOptions;

    const EPOCH: LeaderEpoch = LeaderEpoch(1);
    const READ: usize = 100;
    const NOW: Monotonic = Monotonic(5);

    fn at(index: u32) -> TopicPartition {
        TopicPartition::new(Uuid([1; 16]), index)
    }

    fn session() -> Session {
        Session::default()
    }

    /// An outlet for which two reads may be on their way, and `partitions` that are behind.
    fn outlet(partitions: u32) -> Outlet {
        outlet_over(&two_reads(), 0..partitions)
    }

    /// A window with room for two.
    fn two_reads() -> Arc<CatchUpWindow> {
        let delay = Duration::from_millis(10);
        Arc::new(CatchUpWindow::new(2 * READ, READ, delay))
    }

    /// One of several that share a window.
    fn outlet_over(window: &Arc<CatchUpWindow>, partitions: Range<u32>) -> Outlet {
        let limits = Limits {
            window: 10 * READ,
            frame: READ,
        };
        let outlet = Outlet::new(limits, Arc::clone(window));
        for index in partitions {
            let standing = Standing {
                high_watermark: Offset(0),
                log_start: Offset(0),
                end: Offset(100),
                flush: FlushMode::Sync,
            };
            let log: Arc<dyn PartitionLog> = Arc::new(MemLog::new());
            let inbox = Arc::new(Inbox::new(ReplicationOptions::default()));
            outlet.start(
                at(index),
                EPOCH,
                session(),
                Offset(0),
                standing,
                (log, inbox),
            );
        }
        outlet
    }

    /// What was appended at `base`.
    fn piece(base: u64) -> Piece {
        Piece {
            base: Offset(base),
            end: Offset(base + 1),
            bytes: 5,
            chunks: Arc::from([Bytes::from_static(b"12345")]),
        }
    }

    /// What a read finds.
    fn chunk(behind: &Behind) -> ReadChunk {
        ReadChunk {
            base: behind.from,
            end: Offset(behind.from.0 + 10),
            bytes: READ,
            chunks: vec![Bytes::from_static(&[0; READ])],
        }
    }

    /// Answers reads until none is wanted; whose they were. `next` holds where each goes on.
    fn serve(outlet: &Outlet) -> Vec<u32> {
        let mut served = Vec::new();
        loop {
            match outlet.next() {
                Next::Frame(_) => {}
                Next::Nothing => return served,
                Next::Read(behind) => {
                    served.push(behind.at.index.0);
                    let chunk = chunk(&behind);
                    outlet.on_read(behind.at, behind.session, chunk, NOW);
                }
            }
        }
    }

    fn progress(outlet: &Outlet, index: u32, end: u64, durable_end: u64) {
        let progress = Progress {
            leader_epoch: EPOCH,
            session: session(),
            end: Offset(end),
            durable_end: Offset(durable_end),
        };
        outlet.on_progress(at(index), &progress, NOW);
    }

    #[test]
    fn catching_up_waits_for_the_followers_disk_and_all_take_turns() {
        let outlet = outlet(3);
        assert_eq!(serve(&outlet), [0, 1], "two reads, and no more");
        progress(&outlet, 0, 10, 0);
        progress(&outlet, 1, 10, 0);
        assert_eq!(serve(&outlet), [] as [u32; 0], "claimed is not on the disk");
        progress(&outlet, 1, 10, 10);
        assert_eq!(serve(&outlet), [2], "who waited is next");
        progress(&outlet, 0, 10, 10);
        progress(&outlet, 2, 10, 10);
        let mut next = serve(&outlet);
        next.sort_unstable();
        assert_eq!(next, [0, 1]);
    }

    #[test]
    fn what_is_at_the_tail_waits_for_nobody() {
        let outlet = outlet(3);
        serve(&outlet);
        let tail = Standing {
            high_watermark: Offset(0),
            log_start: Offset(0),
            end: Offset(1),
            flush: FlushMode::Sync,
        };
        let log: Arc<dyn PartitionLog> = Arc::new(MemLog::new());
        let inbox = Arc::new(Inbox::new(ReplicationOptions::default()));
        let now = Standing {
            end: Offset(0),
            ..tail
        };
        outlet.start(at(9), EPOCH, session(), Offset(0), now, (log, inbox));
        assert!(matches!(outlet.next(), Next::Frame(_)), "the watermark");
        outlet.offer(at(9), session(), tail, Some(&piece(0)));
        let Next::Frame(chunks) = outlet.next() else {
            panic!("it waits");
        };
        assert_eq!(chunks.last().map(|chunk| &chunk[..]), Some(&b"12345"[..]));
    }

    /// A follower whose disk is always busy, and producers that never pause: each chunk
    /// takes nearly a second, and before each something is appended.
    #[test]
    fn catching_up_ends_beside_a_tail_that_never_rests() {
        let outlet = outlet(1);
        let log: Arc<dyn PartitionLog> = Arc::new(MemLog::new());
        let inbox = Arc::new(Inbox::new(ReplicationOptions::default()));
        let tail = |end| Standing {
            high_watermark: Offset(0),
            log_start: Offset(0),
            end: Offset(end),
            flush: FlushMode::Sync,
        };
        outlet.start(at(9), EPOCH, session(), Offset(0), tail(0), (log, inbox));
        let (mut now, mut appended, mut claimed) = (NOW, 0, 0);
        while claimed < 100 {
            now = now + Duration::from_millis(900);
            outlet.offer(at(9), session(), tail(appended + 1), Some(&piece(appended)));
            appended += 1;
            let (mut frames, mut has_tail) = (0, false);
            loop {
                match outlet.next() {
                    Next::Nothing => break,
                    Next::Read(behind) => {
                        let chunk = chunk(&behind);
                        outlet.on_read(behind.at, behind.session, chunk, now);
                    }
                    Next::Frame(chunks) => {
                        frames += 1;
                        let is_tail = chunks.last().is_some_and(|last| &last[..] == b"12345");
                        assert!(!is_tail || frames <= 2, "behind {frames} others");
                        has_tail |= is_tail;
                    }
                }
            }
            assert!(has_tail, "what is appended waits");
            let end = outlet.state().cursors[&at(0)].next.0;
            assert!(end > claimed, "it stands still at {end}");
            claimed = end;
            for (index, end) in [(9, appended), (0, claimed)] {
                let progress = Progress {
                    leader_epoch: EPOCH,
                    session: session(),
                    end: Offset(end),
                    durable_end: Offset(end),
                };
                outlet.on_progress(at(index), &progress, now + Duration::from_millis(899));
            }
        }
    }

    #[test]
    fn who_leaves_makes_room() {
        let outlet = outlet(3);
        assert_eq!(serve(&outlet), [0, 1]);
        outlet.stop(at(0), session());
        assert_eq!(serve(&outlet), [2]);
    }

    #[test]
    fn streams_to_one_follower_share_what_it_catches_up_with_and_take_turns() {
        let window = two_reads();
        let [one, two] = [outlet_over(&window, 0..3), outlet_over(&window, 3..5)];
        assert_eq!(serve(&one), [0, 1]);
        assert_eq!(serve(&two), [], "no room is left");
        progress(&one, 0, 10, 10);
        assert_eq!(serve(&two), [], "the other was first in line");
        assert_eq!(serve(&one), [2]);
        progress(&one, 1, 10, 10);
        assert_eq!(serve(&one), [], "now it is the other's turn");
        assert_eq!(serve(&two), [3]);
        assert_eq!(serve(&one), []);
        two.close();
        assert_eq!(serve(&one), [0], "what a stream had is void when it ends");
    }

    #[test]
    fn who_has_nothing_to_read_any_more_lets_the_next_one_pass() {
        let window = two_reads();
        let outlets = [0..2, 2..3, 3..4].map(|range| outlet_over(&window, range));
        assert_eq!(serve(&outlets[0]), [0, 1]);
        assert_eq!(serve(&outlets[1]), []);
        assert_eq!(serve(&outlets[2]), []);
        progress(&outlets[0], 0, 10, 10);
        assert_eq!(serve(&outlets[0]), [0]);
        outlets[1].stop(at(2), session());
        progress(&outlets[0], 1, 10, 10);
        assert_eq!(serve(&outlets[2]), [], "it is not told yet");
        assert_eq!(serve(&outlets[1]), []);
        assert_eq!(serve(&outlets[2]), [3]);
    }

    #[test]
    fn a_silent_session_that_holds_up_others_is_over() {
        let outlet = outlet(3);
        assert_eq!(serve(&outlet), [0, 1]);
        outlet.look_back(NOW + SILENCE_MAX);
        assert_eq!(serve(&outlet), [], "not yet");
        let late = NOW + SILENCE_MAX + Duration::from_secs(2);
        let progress = Progress {
            leader_epoch: EPOCH,
            session: session(),
            end: Offset(10),
            durable_end: Offset(0),
        };
        outlet.on_progress(at(1), &progress, late.before(Duration::from_secs(1)));
        outlet.look_back(late);
        let Next::Frame(answer) = outlet.next() else {
            panic!("no answer");
        };
        let refused = ToFollower::Answer(at(0), EPOCH, session(), Answer::Refused);
        assert_eq!(answer, [encode_to_follower(&refused)]);
        assert_eq!(serve(&outlet), [2], "who is heard keeps what it has");
    }
}
