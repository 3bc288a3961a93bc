//! The disk log against the log in memory, through crashes at any disk operation.
//!
//! After each crash the recovered log must be a state that its fsync history allows
//! (I12): after a process crash everything that was answered is there; after a power loss
//! everything that was told durable is, and what else is there is a prefix of what was
//! written. An operation that the crash cut short may have happened or not. A failed fsync
//! ends the process, and what it was to cover can still be read, but is not on the disk.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use support::{env, partition};
use weir_base::image::FlushMode;
use weir_base::{Entropy, LeaderEpoch, Offset, RecordBatch, Timestamp};
use weir_storage::contract::{batch, batches_of, produced};
use weir_storage::{
    Crash, LogConfig, LogError, MemLog, PartitionLog, SimDisk, SimFaults, Storage, StorageOptions,
};

#[derive(Debug, Clone)]
enum Op {
    Append {
        sizes: Vec<usize>,
        flush: FlushMode,
    },
    Produce {
        producer: i64,
        sequence: i32,
    },
    NextEpoch,
    Truncate {
        per_mille: u64,
    },
    SetStart {
        per_mille: u64,
    },
    Reset {
        ahead: u64,
    },
    Flush,
    Checkpoint,
    Pause {
        millis: u64,
    },
    Crash {
        how: Crash,
        after: Option<u64>,
    },
    /// From now on an fsync fails once in that many, until one does.
    FailSyncs {
        odds: u64,
    },
    Restart,
}

fn flush() -> impl Strategy<Value = FlushMode> {
    prop_oneof![Just(FlushMode::Sync), Just(FlushMode::Async)]
}

fn op() -> impl Strategy<Value = Op> {
    let crash = prop_oneof![Just(Crash::Process), Just(Crash::PowerLoss)];
    prop_oneof![
        12 => (prop::collection::vec(1..8usize, 1..4), flush())
            .prop_map(|(sizes, flush)| Op::Append { sizes, flush }),
        6 => (0..3i64, 0..6i32).prop_map(|(producer, sequence)| Op::Produce { producer, sequence }),
        2 => Just(Op::NextEpoch),
        2 => (0..1001u64).prop_map(|per_mille| Op::Truncate { per_mille }),
        2 => (0..1001u64).prop_map(|per_mille| Op::SetStart { per_mille }),
        1 => (0..50u64).prop_map(|ahead| Op::Reset { ahead }),
        1 => Just(Op::Flush),
        1 => Just(Op::Checkpoint),
        2 => (1..150u64).prop_map(|millis| Op::Pause { millis }),
        4 => (crash, prop::option::of(0..25u64)).prop_map(|(how, after)| Op::Crash { how, after }),
        2 => (1..8u64).prop_map(|odds| Op::FailSyncs { odds }),
        1 => Just(Op::Restart),
    ]
}

struct World {
    disk: SimDisk,
    config: LogConfig,
    cache: usize,
    storage: Option<Storage>,
    log: Option<Arc<dyn PartitionLog>>,
    twin: MemLog,
    epoch: LeaderEpoch,
    now: Timestamp,
    starts: u8,
    /// Crashes there had been when the log was opened.
    crashes: u64,
    armed: Option<Crash>,
    latency: Duration,
    sync_failure_odds: u64,
}

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ALL: Offset = Offset(u64::MAX);

impl World {
    fn new(seed: u8, segment_bytes: u64, cache: usize) -> World {
        World {
            disk: SimDisk::new(&Entropy::from_seed([seed; 32])),
            config: LogConfig {
                segment_bytes,
                ..LogConfig::default()
            },
            cache,
            storage: None,
            log: None,
            twin: MemLog::new(),
            epoch: LeaderEpoch(1),
            now: NOW,
            starts: 0,
            crashes: 0,
            armed: None,
            latency: Duration::ZERO,
            sync_failure_odds: 0,
        }
    }

    fn set_faults(&self) {
        self.disk.set_faults(SimFaults {
            latency_max: self.latency,
            sync_failure_odds: self.sync_failure_odds,
            ..SimFaults::default()
        });
    }

