//! One connection: requests in, responses out, in the same order.
//!
//! One task drives everything, so there is no channel between reading, handling and
//! writing. A request starts as soon as it is read: its future is polled once before
//! the next frame is looked at, which queues produce batches in request order; a fetch
//! that waits for data holds back later *responses*, not later requests. Only compressed
//! batches hold back later requests, until their records were looked at.
//!
//! ```text
//! socket -> FrameReader -> route() -> [ in flight, oldest first ] -> ChunkWriter -> socket
//! ```
//!
//! Who pushes back: while `in_flight_max` requests or `connection_bytes_max` bytes are
//! under way, or that much is queued to be written, nothing is read but what it takes to
//! notice that the client is gone, which ends all that it waits for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use weir_base::{BoxFuture, Monotonic};
use weir_wire::{ChunkWriter, Connection, FrameReader};

use crate::close::CloseReason;
use crate::context::Shared;
use crate::handlers::route;

/// Rounds of read, handle, write before other tasks get a turn.
const ROUNDS_PER_POLL: usize = 8;
/// Requests started before the answers that are ready leave.
const FRAMES_PER_ROUND: usize = 16;

/// Bytes read ahead while no request may start, to notice that the client is gone.
const AHEAD_BYTES: usize = 64 * 1024;

/// A response, ready to be written.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Length prefix and all, in one piece.
    One(Bytes),
    /// The same in pieces.
    Chunks(Vec<Bytes>),
    /// acks=0: the client expects none.
    Nothing,
}

/// A request being handled.
pub(crate) type Handling = BoxFuture<'static, Result<Reply, CloseReason>>;

/// A request that was looked at.
pub(crate) enum Started {
    /// It is under way, and the next one may start.
    Handling(Handling),
    /// It is not: something has to be looked at first, which takes a while. The next one
    /// starts once that is done, so that their order stays.
    Checking(BoxFuture<'static, Handling>),
}

/// Lets every other task have its turn.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Serves one connection to its end and says why it ended.
pub(crate) async fn run(shared: Arc<Shared>, connection: Connection) {
    let remote = connection.remote;
    shared.meter.connected();
    let mut session = Session::new(shared, connection);
    let reason = poll_fn(|cx| session.poll(cx)).await;
    if reason.is_remarkable() {
        tracing::warn!(%remote, %reason, "kafka connection closed");
    } else {
        tracing::debug!(%remote, %reason, "kafka connection closed");
    }
}

struct Session {
    shared: Arc<Shared>,
    connection: Connection,
    reader: FrameReader,
    writer: ChunkWriter,
    in_flight: VecDeque<InFlight>,
    request_bytes: usize,
    /// Set once nothing more will be read; the connection closes when all is written.
    ending: Option<CloseReason>,
    draining: BoxFuture<'static, ()>,
    closed: BoxFuture<'static, ()>,
    idle: BoxFuture<'static, ()>,
    last_request: Monotonic,
}

struct InFlight {
    /// The request's key, if it has one.
    api: i16,
    bytes: usize,
    began: Monotonic,
    step: Step,
}

enum Step {
    Checking(BoxFuture<'static, Handling>),
    Handling(Handling),
    Done(Result<Reply, CloseReason>),
}

impl Session {
    fn new(shared: Arc<Shared>, connection: Connection) -> Session {
        let now = shared.env.clock.now();
        Session {
            reader: FrameReader::new(shared.options.produce_bytes_max),
            writer: ChunkWriter::new(),
            in_flight: VecDeque::new(),
            request_bytes: 0,
            ending: None,
            draining: connection.draining(),
            closed: connection.closed(),
            idle: shared
                .env
                .clock
                .sleep_until(now + shared.options.idle_close),
            last_request: now,
            shared,
            connection,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(CloseReason::Closed);
        }
        if self.ending.is_none() && self.draining.as_mut().poll(cx).is_ready() {
            self.ending = Some(CloseReason::Drained);
        }
        if self.poll_idle(cx) {
            return Poll::Ready(CloseReason::Idle);
        }
        for _ in 0..ROUNDS_PER_POLL {
            // All that was received is started before anything is written, so that the
            // answers to pipelined requests leave together.
            let mut progress = false;
            for _ in 0..FRAMES_PER_ROUND {
                if !self.poll_read(cx) {
                    break;
                }
                progress = true;
            }
            progress |= self.poll_handlers(cx);
            let written = self.writer.poll_write(cx, &mut *self.connection.stream);
            if let Poll::Ready(Err(error)) = written {
                return Poll::Ready(CloseReason::Write(error));
            }
            if self.in_flight.is_empty()
                && written.is_ready()
                && let Some(reason) = self.ending.take()
            {
                return Poll::Ready(reason);
            }
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the connection was idle for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        while self.idle.as_mut().poll(cx).is_ready() {
            let now = self.shared.env.clock.now();
            let idle_close = self.shared.options.idle_close;
            if self.in_flight.is_empty() && now.since(self.last_request) >= idle_close {
                return true;
            }
            let busy_until = if self.in_flight.is_empty() {
                self.last_request
            } else {
                now
            };
            self.idle = self.shared.env.clock.sleep_until(busy_until + idle_close);
        }
        false
    }

    /// Polls what is being handled and queues what is done, oldest first.
    fn poll_handlers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        for request in &mut self.in_flight {
            // The end of a check lets the next request be read.
            progress |= request.poll(cx);
        }
        while self.writer.queued() < self.shared.options.connection_bytes_max {
            let oldest = self.in_flight.front();
            if !oldest.is_some_and(|oldest| matches!(oldest.step, Step::Done(_))) {
                break;
            }
            let Some(done) = self.in_flight.pop_front() else {
                break;
            };
            progress = true;
            self.request_bytes -= done.bytes;
            let queued = self.writer.queued();
            match done.step {
                Step::Done(Ok(Reply::One(chunk))) => self.writer.push(chunk),
                Step::Done(Ok(Reply::Chunks(chunks))) => {
                    chunks.into_iter().for_each(|chunk| self.writer.push(chunk));
                }
                Step::Done(Ok(Reply::Nothing)) | Step::Checking(_) | Step::Handling(_) => {}
                Step::Done(Err(reason)) => {
                    self.end(reason);
                    continue;
                }
            }
            let bytes_out = self.writer.queued() - queued;
            let took = self.shared.env.clock.now().since(done.began);
            let meter = &self.shared.meter;
            meter.answered(done.api, done.bytes, bytes_out, took);
        }
        progress
    }

