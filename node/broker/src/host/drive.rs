//! The host's only task: follows the journal, decides, appends, answers.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::{mpsc, watch};
use weir_base::batch::BatchBuilder;
use weir_base::machine::Decision;
use weir_base::{
    BoxFuture, Env, LeaderEpoch, Monotonic, Offset, RecordBatch, Timestamp, TopicPartition,
};

use super::desk::Desk;
use super::load::Fold;
use super::park::Parked;
use super::snapshot::SnapshotName;
use super::{
    Call, HostError, HostOptions, Journal, JournalChunk, JournalError, JournalState, Journaled,
};

/// Commands decided before the driver looks around again.
const COMMANDS_AT_ONCE_MAX: usize = 256;

/// State of the task.
pub(super) struct Driver<M: Journaled> {
    env: Env,
    journal: Arc<dyn Journal>,
    desk: Arc<Desk<M>>,
    /// For others: whether much of the journal is still to be read.
    is_behind: Arc<AtomicBool>,
    state: watch::Receiver<JournalState>,
    options: HostOptions,
    make_volatile: Box<dyn Fn() -> M::Volatile + Send>,
    calls: mpsc::Receiver<Call<M>>,
    name: SnapshotName,
    /// Committed records only, unless serving.
    fold: Fold<M>,
    serving: Option<Serving<M>>,
    /// An epoch that refused an append: what the state says of it is out of date.
    refused: Option<LeaderEpoch>,
    unreadable: Option<Arc<str>>,
    /// Bytes of the last snapshot.
    snapshot_bytes: u64,
    // What is under way; at most one of each.
    loading: Option<BoxFuture<'static, Option<bytes::Bytes>>>,
    reading: Option<BoxFuture<'static, Result<JournalChunk, JournalError>>>,
    saving: Option<BoxFuture<'static, ()>>,
    /// Before a refused append or read is tried again.
    pause: Option<BoxFuture<'static, ()>>,
    timer: Option<(Monotonic, BoxFuture<'static, ()>)>,
}

/// What a leader has beside the fold.
struct Serving<M: Journaled> {
    epoch: LeaderEpoch,
    volatile: M::Volatile,
    parked: Parked<M::Reply>,
    /// Everything below is committed; the fold is ahead by the two batches below.
    committed: Offset,
    /// Sent, or refused and to be sent again.
    in_flight: Option<InFlight<M>>,
    /// Decided and applied, not sent.
    pending: Option<Pending>,
    /// The end of the state that others were told of.
    told: Option<Offset>,
    /// The machine's time: the wall clock at the start of the epoch and what the
    /// monotonic clock counted since, so that a wall clock set anew ends no session.
    started: (Timestamp, Monotonic),
}

struct InFlight<M: Journaled> {
    batch: RecordBatch,
    base: Offset,
    end: Offset,
    /// What may leave when it is committed, if that changed.
    parcels: Option<Vec<M::Parcel>>,
    append: Option<BoxFuture<'static, Result<Offset, JournalError>>>,
}

struct Pending {
    batch: BatchBuilder,
    base: Offset,
}

enum Event<M: Journaled> {
    State,
    Closed,
    Loaded(Option<bytes::Bytes>),
    Read(Result<JournalChunk, JournalError>),
    Appended(Result<Offset, JournalError>),
    Saved,
    Paused,
    Due,
    Call(Call<M>),
}

impl<M: Journaled> Driver<M> {
    pub(super) fn new(
        env: Env,
        (journal, desk, is_behind): (Arc<dyn Journal>, Arc<Desk<M>>, Arc<AtomicBool>),
        id: TopicPartition,
        options: HostOptions,
        make_volatile: Box<dyn Fn() -> M::Volatile + Send>,
        calls: mpsc::Receiver<Call<M>>,
    ) -> Self {
        let mut driver = Self {
            state: journal.state(),
            env,
            journal,
            desk,
            is_behind,
            options,
            make_volatile,
            calls,
            name: SnapshotName::new(M::KIND, id),
            fold: Fold::new(),
            serving: None,
            refused: None,
            unreadable: None,
            snapshot_bytes: 0,
            loading: None,
            reading: None,
            saving: None,
            pause: None,
            timer: None,
        };
        driver.load();
        driver
    }