    fn log(&self) -> Arc<dyn PartitionLog> {
        self.log.clone().unwrap()
    }

    /// Opens storage and log; an error only if the disk crashed again meanwhile.
    async fn start(&mut self) -> Result<(), String> {
        self.starts += 1;
        self.crashes = self.disk.crashes();
        let options = StorageOptions {
            wal_file_bytes: 64 * 1024,
            wal_files_max: 3,
            checkpoint_bytes: 64 * 1024,
            tail_cache_bytes: self.cache,
            reserve_bytes: 0,
            ..StorageOptions::default()
        };
        let mut env = env(Arc::new(self.disk.handle(None)), self.starts);
        env.disk = Arc::new(self.disk.handle(Some(env.clock.clone())));
        let storage = Storage::open(env, options)
            .await
            .map_err(|error| error.to_string())?;
        let opened = storage.open_log(partition(0), self.config).await;
        let (log, _) = opened.map_err(|error| error.to_string())?;
        self.storage = Some(storage);
        self.log = Some(log);
        Ok(())
    }

    fn place(&self, per_mille: u64) -> Offset {
        let position = self.twin.position();
        position.start + (position.end - position.start) * per_mille / 1000
    }

    /// Runs `op` on `log`, which may be either of the two.
    async fn apply(&self, log: &dyn PartitionLog, op: &Op) -> Result<(), LogError> {
        match op {
            Op::Append { sizes, flush } => {
                let batches = sizes.iter().map(|records| batch(*records)).collect();
                log.append_as_leader(self.epoch, self.now, batches, *flush)
                    .await?;
            }
            Op::Produce { producer, sequence } => {
                let batches = vec![produced(*producer, 0, *sequence, 1)];
                log.append_as_leader(self.epoch, self.now, batches, FlushMode::Sync)
                    .await?;
            }
            Op::Truncate { per_mille } => log.truncate_to(self.place(*per_mille)).await?,
            Op::SetStart { per_mille } => log.set_start(self.place(*per_mille)).await?,
            Op::Reset { ahead } => {
                log.reset_to(self.twin.position().end + *ahead).await?;
            }
            Op::Flush => log.flush().await?,
            Op::NextEpoch
            | Op::Checkpoint
            | Op::Pause { .. }
            | Op::Crash { .. }
            | Op::FailSyncs { .. }
            | Op::Restart => {}
        }
        Ok(())
    }

    /// Whether the process is gone: it ends itself once its disk failed.
    fn crashed(&mut self) -> bool {
        let failed = |storage: &Storage| storage.failure().borrow().is_some();
        if self.disk.crashes() == self.crashes && self.storage.as_ref().is_some_and(failed) {
            self.end_failed();
        }
        self.disk.crashes() != self.crashes
    }

    fn end_failed(&mut self) {
        self.sync_failure_odds = 0;
        self.set_faults();
        self.disk.crash(Crash::Process);
        self.armed = Some(Crash::Process);
    }

    async fn step(&mut self, op: &Op) {
        self.now.0 += 10;
        match op {
            Op::NextEpoch => self.epoch = self.epoch.next(),
            Op::Pause { millis } => {
                let clock = support::TokioClock::start();
                let until = weir_base::Clock::now(&*clock) + Duration::from_millis(*millis);
                weir_base::Clock::sleep_until(&*clock, until).await;
            }
            Op::Checkpoint => {
                let done = self.storage.as_ref().unwrap().checkpoint().await;
                assert!(done.is_ok() || self.crashed(), "{done:?}");
            }
            Op::Restart => {
                let done = self.storage.as_ref().unwrap().shutdown_clean().await;
                assert!(done.is_ok() || self.crashed(), "{done:?}");
                if done.is_ok() {
                    self.storage = None;
                    let done = self.start_unless_crashed().await;
                    assert!(done.is_ok(), "{done:?}");
                }
            }
            Op::Crash { how, after } => {
                self.armed = Some(*how);
                self.disk.crash_after(after.unwrap_or(0), *how);
                if after.is_none() {
                    self.disk.call_off_crash();
                    self.disk.crash(*how);
                }
            }
            Op::FailSyncs { odds } => {
                self.sync_failure_odds = *odds;
                self.set_faults();
            }
            Op::Append { .. }
            | Op::Produce { .. }
            | Op::Truncate { .. }
            | Op::SetStart { .. }
            | Op::Reset { .. }
            | Op::Flush => {
                let before = self.twin.clone();
                let done = self.apply(&*self.log(), op).await;
                let after = before.clone();
                self.apply(&after, op).await.unwrap();
                match done {
                    Ok(()) => self.twin = after,
                    Err(_) if self.crashed() => return self.recover(&[before, after]).await,
                    Err(other) => panic!("{op:?}: {other}"),
                }
            }
        }
        if self.crashed() {
            let twin = self.twin.clone();
            return self.recover(&[twin]).await;
        }
        let checked = same(&self.twin, &*self.log()).await;
        if self.crashed() {
            let twin = self.twin.clone();
            return self.recover(&[twin]).await;
        }
        if let Err(why) = checked {
            panic!("after {op:?}: {why}");
        }
    }