    /// Reads one request, if there is room for it, and starts it.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        let options = &self.shared.options;
        let checking = |last: &InFlight| matches!(last.step, Step::Checking(_));
        if self.ending.is_some() {
            return false;
        }
        if self.in_flight.back().is_some_and(checking)
            || self.in_flight.len() >= options.in_flight_max
            || self.request_bytes >= options.connection_bytes_max
            || self.writer.queued() >= options.connection_bytes_max
        {
            let stream = &mut *self.connection.stream;
            let closed = self.reader.poll_closed(cx, stream, AHEAD_BYTES);
            if closed.is_ready() {
                self.peer_closed();
            }
            return closed.is_ready();
        }
        let frame = match self.reader.poll_next(cx, &mut *self.connection.stream) {
            Poll::Pending => return false,
            Poll::Ready(Ok(Some(frame))) => frame,
            Poll::Ready(Ok(None)) => {
                self.peer_closed();
                return true;
            }
            Poll::Ready(Err(error)) => {
                self.end(error.into());
                return true;
            }
        };
        self.last_request = self.shared.env.clock.now();
        let bytes = frame.len();
        let api = frame
            .first_chunk()
            .map_or(-1, |key| i16::from_be_bytes(*key));
        match route(&self.shared, self.connection.remote, frame) {
            Ok(started) => {
                let step = match started {
                    Started::Handling(handling) => Step::Handling(handling),
                    Started::Checking(checking) => Step::Checking(checking),
                };
                let mut request = InFlight {
                    api,
                    bytes,
                    began: self.last_request,
                    step,
                };
                request.poll(cx);
                self.request_bytes += bytes;
                self.in_flight.push_back(request);
            }
            Err(reason) => self.end(reason),
        }
        true
    }

    /// Nobody is left to answer.
    fn peer_closed(&mut self) {
        self.in_flight.clear();
        self.end(CloseReason::PeerClosed);
    }

    /// Reads no more; answers under way still leave.
    fn end(&mut self, reason: CloseReason) {
        if self.ending.is_none() {
            self.ending = Some(reason);
        }
    }
}

impl InFlight {
    /// Whether a check came to its end.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut checked = false;
        if let Step::Checking(checking) = &mut self.step
            && let Poll::Ready(handling) = checking.as_mut().poll(cx)
        {
            self.step = Step::Handling(handling);
            checked = true;
        }
        if let Step::Handling(handling) = &mut self.step
            && let Poll::Ready(result) = handling.as_mut().poll(cx)
        {
            self.step = Step::Done(result);
        }
        checked
    }
}