    /// Runs until the journal or the host's handle is gone.
    pub(super) async fn run(mut self) {
        loop {
            self.advance();
            match self.next_event().await {
                Event::State => {}
                Event::Closed => break,
                Event::Loaded(bytes) => self.on_loaded(bytes),
                Event::Read(chunk) => self.on_read(chunk),
                Event::Appended(result) => self.on_appended(result),
                Event::Saved => self.saving = None,
                Event::Paused => self.pause = None,
                Event::Due => self.on_due(),
                Event::Call(call) => self.on_calls(call),
            }
        }
        self.lose();
    }

    async fn next_event(&mut self) -> Event<M> {
        let takes_calls = self.takes_calls();
        let append = self
            .serving
            .as_mut()
            .and_then(|serving| serving.in_flight.as_mut());
        tokio::select! {
            biased;
            changed = self.state.changed() => {
                if changed.is_ok() { Event::State } else { Event::Closed }
            }
            result = ready(append.and_then(|sent| sent.append.as_mut())) => Event::Appended(result),
            bytes = ready(self.loading.as_mut()) => Event::Loaded(bytes),
            chunk = ready(self.reading.as_mut()) => Event::Read(chunk),
            () = ready(self.saving.as_mut()) => Event::Saved,
            () = ready(self.pause.as_mut()) => Event::Paused,
            () = ready(self.timer.as_mut().map(|(_, timer)| timer)) => Event::Due,
            call = self.calls.recv(), if takes_calls => call.map_or(Event::Closed, Event::Call),
        }
    }

    /// Does what the state of things asks for and needs no waiting.
    fn advance(&mut self) {
        let state = *self.state.borrow_and_update();
        let epoch = self.serving.as_ref().map(|serving| serving.epoch);
        if epoch.is_some() && epoch != state.leading {
            self.lose();
        }
        if self.serving.is_none() {
            self.follow(state);
        }
        let unread = state.committed.0.saturating_sub(self.fold.applied.0);
        let is_behind = self.loading.is_some() || unread > self.options.unread_max;
        self.is_behind.store(is_behind, Ordering::Relaxed);
        self.maybe_snapshot();
        if let Some(serving) = &mut self.serving {
            self.desk
                .want(M::wants(&self.fold.durable, &mut serving.volatile));
            if serving.told != Some(self.fold.applied) {
                serving.told = Some(self.fold.applied);
                self.desk.tell(M::notice(&self.fold.durable));
            }
        }
        self.send();
        self.arm();
    }

    /// Folds what was committed; serves if this node leads and all is folded.
    fn follow(&mut self, state: JournalState) {
        let busy = self.loading.is_some() || self.reading.is_some() || self.pause.is_some();
        if busy || self.unreadable.is_some() {
            return;
        }
        let leads = state
            .leading
            .filter(|epoch| state.ready && Some(*epoch) != self.refused);
        if leads.is_some() && self.fold.applied > state.end {
            // Only an unclean recovery of the journal takes back what was committed. The
            // snapshot may hold it too: what is in the journal counts.
            tracing::error!(
                applied = %self.fold.applied, end = %state.end,
                "journal is shorter than what was folded from it"
            );
            self.fold = Fold::new();
        }
        if self.fold.applied < state.log_start {
            self.fold = Fold::new();
            self.fold.applied = state.log_start;
        }
        if self.fold.applied < state.committed {
            let read = self
                .journal
                .read(self.fold.applied, self.options.read_bytes_max);
            self.reading = Some(read);
        } else if let Some(epoch) = leads
            && self.fold.applied == state.end
        {
            self.serve(epoch);
        }
    }

    fn serve(&mut self, epoch: LeaderEpoch) {
        tracing::info!(%epoch, end = %self.fold.applied, kind = M::KIND, "serving");
        // All of it is committed.
        self.desk.send(M::parcels(&self.fold.durable, &[]));
        self.serving = Some(Serving {
            epoch,
            volatile: (self.make_volatile)(),
            parked: Parked::new(),
            committed: self.fold.applied,
            in_flight: None,
            pending: None,
            told: None,
            started: (self.env.clock.wall(), self.env.clock.now()),
        });
    }

    /// Drops all that belongs to the epoch, and the fold if it is ahead of the commits.
    fn lose(&mut self) {
        let Some(serving) = self.serving.take() else {
            return;
        };
        self.timer = None;
        self.pause = None;
        self.desk.clear();
        tracing::info!(
            epoch = %serving.epoch, callers = serving.parked.callers(), kind = M::KIND,
            "no longer serving"
        );
        serving.parked.fail();
        if self.fold.applied > serving.committed && !weir_base::mutant!(M18) {
            self.fold = Fold::new();
            self.load();
        }
    }