    /// A start that a crash cut short, or a failed fsync, is tried again.
    async fn start_unless_crashed(&mut self) -> Result<(), String> {
        loop {
            match self.start().await {
                Err(_) if self.crashed() => {}
                Err(_) if self.sync_failure_odds > 0 => self.end_failed(),
                other => return other,
            }
        }
    }

    /// Starts again after a crash, and finds out which of `possible` the log is now.
    async fn recover(&mut self, possible: &[MemLog]) {
        let crash = self.armed.take();
        let told = self.log.take().map(|log| log.position());
        self.storage = None;
        self.start_unless_crashed().await.unwrap();
        let found = self.log();
        let position = found.position();
        assert_eq!(position.durable_end, position.end);
        let mut why = Vec::new();
        for candidate in possible.iter().rev() {
            let all = candidate.position();
            let floor = match crash {
                Some(Crash::Process) if possible.len() == 1 => all.end,
                Some(_) | None => told.map_or(Offset::ZERO, |p| p.durable_end.min(all.end)),
            };
            if position.start != all.start || !(floor..=all.end).contains(&position.end) {
                why.push(format!("{position:?} is not {all:?} down to {floor}"));
                continue;
            }
            let cut = candidate.clone();
            cut.truncate_to(position.end).await.unwrap();
            match same(&cut, &*found).await {
                Ok(()) => {
                    self.twin = cut;
                    return;
                }
                Err(other) => why.push(other),
            }
        }
        panic!("after {crash:?}, told {told:?}: {why:#?}");
    }
}

async fn all_of(log: &dyn PartitionLog) -> Result<Vec<RecordBatch>, LogError> {
    let mut batches = Vec::new();
    let mut from = log.position().start;
    loop {
        let chunk = log.read(from, ALL, 2_000).await?;
        if chunk.bytes == 0 {
            return Ok(batches);
        }
        batches.extend(batches_of(&chunk));
        from = chunk.end;
    }
}

