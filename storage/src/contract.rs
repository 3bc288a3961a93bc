//! What every [`PartitionLog`] must do, as checks to run on any of them: the log in
//! memory, the disk log on a real and on a simulated disk. Each check wants an empty log
//! of its own and panics with what is wrong.

use std::sync::Arc;

use weir_base::batch::BatchBuilder;
use weir_base::image::FlushMode;
use weir_base::{
    CacheHint, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RecordBatch, Timestamp,
};

use crate::log::{AppendOutcome, LogError, PartitionLog, ReadChunk, SequenceError};

/// Logs that [`check_all`] wants.
pub const LOGS_WANTED: usize = 11;
const ALL: usize = 64 * 1024 * 1024;
const NOW: Timestamp = Timestamp(1_700_000_000_000);

type Log = Arc<dyn PartitionLog>;

/// Runs every check, each on one of `logs`, which are all empty at offset 0.
pub async fn check_all(logs: Vec<Arc<dyn PartitionLog>>) {
    assert_eq!(logs.len(), LOGS_WANTED, "one log for each check");
    let mut logs = logs.into_iter();
    let mut next = || logs.next().expect("counted above");
    appends_are_numbered_and_read_back(next()).await;
    reads_keep_their_bounds(next()).await;
    duplicates_and_gaps_are_told(next()).await;
    followers_continue_exactly(next()).await;
    cuts_forget(next()).await;
    producers_are_cut_with_the_log(next()).await;
    a_reset_begins_anew(next()).await;
    the_start_only_rises(next()).await;
    epochs_end_where_the_next_begins(next()).await;
    times_are_found(next()).await;
    durability_is_told(next()).await;
}

/// A batch of `records` records with values of 100 bytes.
#[must_use]
pub fn batch(records: usize) -> RecordBatch {
    (0..records)
        .fold(BatchBuilder::new(NOW), |b, _| {
            b.record(None, Some(&[7; 100]))
        })
        .build()
}

/// A batch of an idempotent producer.
#[must_use]
pub fn produced(id: i64, epoch: i16, sequence: i32, records: usize) -> RecordBatch {
    let builder = BatchBuilder::new(NOW).producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    (0..records)
        .fold(builder, |b, _| b.record(Some(b"k"), Some(b"v")))
        .build()
}

async fn lead(log: &Log, epoch: u32, batches: Vec<RecordBatch>) -> Vec<AppendOutcome> {
    log.append_as_leader(LeaderEpoch(epoch), NOW, batches, FlushMode::Sync)
        .await
        .expect("append")
}

async fn read(log: &Log, from: u64, below: u64) -> ReadChunk {
    log.read(Offset(from), Offset(below), ALL)
        .await
        .expect("read")
}

/// The batches in `chunk`.
///
/// # Panics
/// If they do not parse.
#[must_use]
pub fn batches_of(chunk: &ReadChunk) -> Vec<RecordBatch> {
    RecordBatch::parse_all(chunk.chunks.concat().into()).expect("whole batches")
}

fn range(outcome: &AppendOutcome) -> (u64, u64) {
    match outcome {
        AppendOutcome::Appended { base, end, .. } => (base.0, end.0),
        AppendOutcome::Duplicate { .. } | AppendOutcome::Refused(_) => {
            panic!("not appended: {outcome:?}")
        }
    }
}

fn is_out_of_range<T: std::fmt::Debug>(result: Result<T, LogError>) -> bool {
    matches!(result, Err(LogError::OutOfRange { .. }))
}

async fn appends_are_numbered_and_read_back(log: Log) {
    let outcomes = lead(&log, 3, vec![batch(2), batch(1)]).await;
    assert_eq!((range(&outcomes[0]), range(&outcomes[1])), ((0, 2), (2, 3)));
    let position = log.position();
    assert_eq!(
        (position.end, position.last_epoch),
        (Offset(3), LeaderEpoch(3))
    );
    let chunk = read(&log, 0, 3).await;
    assert_eq!((chunk.base, chunk.end), (Offset(0), Offset(3)));
    assert_eq!(chunk.bytes, chunk.chunks.concat().len());
    let back = batches_of(&chunk);
    assert_eq!(back.len(), 2);
    for (batch, outcome) in back.iter().zip(&outcomes) {
        batch.verify().expect("intact");
        assert_eq!(
            (batch.base_offset().0, batch.end_offset().0),
            range(outcome)
        );
        assert_eq!(batch.leader_epoch(), LeaderEpoch(3));
    }
    assert!(log.size_bytes() >= chunk.bytes as u64);
}

