//! Disks that fail: what is told to whom, and what is left afterwards.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{env, partition};
use weir_base::image::FlushMode;
use weir_base::{CacheHint, Disk, Entropy, FaultClass, LeaderEpoch, Offset, OpenMode, Timestamp};
use weir_storage::contract::{batch, batches_of};
use weir_storage::{
    Crash, LogConfig, LogError, PartitionLog, RecoveredTail, RecoveryReport, SimDisk, SimFaults,
    StartKind, Storage, StorageOptions,
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ALL: Offset = Offset(u64::MAX);

fn options() -> StorageOptions {
    StorageOptions {
        wal_file_bytes: 256 * 1024,
        wal_files_max: 3,
        checkpoint_bytes: 1 << 30,
        tail_cache_bytes: 0,
        reserve_bytes: 0,
        ..StorageOptions::default()
    }
}

fn disk() -> SimDisk {
    SimDisk::new(&Entropy::from_seed([3; 32]))
}

async fn open(disk: &SimDisk) -> Storage {
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    Storage::open(env, options()).await.unwrap()
}

async fn open_log(storage: &Storage) -> Result<(Arc<dyn PartitionLog>, RecoveryReport), LogError> {
    storage.open_log(partition(0), LogConfig::default()).await
}

async fn append(log: &dyn PartitionLog, flush: FlushMode) -> Result<(), LogError> {
    log.append_as_leader(LeaderEpoch(1), NOW, vec![batch(3)], flush)
        .await
        .map(drop)
}

async fn durable(log: &dyn PartitionLog) {
    let mut positions = log.positions();
    let done = positions.wait_for(|position| position.durable_end == position.end);
    done.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_fsync_is_final_and_nothing_it_covered_counts() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        let disk = disk();
        let storage = open(&disk).await;
        let (log, _) = open_log(&storage).await.unwrap();
        append(&*log, flush).await.unwrap();
        durable(&*log).await;
        disk.set_faults(SimFaults {
            sync_failure_odds: 1,
            ..SimFaults::default()
        });
        append(&*log, flush).await.unwrap();
        let mut failure = storage.failure();
        failure.wait_for(Option::is_some).await.unwrap();
        // The disk says that all is well again. It is not believed.
        disk.set_faults(SimFaults::default());
        assert_eq!(log.position().durable_end, Offset(3));
        for result in [
            append(&*log, flush).await,
            log.flush().await,
            log.truncate_to(Offset(0)).await,
            log.read(Offset(0), ALL, 100).await.map(drop),
            storage.checkpoint().await,
            storage.shutdown_clean().await,
            open_log(&storage).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.class(), FaultClass::DiskLost, "{error}");
        }
        assert!(storage.health().await.failure.is_some());
        drop((log, storage));
        disk.crash(Crash::PowerLoss);
        let storage = open(&disk).await;
        assert_eq!(storage.start_kind(), StartKind::Unclean);
        let (log, _) = open_log(&storage).await.unwrap();
        // What was never told durable may have survived, or not.
        let end = log.position().end;
        assert!(end == Offset(3) || end == Offset(6), "{end}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_final_too() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    disk.set_faults(SimFaults {
        write_failure_odds: 1,
        ..SimFaults::default()
    });
    let error = append(&*log, FlushMode::Sync).await.unwrap_err();
    assert!(matches!(error, LogError::DiskLost(_)), "{error}");
    assert_eq!(log.position().end, Offset(0));
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_concerns_that_replica_only() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    append(&*log, FlushMode::Sync).await.unwrap();
    disk.set_faults(SimFaults {
        read_failure_odds: 1,
        ..SimFaults::default()
    });
    let error = log.read(Offset(0), ALL, 100).await.unwrap_err();
    assert_eq!(error.class(), FaultClass::Quarantine);
    disk.set_faults(SimFaults::default());
    append(&*log, FlushMode::Sync).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_at_the_tail_needs_no_disk() {
    for (tail_cache_bytes, served) in [(1 << 20, true), (0, false)] {
        let disk = disk();
        let mut env = env(Arc::new(disk.handle(None)), 1);
        env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
        let options = StorageOptions {
            tail_cache_bytes,
            ..options()
        };
        let storage = Storage::open(env, options).await.unwrap();
        let (log, _) = open_log(&storage).await.unwrap();
        append(&*log, FlushMode::Sync).await.unwrap();
        append(&*log, FlushMode::Sync).await.unwrap();
        disk.set_faults(SimFaults {
            read_failure_odds: 1,
            ..SimFaults::default()
        });
        let read = log.read(Offset(3), ALL, 1 << 20).await;
        assert_eq!(read.is_ok_and(|chunk| chunk.end == Offset(6)), served);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_will_read_is_not_held_and_read_all_the_same() {
    let disk = disk();
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    let options = StorageOptions {
        tail_cache_bytes: 1 << 20,
        ..options()
    };
    let storage = Storage::open(env, options).await.unwrap();
    let (log, _) = open_log(&storage).await.unwrap();
    let hints = [CacheHint::Keep, CacheHint::Drop, CacheHint::Keep];
    for (base, hint) in (0..).step_by(3).zip(hints) {
        let batch = batch(3).stamped(Offset(base), LeaderEpoch(1));
        let appended = log.append_as_follower(NOW, vec![batch], FlushMode::Sync, hint);
        appended.await.unwrap();
    }
    for from in 0..9 {
        let chunk = log.read(Offset(from), ALL, 1 << 20).await.unwrap();
        assert_eq!((chunk.base.0, chunk.end.0), (from - from % 3, 9));
    }
    disk.set_faults(SimFaults {
        read_failure_odds: 1,
        ..SimFaults::default()
    });
    for from in 0..9 {
        let read = log.read(Offset(from), ALL, 1 << 20).await;
        assert_eq!(read.is_ok(), from >= 6, "{from}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_keeps_nothing_and_goes_on_when_there_is_room() {
    for flush in [FlushMode::Sync, FlushMode::Async] {
        let disk = disk();
        let storage = open(&disk).await;
        let (log, _) = open_log(&storage).await.unwrap();
        let small = LogConfig {
            segment_bytes: 40_000,
            ..LogConfig::default()
        };
        storage.set_config(partition(0), small);
        disk.set_faults(SimFaults {
            capacity_bytes: Some(disk.used_bytes() + 100_000),
            ..SimFaults::default()
        });
        let mut written = 0;
        let error = loop {
            match append(&*log, flush).await {
                Ok(()) => written += 3,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::DiskFull), "{error}");
        assert!(written > 300, "{written}");
        assert_eq!(log.position().end, Offset(written));
        let chunk = log.read(Offset(0), ALL, 1 << 20).await.unwrap();
        assert!(chunk.bytes > 0, "reads go on");
        let again = append(&*log, flush).await.unwrap_err();
        assert!(matches!(again, LogError::DiskFull), "{again}");
        // Freed space is taken up at once.
        log.set_start(Offset(written)).await.unwrap();
        append(&*log, flush).await.unwrap();
        durable(&*log).await;
        drop((log, storage));
        disk.crash(Crash::PowerLoss);
        let storage = open(&disk).await;
        let (log, _) = open_log(&storage).await.unwrap();
        let position = log.position();
        assert_eq!((position.start.0, position.end.0), (written, written + 3));
    }
}

#[tokio::test(start_paused = true)]
async fn the_reserve_is_for_those_who_free_others() {
    let disk = disk();
    let mut env = env(Arc::new(disk.handle(None)), 1);
    env.disk = Arc::new(disk.handle(Some(env.clock.clone())));
    let options = StorageOptions {
        reserve_bytes: 1 << 20,
        ..options()
    };
    let storage = Storage::open(env, options).await.unwrap();
    disk.set_faults(SimFaults {
        capacity_bytes: Some(disk.used_bytes() + (1 << 20)),
        ..SimFaults::default()
    });
    let (log, _) = open_log(&storage).await.unwrap();
    let refused = append(&*log, FlushMode::Sync).await.unwrap_err();
    assert!(matches!(refused, LogError::DiskFull), "{refused}");
    let config = LogConfig {
        uses_reserve: true,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(1), config).await.unwrap();
    append(&*log, FlushMode::Sync).await.unwrap();
}

/// Bytes of a frame with `batch(3)`.
fn frame_bytes() -> u64 {
    56 + u64::try_from(batch(3).size()).unwrap()
}

fn segment() -> String {
    format!("logs/{}/{:020}.segment", partition(0), 0)
}

/// Writes `checkpointed`, then `flushed`, then `loose` async batches, and crashes. The
/// numbers of batches are of what is below the stored state, what is synced but only
/// later batches say so, and what was never synced.
async fn crashed_log(checkpointed: u64, flushed: u64, loose: u64) -> SimDisk {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    for _ in 0..checkpointed {
        append(&*log, FlushMode::Async).await.unwrap();
    }
    storage.checkpoint().await.unwrap();
    for _ in 0..flushed {
        append(&*log, FlushMode::Async).await.unwrap();
        log.flush().await.unwrap();
    }
    for _ in 0..loose {
        append(&*log, FlushMode::Async).await.unwrap();
    }
    drop((log, storage));
    disk.crash(Crash::Process);
    disk
}

#[derive(Debug, PartialEq, Eq)]
enum Expect {
    /// Opens, ends at this batch, with this tail.
    Ends(u64, RecoveredTail),
    /// Does not open.
    Quarantined,
    /// Opens, and a read of it says corrupt.
    CorruptOnRead,
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_torn_or_corrupt_by_what_was_durable() {
    use Expect::{CorruptOnRead, Ends, Quarantined};
    use RecoveredTail::{Clean, Torn};
    // Batches below the stored state, synced, loose; the batch hit; what follows.
    let table = [
        ((4, 0, 0), None, Ends(4, Clean)),
        ((4, 0, 0), Some(1), CorruptOnRead),
        ((4, 0, 0), Some(3), CorruptOnRead),
        ((2, 3, 0), Some(2), Quarantined),
        ((2, 3, 0), Some(3), Quarantined),
        // The last one synced: nothing says any more that it was.
        ((2, 3, 0), Some(4), Ends(4, Torn)),
        ((2, 2, 1), Some(3), Quarantined),
        ((2, 1, 3), Some(2), Quarantined),
        ((2, 1, 3), Some(3), Ends(3, Torn)),
        ((2, 1, 3), Some(4), Ends(4, Torn)),
        ((2, 1, 3), Some(5), Ends(5, Torn)),
        ((2, 1, 3), None, Ends(6, Clean)),
    ];
    for ((checkpointed, flushed, loose), hit, expected) in table {
        // In the head, in the batch's head, and in the payload.
        for at in [9, 60, 300] {
            let disk = crashed_log(checkpointed, flushed, loose).await;
            if let Some(hit) = hit {
                let offset = 64 + hit * frame_bytes() + at;
                disk.flip_bit(&segment(), offset, 3).unwrap();
            }
            let storage = open(&disk).await;
            let found = match open_log(&storage).await {
                Err(LogError::Corrupt { .. }) => Quarantined,
                Err(other) => panic!("{other}"),
                Ok((log, report)) => match log.read(Offset(0), ALL, 1 << 20).await {
                    Ok(chunk) if chunk.end == report.end => Ends(chunk.end.0 / 3, report.tail),
                    // The good ones before it are served first.
                    Ok(chunk) => read_on(&storage, chunk.end).await,
                    Err(other) => panic!("{other}"),
                },
            };
            let case = ((checkpointed, flushed, loose), hit, at);
            assert_eq!(found, expected, "{case:?}");
        }
    }
}

/// Reads from the bad batch on.
async fn read_on(storage: &Storage, from: Offset) -> Expect {
    let (log, report) = open_log(storage).await.unwrap();
    match log.read(from, ALL, 1 << 20).await {
        Err(LogError::Corrupt { near, .. }) => {
            assert_eq!(near, from);
            Expect::CorruptOnRead
        }
        other => panic!("{other:?} of {report:?}"),
    }
}

/// A disk may put a write where another frame was: it is intact, and a reader that goes on
/// behind it misses all between.
#[tokio::test(start_paused = true)]
async fn a_frame_in_the_place_of_another_is_corrupt_and_nothing_is_passed_over() {
    const BATCHES: u64 = 6;
    // To whose place, and whose frame: the first of the segment, one that the index does not
    // know, forwards and back.
    for (place, frame) in [(0, 3), (1, 3), (1, 5), (3, 1), (5, 4)] {
        for is_closed in [false, true] {
            let disk = disk();
            let mut storage = open(&disk).await;
            let (mut log, _) = open_log(&storage).await.unwrap();
            for _ in 0..BATCHES {
                append(&*log, FlushMode::Sync).await.unwrap();
            }
            durable(&*log).await;
            if is_closed {
                storage.shutdown_clean().await.unwrap();
            }
            let file = disk.handle(None).open(&segment(), OpenMode::Existing);
            let (file, at) = (file.await.unwrap(), |n| 64 + n * frame_bytes());
            let len = usize::try_from(frame_bytes()).unwrap();
            let displaced = file.read_at(at(frame), len).await.unwrap();
            file.write_at(at(place), vec![displaced]).await.unwrap();
            if is_closed {
                storage = open(&disk).await;
                (log, _) = open_log(&storage).await.unwrap();
            }
            for from in 0..BATCHES {
                let read = log.read(Offset(3 * from), ALL, 1 << 20).await;
                let case = format!("{frame} at {place}, read from {from}: {read:?}");
                match read {
                    Ok(chunk) if from < place => {
                        assert_eq!((chunk.base.0, chunk.end.0), (3 * from, 3 * place), "{case}");
                    }
                    Err(LogError::Corrupt { near, .. }) => {
                        assert_eq!((near, from >= place), (Offset(3 * place), true), "{case}");
                    }
                    Ok(_) | Err(_) => panic!("{case}"),
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_write_ahead_log_holds_mends_the_segment() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    for _ in 0..5 {
        append(&*log, FlushMode::Sync).await.unwrap();
    }
    durable(&*log).await;
    drop((log, storage));
    disk.crash(Crash::Process);
    disk.flip_bit(&segment(), 64 + 2 * frame_bytes() + 100, 0)
        .unwrap();
    let storage = open(&disk).await;
    assert_eq!(storage.start_kind(), StartKind::ProcessCrash);
    let (log, report) = open_log(&storage).await.unwrap();
    assert_eq!((report.end, report.batches_replayed), (Offset(15), 1));
    let chunk = log.read(Offset(0), ALL, 1 << 20).await.unwrap();
    assert_eq!(batches_of(&chunk).len(), 5);
}

/// Opens the log of `disk`: how many batches it has, or none if it stays shut.
async fn batches(disk: &SimDisk) -> Option<u64> {
    let storage = open(disk).await;
    match open_log(&storage).await {
        Ok((_, report)) => Some(report.end.0 / 3),
        Err(LogError::Corrupt { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn rot_in_a_stored_state_never_makes_what_it_covers_a_torn_tail() {
    let state = |copy| format!("logs/{}/state.{copy}", partition(0));
    for copy in 0..2 {
        // The state says four batches; it rots in one file, and the last batch too.
        let disk = crashed_log(4, 0, 0).await;
        disk.flip_bit(&state(copy), 20, 1).unwrap();
        disk.flip_bit(&segment(), 64 + 3 * frame_bytes() + 60, 1)
            .unwrap();
        let storage = open(&disk).await;
        let (log, report) = open_log(&storage).await.unwrap();
        assert_eq!(report.end, Offset(12), "copy {copy}");
        let found = read_on(&storage, Offset(9)).await;
        assert_eq!(found, Expect::CorruptOnRead, "copy {copy}");
        drop((log, storage));
        // What was bad is good again: the other may rot next.
        disk.crash(Crash::PowerLoss);
        disk.flip_bit(&state(1 - copy), 20, 1).unwrap();
        assert_eq!(batches(&disk).await, Some(4), "copy {copy}");
    }
}

#[tokio::test(start_paused = true)]
async fn rot_in_a_segment_head_costs_nothing_that_lies_behind_it() {
    // No checkpoint since the log was made: the state calls the segment empty.
    let disk = crashed_log(0, 3, 0).await;
    disk.flip_bit(&segment(), 20, 1).unwrap();
    assert_eq!(batches(&disk).await, Some(3));
    // Nor of the second segment.
    let disk = disk_of_two_segments().await;
    let mut bases = disk.files();
    bases.retain(|path| path.ends_with(".segment"));
    disk.flip_bit(&bases[1], 20, 1).unwrap();
    assert_eq!(batches(&disk).await, Some(4));
    // Below the stored state it is not mended: nothing says what it was.
    let disk = crashed_log(3, 0, 0).await;
    disk.flip_bit(&segment(), 20, 1).unwrap();
    assert_eq!(batches(&disk).await, None);
}

/// Three batches in one segment, and one, synced and last, in the next.
async fn disk_of_two_segments() -> SimDisk {
    let disk = disk();
    let storage = open(&disk).await;
    let small = LogConfig {
        segment_bytes: 3 * frame_bytes() + 100,
        ..LogConfig::default()
    };
    let (log, _) = storage.open_log(partition(0), small).await.unwrap();
    for _ in 0..4 {
        append(&*log, FlushMode::Async).await.unwrap();
        log.flush().await.unwrap();
    }
    drop((log, storage));
    disk.crash(Crash::PowerLoss);
    disk
}

#[tokio::test(start_paused = true)]
async fn rot_beside_the_log_is_mended_or_refused() {
    // One copy of the stored state: the other serves. Both: the log stays shut.
    for (copies, opens) in [(1, true), (2, false)] {
        let disk = crashed_log(4, 2, 0).await;
        for copy in 0..copies {
            let path = format!("logs/{}/state.{copy}", partition(0));
            disk.flip_bit(&path, 20, 1).unwrap();
        }
        let storage = open(&disk).await;
        let opened = open_log(&storage).await;
        assert_eq!(opened.is_ok(), opens, "{copies} copies");
        if opens {
            assert_eq!(opened.unwrap().1.end, Offset(18));
            continue;
        }
        // A shut log can be removed, and made anew.
        storage.remove_log(partition(0)).await.unwrap();
        let (log, report) = open_log(&storage).await.unwrap();
        assert!(report.created);
        append(&*log, FlushMode::Sync).await.unwrap();
    }
    // An index is only a hint.
    let disk = crashed_log(40, 0, 0).await;
    disk.flip_bit(&format!("{}.index", segment()), 30, 1)
        .unwrap();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    let chunk = log.read(Offset(100), Offset(104), 1 << 20).await.unwrap();
    assert_eq!((chunk.base, chunk.end), (Offset(99), Offset(102)));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_the_write_ahead_log_proved_corrupt_stays_shut() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    for _ in 0..5 {
        append(&*log, FlushMode::Sync).await.unwrap();
        durable(&*log).await;
    }
    drop((log, storage));
    disk.crash(Crash::PowerLoss);
    // The segment kept nothing, and a batch in the midst of the write-ahead log rotted.
    let handle = disk.handle(None);
    let file = handle.open(&segment(), OpenMode::Existing).await.unwrap();
    file.truncate(64).await.unwrap();
    file.sync_data().await.unwrap();
    let used = "wal/00000002.wal";
    disk.flip_bit(used, 2 * 4096 + 200, 1).unwrap();
    for crash in [Crash::Process, Crash::PowerLoss, Crash::Process] {
        let storage = open(&disk).await;
        let error = open_log(&storage).await.map(drop).unwrap_err();
        assert!(
            matches!(
                error,
                LogError::Corrupt {
                    near: Offset(3),
                    ..
                }
            ),
            "{error}"
        );
        drop(storage);
        disk.crash(crash);
    }
    // Removed, it may begin anew.
    let storage = open(&disk).await;
    storage.remove_log(partition(0)).await.unwrap();
    assert!(open_log(&storage).await.unwrap().1.created);
}

#[tokio::test(start_paused = true)]
async fn a_read_error_that_passes_costs_a_recovery_time_and_no_data() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    for _ in 0..5 {
        append(&*log, FlushMode::Sync).await.unwrap();
        durable(&*log).await;
    }
    drop((log, storage));
    disk.crash(Crash::Process);
    // Every read of the segment, for a while; then only some.
    for failures in [1, 5, 3] {
        disk.fail_reads(&segment(), failures);
        let storage = open(&disk).await;
        let (log, report) = open_log(&storage).await.unwrap();
        assert_eq!(report.end, Offset(15), "{failures} failures");
        drop((log, storage));
        disk.crash(Crash::Process);
    }
}

#[tokio::test(start_paused = true)]
async fn a_scrub_reads_what_is_closed_and_finds_what_rotted() {
    let disk = disk();
    let storage = open(&disk).await;
    let (log, _) = open_log(&storage).await.unwrap();
    let small = LogConfig {
        segment_bytes: 3_000,
        ..LogConfig::default()
    };
    storage.set_config(partition(0), small);
    for _ in 0..40 {
        append(&*log, FlushMode::Sync).await.unwrap();
    }
    durable(&*log).await;
    let scrub = async || {
        let (mut from, mut paused) = (Offset(0), Duration::ZERO);
        while let Some(step) = storage.scrub(partition(0), from).await? {
            assert!(step.next > from);
            (from, paused) = (step.next, paused + step.pause);
        }
        Ok::<_, LogError>((from, paused))
    };
    let (to, paused) = scrub().await.unwrap();
    assert!(
        to > Offset(100) && to < Offset(120),
        "all but the last segment: {to}"
    );
    // Segment heads are not counted as read.
    let period = options().scrub_period;
    assert!(paused > period / 20 * 18 && paused <= period, "{paused:?}");
    disk.flip_bit(&segment(), 64 + 2 * frame_bytes() + 300, 1)
        .unwrap();
    let error = scrub().await.unwrap_err();
    assert_eq!(error.class(), FaultClass::Quarantine, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_others_write_to_the_directory_counts_as_the_logs_own() {
    let disk = disk();
    let storage = open(&disk).await;
    let env = env(Arc::new(disk.handle(None)), 1);
    let timed = storage.timed_disk();
    let file = timed.open("other", OpenMode::Create).await.unwrap();
    disk.set_faults(SimFaults {
        latency_max: Duration::from_secs(4),
        ..SimFaults::default()
    });
    env.sleep(Duration::from_secs(6)).await;
    assert_eq!(storage.fsync_p99(), None, "nothing was written for a while");
    let moment = Duration::from_millis(1);
    let write = file.write_at(0, vec![vec![1; 100].into()]);
    env.sleep(moment).await;
    assert_eq!(storage.fsync_age(), moment);
    write.await.unwrap();
    assert_eq!(storage.fsync_age(), Duration::ZERO);
    assert_eq!(storage.fsync_p99(), None, "a write is no fsync");
    let sync = file.sync_data();
    env.sleep(moment).await;
    assert_eq!(storage.fsync_age(), moment);
    sync.await.unwrap();
    assert_eq!(storage.fsync_age(), Duration::ZERO);
    assert!(storage.fsync_p99().is_some_and(|p99| p99 > moment));
    // Whoever gives up waits no more.
    let sync = file.sync_data();
    env.sleep(moment).await;
    drop(sync);
    assert_eq!(storage.fsync_age(), Duration::ZERO);
}