async fn same(twin: &MemLog, log: &dyn PartitionLog) -> Result<(), String> {
    let (mut left, mut right) = (twin.position(), log.position());
    left.durable_end = Offset::ZERO;
    right.durable_end = Offset::ZERO;
    let differ = |what: &str, left: String, right: String| {
        if left == right {
            return Ok(());
        }
        Err(format!("{what}: twin {left}, log {right}"))
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    differ("position", text(&left), text(&right))?;
    differ("producers", text(&twin.producers()), text(&log.producers()))?;
    for epoch in 0..12 {
        let epoch = LeaderEpoch(epoch);
        // What is known of epochs that ended below the start may differ.
        let start = twin.position().start;
        let of = |log: &dyn PartitionLog| log.end_of_epoch(epoch).filter(|e| e.end > start);
        let (left, right) = (of(twin), of(log));
        differ("epoch", text(&left), text(&right))?;
    }
    let left = all_of(twin).await.unwrap();
    let right = all_of(log).await.map_err(|error| error.to_string())?;
    if left != right {
        let (left, right) = (left.len(), right.len());
        return Err(format!("batches differ, {left} and {right} of them"));
    }
    Ok(())
}

fn run(seed: u8, segment_bytes: u64, cache: usize, latency: u64, ops: Vec<Op>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async move {
        let mut world = World::new(seed, segment_bytes, cache);
        world.latency = Duration::from_millis(latency);
        world.set_faults();
        world.start().await.unwrap();
        for op in ops {
            world.step(&op).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_log_is_the_twin_through_crashes(
        seed in any::<u8>(),
        segment_bytes in prop_oneof![Just(600u64), Just(3_000), Just(1 << 20)],
        cache in prop_oneof![Just(0usize), Just(4_000), Just(1 << 20)],
        latency in prop_oneof![Just(0u64), Just(20)],
        ops in prop::collection::vec(op(), 1..60),
    ) {
        run(seed, segment_bytes, cache, latency, ops);
    }
}

/// Each planted bug of cuts and segments must be found within a bounded number of runs.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_found() {
    use proptest::strategy::ValueTree as _;
    use weir_base::mutant::{Mutant, plant};
    let directories = Mutant::DIRECTORIES.iter().copied();
    for mutant in [Mutant::M6, Mutant::M8, Mutant::M11]
        .into_iter()
        .chain(directories)
    {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let runs = (any::<u8>(), prop::collection::vec(op(), 1..60));
        let found = (0..2_000).find(|_| {
            let (seed, ops) = runs.new_tree(&mut runner).unwrap().current();
            std::panic::catch_unwind(|| {
                plant(Some(mutant));
                run(seed, 600, 0, 0, ops);
            })
            .is_err()
        });
        plant(None);
        assert!(found.is_some(), "{mutant:?} survives");
        println!("{mutant:?} found in run {}", found.unwrap());
    }
}

/// A checkpoint beside the first commit once took the log file just begun for an old one.
#[test]
fn a_checkpoint_spares_the_file_being_begun() {
    let append = |records: usize| Op::Append {
        sizes: vec![records],
        flush: FlushMode::Sync,
    };
    let crash = |how| Op::Crash { how, after: None };
    for seed in 0..24 {
        let ops = vec![
            crash(Crash::Process),
            append(1),
            Op::Checkpoint,
            append(2),
            append(1),
            append(1),
            append(1),
            crash(Crash::PowerLoss),
        ];
        run(seed, 600, 0, 20, ops);
    }
}

/// A process that ended between making a segment and syncing its name once left a file
/// that the next process took for one that lasts: a power loss then took it away, and
/// batches that were durable with it.
#[test]
fn a_segment_that_a_process_crash_left_behind_outlives_a_power_loss() {
    let append = |records: usize| Op::Append {
        sizes: vec![records],
        flush: FlushMode::Sync,
    };
    let interrupted = [
        // The segment it makes is a new one, the one there is, ...
        vec![append(3), Op::Reset { ahead: 0 }],
        vec![Op::Reset { ahead: 0 }],
        // ... or one that begins inside the only batch.
        vec![
            append(3),
            Op::SetStart { per_mille: 500 },
            Op::Truncate { per_mille: 0 },
        ],
        // A roll, by a raised start and by an append.
        vec![append(3), Op::SetStart { per_mille: 1_000 }],
        vec![append(3), append(3)],
    ];
    for ops in &interrupted {
        for (after, seed) in (0..28).flat_map(|after| (0..3).map(move |seed| (after, seed))) {
            let crash = Op::Crash {
                how: Crash::Process,
                after: Some(after),
            };
            let power_loss = Op::Crash {
                how: Crash::PowerLoss,
                after: None,
            };
            let mut ops = ops.clone();
            ops.insert(0, crash);
            ops.extend([append(1), append(2), Op::Checkpoint, power_loss]);
            for segment_bytes in [300, 1 << 20] {
                run(seed, segment_bytes, 0, 0, ops.clone());
            }
        }
    }
}

/// A process that ended between making a segment and storing who produced up to there
/// once left a segment that a later cut could not begin from.
#[test]
fn a_segment_that_a_process_crash_left_behind_knows_its_producers() {
    let append = || Op::Append {
        sizes: vec![2],
        flush: FlushMode::Sync,
    };
    for after in 0..28 {
        let ops = vec![
            Op::Produce {
                producer: 0,
                sequence: 0,
            },
            Op::Crash {
                how: Crash::Process,
                after: Some(after),
            },
            append(),
            append(),
            append(),
            Op::SetStart { per_mille: 700 },
            Op::Truncate { per_mille: 0 },
        ];
        for segment_bytes in [300, 600] {
            run(0, segment_bytes, 0, 0, ops.clone());
        }
    }
}

/// A process that ended between writing a state and syncing it once left the next one
/// acting on a state that a power loss then took back, with segments removed that the
/// state before it named.
#[test]
fn a_state_that_a_process_crash_left_unsynced_outlives_a_power_loss() {
    let append = || Op::Append {
        sizes: vec![2],
        flush: FlushMode::Sync,
    };
    for cut_short in [
        Op::SetStart { per_mille: 700 },
        Op::Truncate { per_mille: 300 },
        Op::Reset { ahead: 1 },
        Op::Checkpoint,
    ] {
        for (after, seed) in (0..12).flat_map(|after| (0..6).map(move |seed| (after, seed))) {
            let ops = vec![
                append(),
                append(),
                append(),
                Op::Crash {
                    how: Crash::Process,
                    after: Some(after),
                },
                cut_short.clone(),
                append(),
                Op::Crash {
                    how: Crash::PowerLoss,
                    after: None,
                },
            ];
            run(seed, 300, 0, 0, ops);
        }
    }
}

/// What the very first process made and did not live to sync the names of is used by the
/// next one: the directory's record, the write-ahead log, the log itself.
#[test]
fn a_first_start_that_a_crash_cut_short_loses_nothing_later() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        for (after, seed) in (0..40).flat_map(|after| (0..6).map(move |seed| (after, seed))) {
            let mut world = World::new(seed, 1 << 20, 0);
            world.disk.crash_after(after, Crash::Process);
            world.start_unless_crashed().await.unwrap();
            world.disk.call_off_crash();
            // Background work may have met the crash once the start was over.
            if world.crashed() {
                world.start_unless_crashed().await.unwrap();
            }
            // Long enough for the write-ahead log, too short for a flush of the segment.
            let pause = Op::Pause { millis: 50 };
            let append = Op::Append {
                sizes: vec![2],
                flush: FlushMode::Sync,
            };
            let power_loss = Op::Crash {
                how: Crash::PowerLoss,
                after: None,
            };
            for op in [append, pause, power_loss] {
                world.step(&op).await;
            }
            assert_eq!(world.log().position().end, Offset(2), "{after} {seed}");
        }
    });
}