async fn reads_keep_their_bounds(log: Log) {
    lead(&log, 1, vec![batch(2), batch(2), batch(2)]).await;
    let chunk = read(&log, 3, 6).await;
    assert_eq!(
        (chunk.base, chunk.end),
        (Offset(2), Offset(6)),
        "whole batches"
    );
    assert_eq!(read(&log, 0, 5).await.end, Offset(4), "below the bound");
    let nothing = read(&log, 4, 5).await;
    assert_eq!((nothing.end, nothing.bytes), (Offset(4), 0));
    let nothing = read(&log, 6, 99).await;
    assert_eq!((nothing.end, nothing.bytes), (Offset(6), 0));
    let one = log.read(Offset(0), Offset(6), 1).await.expect("read");
    assert_eq!(one.end, Offset(2), "at least one batch");
    let two = log
        .read(Offset(0), Offset(6), 2 * batch(2).size())
        .await
        .expect("read");
    assert_eq!(two.end, Offset(4));
    assert!(is_out_of_range(log.read(Offset(7), Offset(9), ALL).await));
}

async fn duplicates_and_gaps_are_told(log: Log) {
    lead(&log, 1, vec![batch(1), produced(5, 0, 0, 2)]).await;
    let outcomes = lead(
        &log,
        1,
        vec![
            produced(5, 0, 0, 2),
            produced(5, 0, 3, 1),
            produced(5, 0, 2, 1),
            produced(6, 0, 9, 1),
            batch(1),
        ],
    )
    .await;
    let duplicate = AppendOutcome::Duplicate {
        base: Offset(1),
        end: Offset(3),
    };
    assert_eq!(outcomes[0], duplicate);
    let gap = SequenceError::OutOfOrder {
        sequence: 3,
        expected: 2,
    };
    assert_eq!(outcomes[1], AppendOutcome::Refused(gap));
    assert_eq!(range(&outcomes[2]), (3, 4));
    let unknown = SequenceError::UnknownProducer {
        producer: ProducerId(6),
    };
    assert_eq!(outcomes[3], AppendOutcome::Refused(unknown));
    assert_eq!(range(&outcomes[4]), (4, 5), "others go on");
    lead(&log, 1, vec![produced(5, 1, 0, 1)]).await;
    let fenced = SequenceError::Fenced {
        epoch: ProducerEpoch(0),
        current: ProducerEpoch(1),
    };
    let outcomes = lead(&log, 1, vec![produced(5, 0, 3, 1)]).await;
    assert_eq!(outcomes[0], AppendOutcome::Refused(fenced));
    let known = log.producers();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].epoch, known[0].last_sequence),
        (ProducerEpoch(1), 0)
    );
}

async fn follow(log: &Log, batches: Vec<RecordBatch>) -> Result<(), LogError> {
    log.append_as_follower(NOW, batches, FlushMode::Sync, CacheHint::Keep)
        .await
}

async fn followers_continue_exactly(log: Log) {
    let at = |base, epoch| batch(2).stamped(Offset(base), LeaderEpoch(epoch));
    follow(&log, vec![at(0, 2), at(2, 3)])
        .await
        .expect("append");
    for bad in [at(3, 3), at(5, 3), at(4, 2)] {
        let error = follow(&log, vec![at(4, 3), bad]).await.expect_err("gap");
        let told = matches!(error, LogError::Discontinuous { .. });
        assert!(told, "{error}");
    }
    assert_eq!(
        log.position().end,
        Offset(4),
        "nothing of a bad append is kept"
    );
    let mut bytes = at(4, 3).to_bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let rotten = RecordBatch::parse(&bytes.into()).expect("header is intact");
    let error = follow(&log, vec![rotten]).await.expect_err("checksum");
    assert!(matches!(error, LogError::Malformed(_)), "{error}");
    follow(&log, vec![at(4, 7)]).await.expect("append");
    assert_eq!(log.position().last_epoch, LeaderEpoch(7));
}

async fn cuts_forget(log: Log) {
    lead(&log, 1, vec![batch(2), batch(2)]).await;
    lead(&log, 2, vec![batch(2)]).await;
    assert!(is_out_of_range(log.truncate_to(Offset(7)).await));
    log.truncate_to(Offset(6)).await.expect("nothing to cut");
    log.truncate_to(Offset(3)).await.expect("cut");
    let position = log.position();
    assert_eq!((position.end, position.durable_end), (Offset(2), Offset(2)));
    assert_eq!(position.last_epoch, LeaderEpoch(1));
    assert_eq!(read(&log, 0, 9).await.end, Offset(2));
    assert!(is_out_of_range(log.read(Offset(3), Offset(9), ALL).await));
    lead(&log, 5, vec![batch(3)]).await;
    let back = batches_of(&read(&log, 0, 9).await);
    assert_eq!(back[1].leader_epoch(), LeaderEpoch(5));
    assert_eq!(back[1].end_offset(), Offset(5));
    log.truncate_to(Offset(0)).await.expect("cut");
    assert_eq!(log.position().last_epoch, LeaderEpoch(0));
    assert_eq!(range(&lead(&log, 6, vec![batch(1)]).await[0]), (0, 1));
}

