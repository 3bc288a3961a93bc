//! Following a leader in one epoch.
//!
//! ```text
//! Opening ──data──▶ Streaming        Diverging: Cutting ──cut──▶ Opening
//!    ▲  └──refused──▶ Waiting        Reset:     Cutting ──reset─▶ Opening
//!    └──────back-off────┘            link lost, gap: ──────────▶ Opening, new session
//! ```
//! The log is cut by leader epoch only. The watermark is the leader's, bounded by the
//! own log end; batches of a lower epoch or an older session are rejected.

use weir_base::image::FlushMode;
use weir_base::{LeaderEpoch, Monotonic, NodeId, Offset};
use weir_storage::LogPosition;

use super::CoreOptions;
use super::effect::{DataHeader, Effect, Effects, Open, Progress, Session};

/// A follower.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) leader: NodeId,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) session: Session,
    phase: Phase,
    /// Newest watermark the leader told in this epoch.
    leader_high_watermark: Offset,
    told: (Offset, Offset),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Asked at that time; no answer yet.
    Opening(Monotonic),
    /// Refused; asks again then.
    Waiting(Monotonic),
    /// The log is being cut or reset.
    Cutting,
    /// Data comes; the next batch must begin here.
    Streaming(Offset),
}

/// What to do with a frame of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Append its batches (with those of the frames before and after) and call `on_position`.
    Append,
    /// Drop it: late, doubled, of an older session or a deposed leader.
    Ignore,
}

impl Follower {
    pub(crate) fn new(leader: NodeId, epoch: LeaderEpoch) -> Follower {
        Follower {
            leader,
            epoch,
            session: Session::default(),
            phase: Phase::Cutting,
            leader_high_watermark: Offset::ZERO,
            told: (Offset::ZERO, Offset::ZERO),
        }
    }

    pub(crate) fn is_cutting(&self) -> bool {
        self.phase == Phase::Cutting
    }

    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self.phase, Phase::Streaming(_))
    }

    /// Asks the leader, in a new session.
    pub(crate) fn open(&mut self, now: Monotonic, open: Open, out: &mut Effects) {
        self.session = open.session;
        self.phase = Phase::Opening(now);
        self.told = (open.end, open.durable_end);
        out.push(Effect::Open {
            to: self.leader,
            open,
        });
    }

    /// Whether a message of the leader is for this session.
    pub(crate) fn is_current(&self, epoch: LeaderEpoch, session: Session) -> bool {
        epoch == self.epoch && session == self.session
    }

    /// A frame of data that covers `range` (`None`: no batches). `Err` asks for a new
    /// session: something is missing in between.
    pub(crate) fn on_data(
        &mut self,
        header: &DataHeader,
        range: Option<(Offset, Offset)>,
        end: Offset,
    ) -> Result<Verdict, Gap> {
        if !self.is_current(header.leader_epoch, header.session) && !weir_base::mutant!(M26) {
            return Ok(Verdict::Ignore);
        }
        let next = match self.phase {
            Phase::Opening(_) => end,
            Phase::Streaming(next) => next,
            Phase::Waiting(_) | Phase::Cutting => return Ok(Verdict::Ignore),
        };
        self.leader_high_watermark = self.leader_high_watermark.max(header.high_watermark);
        let Some((base, end)) = range else {
            self.phase = Phase::Streaming(next);
            return Ok(Verdict::Append);
        };
        if base > next {
            return Err(Gap);
        }
        self.phase = Phase::Streaming(next);
        if base < next {
            return Ok(Verdict::Ignore);
        }
        self.phase = Phase::Streaming(end);
        Ok(Verdict::Append)
    }

    /// Starts cutting.
    pub(crate) fn on_cut(&mut self) {
        self.phase = Phase::Cutting;
    }

    pub(crate) fn on_refused(&mut self, now: Monotonic, options: &CoreOptions) {
        if matches!(self.phase, Phase::Opening(_) | Phase::Streaming(_)) {
            self.phase = Phase::Waiting(now + options.open_backoff);
        }
    }

    /// The high watermark this log end allows.
    pub(crate) fn high_watermark(&self, position: LogPosition) -> Offset {
        self.leader_high_watermark.min(position.end)
    }

    /// Claims the position if the leader counts what changed.
    pub(crate) fn tell(&mut self, position: LogPosition, flush: FlushMode, out: &mut Effects) {
        if !self.is_streaming() {
            return;
        }
        let (end, durable_end) = self.told;
        let news = match flush {
            // The leader waits for the fsync anyway: one claim a flush, not two.
            FlushMode::Sync => position.durable_end > durable_end,
            FlushMode::Async => position.end > end || position.durable_end > durable_end,
        };
        if !news {
            return;
        }
        self.told = (position.end, position.durable_end);
        out.push(Effect::Progress {
            to: self.leader,
            progress: Progress {
                leader_epoch: self.epoch,
                session: self.session,
                end: position.end,
                durable_end: position.durable_end,
            },
        });
    }

    /// Whether it is time to ask (again).
    pub(crate) fn is_due(&self, now: Monotonic, options: &CoreOptions) -> bool {
        self.next_wake(options).is_some_and(|at| at <= now)
    }

    pub(crate) fn next_wake(&self, options: &CoreOptions) -> Option<Monotonic> {
        match self.phase {
            Phase::Opening(since) => Some(since + options.open_timeout),
            Phase::Waiting(until) => Some(until),
            Phase::Cutting | Phase::Streaming(_) => None,
        }
    }
}

/// Data does not continue what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap;