/// A process whose fsync failed once left bytes behind that could be read and were not on
/// the disk; the next one took them for durable, forgot the write-ahead log, and a power
/// loss took acknowledged batches away.
#[test]
fn what_a_failed_fsync_left_behind_is_not_built_on() {
    let append = || Op::Append {
        sizes: vec![2],
        flush: FlushMode::Sync,
    };
    let pause = || Op::Pause { millis: 50 };
    for failing in [
        Op::Checkpoint,
        Op::Flush,
        append(),
        Op::SetStart { per_mille: 700 },
        Op::SetStart { per_mille: 1_000 },
        Op::Truncate { per_mille: 300 },
        Op::Truncate { per_mille: 0 },
        Op::Reset { ahead: 0 },
        Op::Reset { ahead: 1 },
    ] {
        for (odds, seed) in (1..6).flat_map(|odds| (0..12).map(move |seed| (odds, seed))) {
            let ops = vec![
                append(),
                append(),
                append(),
                pause(),
                Op::FailSyncs { odds },
                failing.clone(),
                pause(),
                append(),
                pause(),
                Op::Crash {
                    how: Crash::PowerLoss,
                    after: None,
                },
            ];
            for segment_bytes in [300, 1 << 20] {
                run(seed, segment_bytes, 0, 0, ops.clone());
            }
        }
    }
}