    fn load(&mut self) {
        let (name, disk) = (self.name.clone(), self.env.disk.clone());
        let read = name.read(disk, self.options.snapshot_bytes_max);
        self.loading = Some(Box::pin(read));
    }

    fn on_loaded(&mut self, bytes: Option<bytes::Bytes>) {
        self.loading = None;
        let Some(bytes) = bytes else { return };
        let Some(snapshot) = self.name.decode(&bytes) else {
            tracing::warn!(kind = M::KIND, "snapshot is damaged or foreign: ignored");
            return;
        };
        let age = self.env.clock.wall().0.abs_diff(snapshot.written.0);
        if u128::from(age) > self.options.snapshot_age_max.as_millis() {
            tracing::info!(kind = M::KIND, age, "snapshot is too old: ignored");
            return;
        }
        self.snapshot_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.fold = Fold {
            durable: snapshot.durable,
            applied: snapshot.offset,
            bytes: 0,
        };
    }

    fn on_read(&mut self, chunk: Result<JournalChunk, JournalError>) {
        self.reading = None;
        let before = self.fold.applied;
        match chunk {
            Ok(chunk) => {
                if let Err(error) = self.fold.apply_chunk(chunk) {
                    tracing::error!(%error, kind = M::KIND, "journal cannot be read");
                    self.unreadable = Some(error.to_string().into());
                } else if self.fold.applied == before {
                    self.pause();
                }
            }
            Err(JournalError::NotLeader | JournalError::Retry | JournalError::Indeterminate) => {
                self.pause();
            }
        }
    }

    fn pause(&mut self) {
        let until = self.env.clock.now() + self.options.retry_after;
        self.pause = Some(self.env.clock.sleep_until(until));
    }

    /// Whether to take calls: who does not serve refuses them, so must hear them.
    fn takes_calls(&self) -> bool {
        let settles = self.snapshot_due() && self.saving.is_none();
        self.serving.as_ref().is_none_or(|serving| {
            !settles
                && !serving.is_full(&self.options)
                && serving.parked.answers() < self.options.parked_max
        })
    }

    fn on_calls(&mut self, first: Call<M>) {
        self.on_call(first);
        for _ in 1..COMMANDS_AT_ONCE_MAX {
            if !self.takes_calls() {
                return;
            }
            match self.calls.try_recv() {
                Ok(call) => self.on_call(call),
                Err(_) => return,
            }
        }
    }

    fn on_call(&mut self, call: Call<M>) {
        let refusal = match &mut self.serving {
            Some(_) if !self.journal.may_answer() => HostError::NoLease,
            Some(serving) if serving.parked.callers() < self.options.callers_max => {
                let now = serving.now(&self.env);
                let token = serving.parked.admit(call.reply);
                let mut out = Decision::default();
                let durable = &self.fold.durable;
                M::decide(
                    durable,
                    &mut serving.volatile,
                    now,
                    token,
                    call.command,
                    &mut out,
                );
                self.take(out, now);
                return;
            }
            Some(_) => HostError::Overloaded,
            None => match (&self.unreadable, self.state.borrow().leading) {
                (Some(error), Some(_)) => HostError::Unreadable(error.clone()),
                (None, Some(_)) => HostError::Loading,
                (_, None) => HostError::NotLeader,
            },
        };
        drop(call.reply.send(Err(refusal)));
    }

    /// The machine's next deadline has come.
    fn on_due(&mut self) {
        self.timer = None;
        if let Some(serving) = &mut self.serving {
            let now = serving.now(&self.env);
            let mut out = Decision::default();
            M::on_tick(&self.fold.durable, &mut serving.volatile, now, &mut out);
            self.take(out, now);
        }
    }

    /// Applies a decision at the predicted offsets and parks its replies at their end.
    fn take(&mut self, out: Decision<M::Record, M::Reply>, now: Timestamp) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        for record in &out.records {
            let pending = serving.pending.take().unwrap_or_else(|| Pending {
                batch: BatchBuilder::new(now),
                base: self.fold.applied,
            });
            let (key, value) = M::encode(record);
            self.fold.apply(record);
            self.fold.count(Some(&key), value.as_ref());
            serving.pending = Some(Pending {
                batch: pending.batch.record(Some(&key), value.as_deref()),
                ..pending
            });
        }
        for (token, reply) in out.replies {
            serving.parked.park(self.fold.applied, token, reply);
        }
        serving.parked.release(serving.committed);
    }

