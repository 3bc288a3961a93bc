//! The leader's end of a stream: what is to be sent to one follower node, by partition.
//!
//! A cursor per partition says what was sent and what is queued. Freshly appended groups
//! are queued from memory while the follower's window has room; a cursor that fell behind
//! is served by reads from the log (`catch_up.rs`) until it reaches the end again. Cursors
//! take turns, a frame each, those at the tail and those behind alike.
//!
//! Bounded: queued and unclaimed bytes of a cursor together stay within its window, but
//! for one batch; what does not fit is not queued at all and read from the log later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use weir_base::{LeaderEpoch, Offset, RecordBatch, TopicPartition};
use weir_storage::{PartitionLog, ReadChunk};

use super::{ToFollower, encode_to_follower};
use crate::core::effect::{Answer, DataHeader, Session};
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

/// Where a partition stands, as its frames tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
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
    is_reading: bool,
    is_listed: bool,
}

#[derive(Default)]
struct State {
    cursors: BTreeMap<TopicPartition, Cursor>,
    /// Cursors that have something to do, in turn.
    ready: VecDeque<TopicPartition>,
    answers: VecDeque<ToFollower>,
    is_closed: bool,
}

/// The sending side of one stream.
pub(crate) struct Outlet {
    state: Mutex<State>,
    pub(crate) wake: Notify,
    window_bytes: usize,
    frame_bytes_max: usize,
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
}

impl Outlet {
    pub(crate) fn new(window_bytes: usize, frame_bytes_max: usize) -> Outlet {
        Outlet {
            state: Mutex::default(),
            wake: Notify::new(),
            window_bytes,
            frame_bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a session's cursor and gives it a turn.
    fn with(&self, at: TopicPartition, session: Session, change: impl FnOnce(&mut Cursor)) {
        let mut state = self.state();
        let State { cursors, ready, .. } = &mut *state;
        if let Some(cursor) = cursors.get_mut(&at).filter(|c| c.session == session) {
            change(cursor);
            if !std::mem::replace(&mut cursor.is_listed, true) {
                ready.push_back(at);
            }
            drop(state);
            self.wake.notify_one();
        }
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
            is_reading: false,
            is_listed: false,
        };
        {
            let mut state = self.state();
            if state.is_closed {
                return;
            }
            state.ready.retain(|listed| *listed != at);
            state.cursors.insert(at, cursor);
        }
        self.with(at, session, |_| {});
    }

    /// Stops sending a partition.
    pub(crate) fn stop(&self, at: TopicPartition, session: Session) {
        let mut state = self.state();
        if state.cursors.get(&at).is_some_and(|c| c.session == session) {
            state.cursors.remove(&at);
            state.ready.retain(|listed| *listed != at);
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
        let window = self.window_bytes;
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

    /// The follower claims everything below `end`: its window opens.
    pub(crate) fn on_progress(&self, at: TopicPartition, session: Session, end: Offset) {
        self.with(at, session, |cursor| {
            while let Some((sent, bytes)) = cursor.unclaimed.front() {
                if *sent > end {
                    break;
                }
                cursor.unclaimed_bytes -= bytes;
                cursor.unclaimed.pop_front();
            }
        });
    }

    /// What a read for a cursor found. One that leads nowhere ends the session: asked
    /// anew, the follower's place in the log is judged anew.
    pub(crate) fn on_read(&self, at: TopicPartition, session: Session, chunk: ReadChunk) {
        let mut stuck = None;
        self.with(at, session, |cursor| {
            cursor.is_reading = false;
            if chunk.bytes > 0 && chunk.base == cursor.next {
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
            self.stop(at, session);
            self.answer(at, epoch, session, Answer::Refused);
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
            std::mem::take(&mut state.cursors)
        };
        drop(cursors);
    }

    /// The writer's next step.
    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(answer) = state.answers.pop_front() {
            return Next::Frame(vec![encode_to_follower(&answer)]);
        }
        while let Some(at) = state.ready.pop_front() {
            let State { cursors, ready, .. } = &mut *state;
            let Some(cursor) = cursors.get_mut(&at) else {
                continue;
            };
            cursor.is_listed = false;
            if let Some(frame) = cursor.frame(at, self.window_bytes, self.frame_bytes_max) {
                // More may be queued: to the end of the line.
                cursor.is_listed = true;
                ready.push_back(at);
                return Next::Frame(frame);
            }
            if let Some(behind) = cursor.behind(at, self.window_bytes) {
                return Next::Read(behind);
            }
        }
        Next::Nothing
    }
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
    fn frame(
        &mut self,
        at: TopicPartition,
        window: usize,
        frame_bytes_max: usize,
    ) -> Option<Vec<Bytes>> {
        let news = (self.standing.high_watermark, self.standing.log_start);
        let has_data = !self.queue.is_empty() && self.has_room(window);
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
        while self.has_room(window) && bytes < frame_bytes_max {
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

    fn behind(&mut self, at: TopicPartition, window: usize) -> Option<Behind> {
        let is_behind = self.queue.is_empty() && self.next < self.standing.end;
        if self.is_reading || !is_behind || !self.has_room(window) {
            return None;
        }
        self.is_reading = true;
        Some(Behind {
            at,
            session: self.session,
            log: Arc::clone(&self.log),
            inbox: Arc::clone(&self.inbox),
            from: self.next,
            below: self.standing.end,
        })
    }
}