async fn producers_are_cut_with_the_log(log: Log) {
    lead(&log, 1, vec![produced(5, 0, 0, 1), produced(5, 0, 1, 1)]).await;
    lead(&log, 1, vec![produced(9, 4, 0, 1)]).await;
    log.truncate_to(Offset(1)).await.expect("cut");
    let known = log.producers();
    assert_eq!(known.len(), 1, "{known:?}");
    assert_eq!(known[0].last_sequence, 0);
    let outcomes = lead(&log, 2, vec![produced(5, 0, 1, 1), produced(5, 0, 0, 1)]).await;
    assert_eq!(range(&outcomes[0]), (1, 2));
    let original = AppendOutcome::Duplicate {
        base: Offset(0),
        end: Offset(1),
    };
    assert_eq!(outcomes[1], original);
}

async fn a_reset_begins_anew(log: Log) {
    lead(&log, 4, vec![produced(5, 0, 0, 2), batch(5)]).await;
    log.reset_to(Offset(100)).await.expect("reset");
    let position = log.position();
    assert_eq!((position.start, position.end), (Offset(100), Offset(100)));
    assert_eq!(position.durable_end, Offset(100));
    assert_eq!(position.last_epoch, LeaderEpoch(0));
    assert_eq!(
        (log.producers(), log.newest_timestamp()),
        (Vec::new(), None)
    );
    assert!(log.end_of_epoch(LeaderEpoch(9)).is_none());
    follow(&log, vec![batch(2).stamped(Offset(100), LeaderEpoch(2))])
        .await
        .expect("append");
    assert_eq!(read(&log, 100, 200).await.end, Offset(102));
    log.reset_to(Offset(0)).await.expect("reset");
    assert_eq!(range(&lead(&log, 1, vec![batch(1)]).await[0]), (0, 1));
}

async fn the_start_only_rises(log: Log) {
    lead(&log, 1, vec![batch(2), batch(2), batch(2)]).await;
    log.set_start(Offset(3)).await.expect("raise");
    log.set_start(Offset(1)).await.expect("no change");
    assert_eq!(log.position().start, Offset(3));
    assert!(is_out_of_range(log.read(Offset(2), Offset(9), ALL).await));
    assert_eq!(read(&log, 3, 9).await.base, Offset(2));
    assert!(is_out_of_range(log.set_start(Offset(7)).await));
    assert!(is_out_of_range(log.truncate_to(Offset(2)).await));
    log.truncate_to(Offset(3)).await.expect("cut");
    let position = log.position();
    assert_eq!((position.start, position.end), (Offset(3), Offset(3)));
    assert_eq!(range(&lead(&log, 2, vec![batch(2)]).await[0]), (3, 5));
    log.set_start(Offset(5)).await.expect("raise to the end");
    assert_eq!(log.position().start, Offset(5));
    assert_eq!(log.position().last_epoch, LeaderEpoch(2));
    assert_eq!(range(&lead(&log, 2, vec![batch(1)]).await[0]), (5, 6));
    assert_eq!(read(&log, 5, 9).await.end, Offset(6));
}

async fn epochs_end_where_the_next_begins(log: Log) {
    let end_of = |epoch| {
        log.end_of_epoch(LeaderEpoch(epoch))
            .map(|found| (found.epoch.0, found.end.0))
    };
    assert_eq!(end_of(9), None);
    for epoch in [2, 2, 5] {
        lead(&log, epoch, vec![batch(2)]).await;
    }
    assert_eq!(end_of(1), None);
    assert_eq!(end_of(2), Some((2, 4)));
    assert_eq!(end_of(4), Some((2, 4)));
    assert_eq!(end_of(8), Some((5, 6)));
}

async fn times_are_found(log: Log) {
    for (at, records) in [(1_000, 2), (3_000, 1), (2_000, 3)] {
        let builder = BatchBuilder::new(Timestamp(at));
        let batch = (0..records).fold(builder, |b, _| b.record(None, Some(b"v")));
        lead(&log, 1, vec![batch.build()]).await;
    }
    let find = async |at, below| {
        log.offset_at_time(Timestamp(at), Offset(below))
            .await
            .expect("lookup")
            .map(|(offset, time)| (offset.0, time.0))
    };
    assert_eq!(find(0, 6).await, Some((0, 1_000)));
    assert_eq!(find(1_001, 6).await, Some((2, 3_000)));
    assert_eq!(find(1_001, 2).await, None, "below the bound");
    assert_eq!(find(3_001, 6).await, None);
    assert_eq!(log.newest_timestamp(), Some((Offset(2), Timestamp(3_000))));
    log.set_start(Offset(1)).await.expect("raise");
    assert_eq!(find(0, 6).await, Some((1, 1_000)));
}

async fn durability_is_told(log: Log) {
    let mut positions = log.positions();
    positions.borrow_and_update();
    for flush in [FlushMode::Sync, FlushMode::Async, FlushMode::Sync] {
        log.append_as_leader(LeaderEpoch(1), NOW, vec![batch(2)], flush)
            .await
            .expect("append");
        let end = log.position().end;
        if flush == FlushMode::Async {
            log.flush().await.expect("flush");
            assert_eq!(log.position().durable_end, end, "a barrier");
        }
        // Nobody asks for a flush here: the log says by itself when it is durable.
        let durable = positions.wait_for(|position| position.durable_end >= end);
        assert_eq!(durable.await.expect("the log is there").end, end);
    }
}