    /// Sends the pending batch if none is in flight, or a refused one again.
    fn send(&mut self) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        if serving.in_flight.is_none()
            && let Some(Pending { batch, base }) = serving.pending.take()
        {
            serving.in_flight = Some(InFlight {
                batch: batch.build(),
                base,
                end: self.fold.applied,
                parcels: M::parcels(&self.fold.durable, &self.desk.parcels().borrow()),
                append: None,
            });
        }
        if let Some(sent) = &mut serving.in_flight
            && sent.append.is_none()
            && self.pause.is_none()
        {
            sent.append = Some(self.journal.append(serving.epoch, sent.batch.clone()));
        }
    }

    fn on_appended(&mut self, result: Result<Offset, JournalError>) {
        let Some(serving) = &mut self.serving else {
            return;
        };
        match (result, serving.in_flight.as_mut()) {
            (_, None) => {}
            (Ok(base), Some(sent)) => {
                // Its state would no longer be the fold of the journal (Q5, G2).
                assert_eq!(
                    base, sent.base,
                    "somebody else appended to the journal of a machine"
                );
                serving.committed = sent.end;
                self.desk.send(sent.parcels.take());
                serving.in_flight = None;
                serving.parked.release(serving.committed);
            }
            (Err(JournalError::Retry), Some(sent)) => {
                sent.append = None;
                self.pause();
            }
            (Err(JournalError::NotLeader), Some(_)) => {
                self.refused = Some(serving.epoch);
                self.lose();
            }
            (Err(JournalError::Indeterminate), Some(_)) => {
                self.lose();
                // The state may tell of the append a moment later than its answer does.
                self.pause();
            }
        }
    }

    fn snapshot_due(&self) -> bool {
        let least = self.options.snapshot_after_bytes;
        self.fold.bytes >= least.max(self.snapshot_bytes.saturating_mul(4))
    }

    /// Saves the fold when it is due and holds nothing uncommitted; a busy leader takes
    /// no calls for one commit to get there.
    fn maybe_snapshot(&mut self) {
        let settled = self
            .serving
            .as_ref()
            .is_none_or(|serving| serving.committed == self.fold.applied);
        if !settled || self.saving.is_some() || !self.snapshot_due() {
            return;
        }
        self.fold.bytes = 0;
        let now = self.env.clock.wall();
        let encoded = self.name.encode(&self.fold.durable, self.fold.applied, now);
        if let Some(bytes) = encoded {
            self.snapshot_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let write = self.name.clone().write(self.env.disk.clone(), bytes);
            self.saving = Some(Box::pin(write));
        }
    }

    /// Keeps the timer at the machine's next deadline, unless the batch is full: a tick
    /// may bring records, and another at once.
    fn arm(&mut self) {
        let serving = self.serving.as_ref();
        let due = serving.filter(|serving| !serving.is_full(&self.options));
        let due = due.and_then(|serving| {
            let deadline = M::next_deadline(&self.fold.durable, &serving.volatile)?;
            Some(serving.monotonic(deadline))
        });
        if due != self.timer.as_ref().map(|(at, _)| *at) {
            self.timer = due.map(|at| (at, self.env.clock.sleep_until(at)));
        }
    }
}

impl<M: Journaled> Serving<M> {
    /// Whether the pending batch takes no more.
    fn is_full(&self, options: &HostOptions) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| pending.batch.size() >= options.batch_bytes_max)
    }

    fn now(&self, env: &Env) -> Timestamp {
        let (wall, start) = self.started;
        wall + env.clock.now().since(start)
    }

    /// When the monotonic clock reaches a time of the machine's.
    fn monotonic(&self, at: Timestamp) -> Monotonic {
        let (wall, start) = self.started;
        let millis = u64::try_from(at.0.saturating_sub(wall.0)).unwrap_or(0);
        start + std::time::Duration::from_millis(millis)
    }
}

/// Completes with what is under way, or never if nothing is.
async fn ready<F: Future + Unpin>(mut under_way: Option<&mut F>) -> F::Output {
    poll_fn(|context| match &mut under_way {
        Some(future) => std::pin::Pin::new(&mut **future).poll(context),
        None => Poll::Pending,
    })
    .await
}
